"""`geosearch evaluate`: measure models the way their cards and this project's documents do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import evaluate_compose, evaluate_earth, evaluate_nadir, evaluate_nadir_earth, evaluate_range
from .common import JsonOption, emit, note

app = typer.Typer(no_args_is_help=True, help="Measure models and methods.")
app.add_typer(evaluate_range.app, name="range")
app.command("compose")(evaluate_compose.compose)
app.command("compose-earth")(evaluate_earth.compose_earth)
app.command("nadir")(evaluate_nadir.nadir)
app.command("nadir-earth")(evaluate_nadir_earth.nadir_earth)


@app.callback()
def evaluate() -> None:
    """Measure models and methods."""


@app.command()
def clip(
    model: Annotated[str, typer.Option("--model", help="A model that reads images and texts.")] = "mini-clip",
    queries: Annotated[
        int, typer.Option("--queries", min=1, help="Photographs in each of the four measurements.")
    ] = 1000,
    tiles: Annotated[int, typer.Option("--tiles", min=100, help="About how many tiles, 300 km wide.")] = 6000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the photographs.")] = 1,
    json: JsonOption = False,
) -> None:
    """Measure an image and text model on Blue Marble: simulated photographs → tiles, words → tiles.

    Beside every figure stand chance and a colour histogram, on held-out and on seen ground.
    """
    from geosearch.encoders.registry import load
    from geosearch.training.report import measure

    report = measure(load(model), queries, tiles, seed)
    if json:
        emit({"model": model, **report}, json)
        return
    note(
        f"{report['tiles']} tiles of {report['tile_km']:.0f} km; {queries} photographs a row; whole database, no filter"
    )
    rows: list[dict[str, Any]] = [
        {"photographs": part["setting"], "ground": part["ground"], "by": by, **part[by]}
        for part in report["images"]
        for by in ("model", "colour histogram", "chance")
    ]
    emit(rows)
    print()
    columns = ("text", "P@10", "chance", "P@10 held out", "chance held out")
    emit([{c: row.get(c) for c in columns} for row in report["texts"]["prompts"]])
    print(f"\nmean P@10 {report['texts']['P@10']}, chance {report['texts']['chance']}")


@app.command()
def location(
    model: Annotated[str, typer.Option("--model", help="A location encoder.")] = "mini-location",
    images: Annotated[
        str, typer.Option("--images", help="The image model whose vectors it answers with; its own by default.")
    ] = "",
    tiles: Annotated[int, typer.Option("--tiles", min=100, help="About how many tiles, 300 km wide.")] = 6000,
    seen: Annotated[
        int, typer.Option("--seen", min=1, help="About how many tiles, in all, the baseline's memory is cut from.")
    ] = 10000,
    json: JsonOption = False,
) -> None:
    """Measure a location encoder on Blue Marble: places → their tiles, and back.

    Beside every figure stand chance and the nearest tile of seen ground, on held-out and on seen ground.
    """
    from geosearch.training.location_report import WAYS, report_on

    report = report_on(model, images or None, tiles, seen)
    if json:
        emit(report, json)
        return
    note(f"{report['tiles']} tiles of {report['tile_km']:.0f} km; the right answer is the one tile at the place")
    for way in WAYS:
        print(way)
        emit([{"ground": r["ground"], "by": r["by"], "places": r["places"], **r[way]} for r in report["rows"]])
        print()
    print("soft cosine: the tile's vector and the mean of all, weighted by the query; chance: of all alike")
    emit([{c: r[c] for c in ("ground", "by", "soft cosine")} for r in report["rows"]])
    print()
    emit([{"cap": c["cap"], "places": c["places"], **c[WAYS[0]]} for c in report["caps"]])
