"""`geosearch evaluate nadir`: photographs → the tiles that show the same ground, with and without their nadirs."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import WRONG_USAGE, JsonOption, counted, emit, fail, note, progress

if TYPE_CHECKING:
    from rich.progress import Progress

    from geosearch.evaluation.nadir_report import Measured
    from geosearch.evaluation.nadir_vectors import VectorSource


class RotationName(StrEnum):
    """How tiles turned by 0, 90, 180 and 270 degrees are ranked."""

    none = "none"
    shared = "shared"
    used = "used"


def nadir(
    photos: Annotated[str, typer.Option("--photos", help="The archive of photographs that ask.", metavar="ARCHIVE")],
    tiles: Annotated[
        list[str],
        typer.Option("--tiles", help="An archive of what is ranked, whole; may be repeated.", metavar="ARCHIVE"),
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="Encode the archives' files with it; mini-nadir by default.")
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Take the vectors of a space that holds both.", metavar="NAME")
    ] = None,
    answers: Annotated[
        list[Path] | None,
        typer.Option(
            "--answers",
            help="Judge ranked answers in a file: CSV with the columns query, rank, image (names), or JSON lines. "
            "May be repeated.",
            metavar="FILE",
        ),
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(
            "--way",
            help="image, filter, prior, concat, concat+filter, concat+prior, unknown; may be repeated. "
            "All that are possible by default.",
            metavar="WAY",
        ),
    ] = None,
    rotations: Annotated[
        RotationName,
        typer.Option(
            "--rotations",
            help="Turn each tile by 0, 90, 180 and 270 degrees; shared: a tile has the rank of its best turn; "
            "used: each turn uses up an answer, as in the published evaluation.",
        ),
    ] = RotationName.none,
    radius_km: Annotated[float, typer.Option("--radius-km", min=0, help="Of the filter, round the nadir.")] = 2500.0,
    prior: Annotated[
        Path | None, typer.Option("--prior", help="A distance prior that --save-prior wrote.", metavar="FILE")
    ] = None,
    fit_prior: Annotated[
        str | None,
        typer.Option("--fit-prior", help="Fit the distance prior on these other photographs.", metavar="ARCHIVE"),
    ] = None,
    save_prior: Annotated[
        Path | None, typer.Option("--save-prior", help="Write the prior of --fit-prior.", metavar="FILE")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=100, help="Bootstrap draws of the intervals.")] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws.")] = 1,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Where vectors of --model are kept, so that an interrupted run goes on; "
            "a folder of geosearch's data folder by default.",
            metavar="FOLDER",
        ),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 …; the best by default.")] = None,
    write_answers: Annotated[
        Path | None,
        typer.Option(
            "--write-answers", help="Write the 100 best tiles of each photograph, a file a way.", metavar="FOLDER"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write all figures to a CSV file.", metavar="FILE.csv")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure how often photographs find the tiles that they overlap: Recall@1, 5, 10, 20 and 100, in percent.

    All images of --tiles are ranked; right are those whose footprint shares an area with the photograph's. Photographs
    that overlap none are left out, and counted. Over all photographs, over those whose nadir lies within 2 500 km of
    six places, and apart for held-out ground. Intervals are drawn over 10° cells; `lead` is R@1 above the way "image".
    """
    from geosearch.database.connection import connect
    from geosearch.evaluation import nadir_answers, nadir_fit, nadir_run
    from geosearch.evaluation.composed_files import check_folder

    _check(model, space, answers, way, rotations, prior, fit_prior, save_prior, write_answers)
    for path in (out, save_prior):
        if path is not None:
            check_folder(path)
    # Each question by itself: no transaction stays open while files are encoded.
    with connect(autocommit=True) as conn, progress() as bar:
        step = _step(bar)
        if answers:
            measured = nadir_run.by_answers(conn, photos, tiles, answers, step)
        else:
            source = _source(conn, model, space, cache, device, bar)
            priors = nadir_fit.read_priors(prior, photos) if prior else {}
            if fit_prior:
                priors = nadir_run.fit(conn, photos, tiles, source, fit_prior, save_prior, step)
            measured = nadir_run.by_vectors(
                conn, photos, tiles, source, way or (), rotations=rotations.value, priors=priors,
                radius_m=radius_km * 1000, progress=step,
            )  # fmt: skip
            if write_answers:
                nadir_answers.write(write_answers, measured)
    table = nadir_run.rows(measured, draws, seed)
    if out is not None:
        nadir_run.write_csv(out, table)
    if json:
        emit({**measured.facts, "rows": table}, json)
        return
    _say(measured)
    emit(nadir_run.printed(table))


def _say(measured: Measured) -> None:
    note("; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in measured.facts.items()))


def _source(
    conn: Any, model: str | None, space: str | None, cache: Path | None, device: str | None, bar: Progress
) -> VectorSource:
    """Return where the vectors come from."""
    from geosearch.encoders.registry import load
    from geosearch.evaluation.nadir_vectors import FromModel, FromSpace
    from geosearch.settings import settings

    if space is not None:
        return FromSpace(conn, space, device)
    kept = cache or settings().home / "evaluation"
    return FromModel(load(model or "mini-nadir", device), kept, counted(bar, "images encoded"))


def _step(bar: Progress) -> Callable[[str], Callable[[int, int], None]]:
    return lambda title: counted(bar, title)


def _check(
    model: str | None,
    space: str | None,
    answers: list[Path] | None,
    way: list[str] | None,
    rotations: RotationName,
    prior: Path | None,
    fit_prior: str | None,
    save_prior: Path | None,
    write_answers: Path | None,
) -> None:
    """End with wrong usage where options contradict each other."""
    from geosearch.evaluation.nadir_ways import WAYS

    if sum(given is not None for given in (model, space, answers or None)) > 1:
        raise fail("give one of --model, --space and --answers", WRONG_USAGE)
    unknown = [name for name in way or () if name not in WAYS]
    if unknown:
        raise fail(f"there is no way {unknown[0]!r}; there are: {', '.join(WAYS)}", WRONG_USAGE)
    if prior is not None and fit_prior is not None:
        raise fail("give --prior, which was fitted before, or --fit-prior", WRONG_USAGE)
    if save_prior is not None and fit_prior is None:
        raise fail("--save-prior writes what --fit-prior fits: give that too", WRONG_USAGE)
    if answers and (way or prior or fit_prior or write_answers or rotations is not RotationName.none):
        raise fail("--answers judges files as they are: no --way, --rotations, priors or --write-answers", WRONG_USAGE)
    if space is not None and rotations is not RotationName.none:
        raise fail("a space holds no turned pictures: give --model with --rotations", WRONG_USAGE)
