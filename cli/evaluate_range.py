"""`geosearch evaluate range`: what location encoders and banks know of places, measured as RANGE's paper does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import DONE_WITH_REJECTS, WRONG_USAGE, JsonOption, emit, fail, note, progress

if TYPE_CHECKING:
    from geosearch.evaluation.probe_table import Table
    from geosearch.range.bank import Bank

app = typer.Typer(no_args_is_help=True, help="Measure embeddings of places: probes, checkerboards, priors, banks.")


class SplitName(StrEnum):
    """How rows are parted into those that are fitted and those that are judged."""

    random = "random"
    blocked = "blocked"
    both = "both"


TableOption = Annotated[Path, typer.Option("--table", help="CSV or Parquet, a place a row.", metavar="FILE")]
LatOption = Annotated[str, typer.Option("--lat", help="Its column of latitudes, in degrees.", metavar="COLUMN")]
LonOption = Annotated[str, typer.Option("--lon", help="Its column of longitudes, in degrees.", metavar="COLUMN")]
TargetOption = Annotated[str, typer.Option("--target", help="Its column of what is to be told.", metavar="COLUMN")]
ClassesOption = Annotated[bool, typer.Option("--classes", help="The target holds classes, not numbers.")]
Log1pOption = Annotated[bool, typer.Option("--log1p", help="Probe log(1 + target), as for population.")]
SplitOption = Annotated[
    SplitName, typer.Option("--split", help="random: the published one. blocked: by 10° cells. Or both.")
]
FoldOption = Annotated[int, typer.Option("--fold", help="Which fifth of the cells the blocked split judges by.")]
EncoderOption = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="A location encoder's name; may be repeated.", metavar="NAME"),
]
BankOption = Annotated[str | None, typer.Option("--bank", help="A bank of the database.", metavar="NAME")]
NpzOption = Annotated[
    Path | None, typer.Option("--npz", help="A bank in a file of the published layout.", metavar="FILE")
]
PlacesOption = Annotated[
    int | None, typer.Option("--bank-places", min=100, help="Make a bank of N Blue Marble places, in memory.")
]
AskOption = Annotated[str, typer.Option("--ask", help="The location encoder that asks --npz and --bank-places.")]
ModeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mode",
        help="How banks are asked: range, range+ or haver, or these cut, as range:topk, range:top1, range:mean.",
    ),
]


@app.callback()
def evaluate_range() -> None:
    """Measure embeddings of places: probes, checkerboards, priors, banks."""


@app.command("probe")
def probe_command(
    table: TableOption,
    lat: LatOption,
    lon: LonOption,
    target: TargetOption,
    encoder: EncoderOption = None,
    bank: BankOption = None,
    npz: NpzOption = None,
    bank_places: PlacesOption = None,
    ask: AskOption = "mini-location",
    mode: ModeOption = None,
    split: SplitOption = SplitName.both,
    fold: FoldOption = 0,
    log1p: Log1pOption = False,
    classes: ClassesOption = False,
    json: JsonOption = False,
) -> None:
    """Tell a quantity from embeddings of places with a linear probe: R², or accuracy of classes.

    Without --encoder and a bank: all location encoders that need no download. The first row is the value of the nearest
    training place, which knows no embedding.
    """
    from geosearch.evaluation import ways
    from geosearch.evaluation.probe_table import read_table

    _check_bank(bank, npz, bank_places, mode)
    rows = read_table(table, lat, lon, target, classes, log1p)
    found = _bank(bank, npz, bank_places, ask)
    every = [ways.encoder_way(name) for name in encoder or ([] if found else ways.ENCODERS)]
    every += ways.bank_ways(found, mode or ways.MODES) if found else []
    _measure(rows, every, len(every), split, fold, json)


@app.command("bank")
def bank_command(
    table: TableOption,
    lat: LatOption,
    lon: LonOption,
    target: TargetOption,
    bank: BankOption = None,
    npz: NpzOption = None,
    bank_places: PlacesOption = None,
    ask: AskOption = "mini-location",
    encoder: EncoderOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Places that top k and the mean of the top k take.")] = 100,
    split: SplitOption = SplitName.both,
    fold: FoldOption = 0,
    log1p: Log1pOption = False,
    classes: ClassesOption = False,
    json: JsonOption = False,
) -> None:
    """Make the whole table of RANGE: encoders, every way to ask the bank, and 10, 25, 50, 75 and 100 % of it."""
    from geosearch.evaluation import ways
    from geosearch.evaluation.probe_table import read_table
    from geosearch.evaluation.range_report import FRACTIONS, bank_table

    _check_bank(bank, npz, bank_places, required=True)
    rows = read_table(table, lat, lon, target, classes, log1p)
    found = _bank(bank, npz, bank_places, ask)
    assert found is not None
    names = encoder or ways.ENCODERS
    count = len(names) + len(ways.MODES) * len(FRACTIONS) + len(ways.ABLATIONS)
    _measure(rows, bank_table(found, names, k), count, split, fold, json)


@app.command()
def checkerboard(
    bank: BankOption = None,
    npz: NpzOption = None,
    bank_places: PlacesOption = None,
    ask: AskOption = "mini-location",
    encoder: EncoderOption = None,
    places: Annotated[
        list[int] | None,
        typer.Option("--places", min=2, help="Cells of a board; may be repeated. 100, 200, 500, 1000 and 2000."),
    ] = None,
    beta: Annotated[
        list[float] | None, typer.Option("--beta", help="Shares of the semantic softmax: 0, 0.25, 0.5, 0.75 and 1.")
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=200, help="Places that are fitted, and as many that are judged.")
    ] = 10_000,
    json: JsonOption = False,
) -> None:
    """Tell the cells of checkerboards on the sphere, from coarse to fine, by embeddings of places, over β of a bank."""
    from geosearch.evaluation import ways
    from geosearch.evaluation.checkerboard import SCALES, board
    from geosearch.evaluation.range_report import measure_boards

    _check_bank(bank, npz, bank_places, required=not encoder)
    found = _bank(bank, npz, bank_places, ask)
    every = [ways.encoder_way(name) for name in encoder or ()]
    every += ways.beta_ways(found, beta or ways.BETAS) if found else []
    scales = places or SCALES
    rows = list(_watched(measure_boards((board(n, samples) for n in scales), every), len(scales), "boards"))
    emit({"samples": samples, "rows": rows} if json else _printed(rows), json)


@app.command()
def prior(
    model: Annotated[
        str, typer.Option("--model", help="What the photographs are told by: a model that reads images.")
    ] = "features:mini-clip",
    encoder: EncoderOption = None,
    bank: BankOption = None,
    npz: NpzOption = None,
    bank_places: PlacesOption = None,
    ask: AskOption = "mini-location",
    mode: ModeOption = None,
    train: Annotated[int, typer.Option("--train", min=200, help="Photographs that are fitted.")] = 6000,
    test: Annotated[int, typer.Option("--test", min=50, help="Photographs that are judged, of each ground.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the photographs.")] = 3,
    json: JsonOption = False,
) -> None:
    """Tell simulated photographs by image, by place, and by the product P(image) · P(place): top-1 accuracy in percent.

    A class is a surface on a continent, such as "desert africa". Without --encoder and a bank: by mini-location.
    """
    from geosearch.encoders.registry import load
    from geosearch.evaluation import ways
    from geosearch.evaluation.prior_photos import measure

    _check_bank(bank, npz, bank_places, mode)
    found = _bank(bank, npz, bank_places, ask)
    every = [ways.encoder_way(name) for name in encoder or ([] if found else ["mini-location"])]
    every += ways.bank_ways(found, mode or ways.MODES) if found else []
    report = measure(load(model), every, train, test, seed)
    if json:
        emit({"model": model, **report}, json)
        return
    note(
        f"{len(report['classes'])} classes; photographs fitted, judged on seen and on held-out ground: "
        + ", ".join(map(str, report["photographs"]))
        + f"; always the most frequent class: {report['most frequent class']}"
    )
    emit(report["rows"])


def _measure(table: Table, every: Iterable[Any], count: int, split: SplitName, fold: int, json: bool) -> None:
    """Print what the table is and a row for each way."""
    from geosearch.evaluation.range_report import facts, measure, splits_of

    splits = splits_of(table, split.value, fold)
    for remark in table.remarks():
        note(remark)
    rows = list(_watched(measure(table, every, splits), count + 1, "embeddings"))
    about = facts(table, splits)
    if json:
        emit({**about, "left out rows": table.left_out, "rows": rows}, json)
    else:
        note("; ".join(f"{name}: {value}" for name, value in about.items()))
        emit(_printed(rows))
    if table.left_out:
        raise typer.Exit(DONE_WITH_REJECTS)


def _printed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose figures all have three places."""
    return [{name: f"{v:.3f}" if isinstance(v, float) else v for name, v in row.items()} for row in rows]


def _watched(rows: Iterable[Any], count: int, title: str) -> Iterator[Any]:
    """Pass rows on under a progress bar."""
    with progress() as bar:
        task = bar.add_task(title, total=count)
        for row in rows:
            bar.advance(task)
            yield row


def _check_bank(
    name: str | None, npz: Path | None, places: int | None, mode: list[str] | None = None, required: bool = False
) -> None:
    """End with wrong usage where the options mean no bank, or several."""
    given = [option for option in (name, npz, places) if option is not None]
    if len(given) > 1 or (required and not given):
        raise fail("give one of --bank, --npz and --bank-places", WRONG_USAGE)
    if mode and not given:
        raise fail("--mode is how a bank is asked: give --bank, --npz or --bank-places too", WRONG_USAGE)


def _bank(name: str | None, npz: Path | None, places: int | None, ask: str) -> Bank | None:
    """Return the bank that the options mean, or None."""
    from geosearch.evaluation import banks

    if name is not None:
        return banks.stored(name)
    if npz is not None:
        from geosearch.range.npz import read_npz

        return read_npz(npz, ask)
    if places is None:
        return None
    with progress() as bar:
        task = bar.add_task("bank of Blue Marble", total=None)
        return banks.blue_marble(places, ask, lambda done, total: bar.update(task, completed=done, total=total))
