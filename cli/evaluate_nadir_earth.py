"""`geosearch evaluate nadir-earth`: nadir-aware retrieval of simulated photographs on real geography."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import JsonOption, counted, emit, note, progress


def nadir_earth(
    model: Annotated[str, typer.Option("--model", help="A model that reads pictures and nadirs.")] = "mini-nadir",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            help="Where tiles, photographs and vectors are kept; in geosearch's data folder by default.",
            metavar="FOLDER",
        ),
    ] = None,
    tiles: Annotated[int, typer.Option("--tiles", min=40, help="About how many tiles, 300 km wide.")] = 24_000,
    photographs: Annotated[int, typer.Option("--photographs", min=40, help="Photographs by each law.")] = 3_000,
    fit: Annotated[int, typer.Option("--fit", min=40, help="Others by each law, to fit priors to.")] = 800,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the photographs.")] = 61,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline", help='A model that knows no nadirs, or "colours"; may be repeated.', metavar="MODEL"
        ),
    ] = None,
    rotations: Annotated[bool, typer.Option("--rotations", help="Measure tiles turned four ways, too.")] = False,
    real: Annotated[
        Path | None,
        typer.Option(
            "--real",
            help="Real photographs: a CSV of name, nadir_lat, nadir_lon, centre_lat, centre_lon; NAME.jpg beside.",
            metavar="FILE.csv",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write all figures as JSON.", metavar="FILE.json")] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            "--document", help="Fill in the tables between the markers of a Markdown file.", metavar="FILE.md"
        ),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="Draw the figures there; needs the extra `evaluation`.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure a nadir-aware model on Blue Marble: simulated photographs from the station's orbit → tiles.

    Makes the benchmark first, in the database and a folder; run again, it goes on where it was. Photographs look as far
    off their nadirs as astronauts do ("photographs"), and at any distance up to the horizon alike ("horizon").
    """
    from geosearch.database.connection import connect
    from geosearch.evaluation import nadir_earth_files
    from geosearch.evaluation.nadir_earth import Size
    from geosearch.evaluation.nadir_earth_run import Choice, run
    from geosearch.settings import settings

    files = nadir_earth_files.Files(out, document, figures)
    files.check({name for name, asked in (("rotations", rotations), ("real", real is not None)) if not asked})
    size, choice = Size(tiles, photographs, fit, seed), Choice(tuple(baseline or ()), rotations, real)
    into = folder or settings().home / "evaluation" / "nadir-earth"
    with connect(autocommit=True) as conn, progress() as bar:
        bars: dict[str, object] = {}

        def tell(what: str, done: int, of: int) -> None:
            bars.setdefault(what, counted(bar, what))(done, of)  # type: ignore[operator]

        report = run(conn, model, into, size, choice, tell)
    made = files.write(report)
    for path in files.written:
        note(f"written: {path}")
    if json:
        emit(report, json)
        return
    for name, table in made.items():
        print(f"\n{name}\n\n{table}")
