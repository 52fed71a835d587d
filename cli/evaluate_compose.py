"""`geosearch evaluate compose`: WeiCom and its baselines over labelled pictures, measured as in PatternCom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import WRONG_USAGE, JsonOption, counted, emit, fail, note, progress

if TYPE_CHECKING:
    from geosearch.evaluation.composed import Report

ModelOption = Annotated[str, typer.Option("--model", help="A model that reads images and texts.")]
LambdasOption = Annotated[
    str, typer.Option("--lambdas", help="Weights of the text, with commas between; 0, 0.1 … 1 by default.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write all figures to a CSV file.", metavar="FILE.csv")]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Draw mAP over λ; needs the extra `evaluation`.", metavar="FILE.png")
]


def compose(
    images: Annotated[
        Path, typer.Option("--images", help="The folder of all pictures; every one is ranked.", metavar="FOLDER")
    ],
    csv: Annotated[
        list[Path] | None,
        typer.Option(
            "--csv",
            help="A table of labels or a folder of tables: PatternCom's, or with the columns path, class, attribute, "
            "value. May be repeated. Without it, pictures lie in CLASS/ATTRIBUTE/VALUE/.",
            metavar="PATH",
        ),
    ] = None,
    model: ModelOption = "mini-clip",
    lambdas: LambdasOption = "",
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", help="Measure only this one; may be repeated. All by default.", metavar="NAME"),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Where vectors are kept while they are made, so that an interrupted run goes on; "
            "a folder of geosearch's data folder by default.",
            metavar="FOLDER",
        ),
    ] = None,
    out: OutOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Measure composed retrieval on labelled pictures: PatternCom, or any folder of one's own.

    A question is a labelled picture and another value that pictures of its class have, such as "rectangular". All
    pictures are ranked, the question's own among them; relevant are those of its class with that value. Prints mAP in
    percent of text, image, the mean of both, and WeiCom at each λ, for every attribute and their average.
    """
    from geosearch.evaluation.composed import evaluate
    from geosearch.evaluation.patterncom import read_labels
    from geosearch.evaluation.picture_vectors import encode_pictures, encode_texts
    from geosearch.settings import settings

    weights = lambdas_of(lambdas)
    check_files(out, plot)
    labels = read_labels(images, csv or ())
    wanted = attribute or list(labels.values)
    labels.check(wanted)
    account = labels.account()
    for line in labels.remarks():
        note(line)
    from geosearch.encoders.registry import load

    encoder = load(model)
    texts = encode_texts(encoder, labels.texts(wanted))
    with progress() as bar:
        kept = cache or settings().home / "evaluation"
        vectors = encode_pictures(encoder, images, labels.names, kept, counted(bar, "pictures"))
        report = evaluate(labels.labelled(vectors), texts, weights, wanted, progress=counted(bar, "questions"))
    show(report, {"model": model, **account}, out, plot, json)


def lambdas_of(text: str) -> tuple[float, ...]:
    """Return the numbers of `--lambdas`; ends with wrong usage where they are none."""
    from geosearch.errors import InputError
    from geosearch.evaluation.composed import LAMBDAS, ways

    if not text:
        return LAMBDAS
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise fail(f"--lambdas takes numbers with commas between, as 0,0.5,1, not {text!r}", WRONG_USAGE) from None
    try:
        ways(numbers)
    except InputError as error:
        raise fail(str(error), WRONG_USAGE) from error
    return numbers


def check_files(out: Path | None, plot: Path | None) -> None:
    """Raise InputError where the files could not be written: before the work, not after it."""
    from geosearch.evaluation.composed_files import check_folder
    from geosearch.evaluation.composed_plot import check_plot

    for path in (out, plot):
        if path is not None:
            check_folder(path)
    if plot is not None:
        check_plot(plot)


def show(report: Report, facts: dict[str, Any], out: Path | None, plot: Path | None, json: bool) -> None:
    """Print a report, and write its files. facts: what it is about, by name; in JSON as they are."""
    from geosearch.evaluation.composed_files import write_csv
    from geosearch.evaluation.composed_plot import plot as draw

    if out is not None:
        write_csv(report, out)
    if plot is not None:
        draw(report, plot, f"Composed retrieval, {facts['model']}, {report.images} images")
    best = report.best()
    if json:
        emit({**facts, "best lambda": best.lam, "mAP": report.table(), "rows": report.rows()}, json)
        return
    emit(_places(report.table()))
    print()
    emit(_places(report.at_k()))
    note(
        f"mAP, and precision and recall at k of the average, in percent; the best λ of these questions is {best.lam:g}"
    )


def _places(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: f"{v:.2f}" if isinstance(v, float) else v for name, v in row.items()} for row in rows]
