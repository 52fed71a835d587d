"""`geosearch evaluate compose-earth`: composed retrieval on Blue Marble, without a download."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import JsonOption, counted, emit, note, progress
from .evaluate_compose import LambdasOption, ModelOption, OutOption, PlotOption, check_files, lambdas_of, show


class GroundName(StrEnum):
    """Which ground the views show."""

    all = "all"
    seen = "seen"
    held_out = "held-out"


def compose_earth(
    model: ModelOption = "mini-clip",
    ground: Annotated[
        GroundName, typer.Option("--ground", help="seen: where mini-clip was trained; held-out: where it was not.")
    ] = GroundName.all,
    views: Annotated[
        int, typer.Option("--views", min=4, help="At most so many views of each pair of surface and context.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the choice of views.")] = 1,
    lambdas: LambdasOption = "",
    out: OutOption = None,
    plot: PlotOption = None,
    examples: Annotated[
        Path | None, typer.Option("--examples", help="Draw some questions and their answers.", metavar="FILE.png")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure composed retrieval on views of Blue Marble: "like this coast, but with snow"; needs no download.

    Surface (desert, forest, grassland, snow) and context (coast, inland, island, lake) are told from colours and a land
    mask. A question is a view and another value of one; relevant are the views that have it and share the other.
    The mean is measured with weights, too: (1 − λ) image + λ text without WeiCom's normalisation.
    """
    from geosearch.encoders.registry import load
    from geosearch.evaluation.composed_earth import WIDTH_M, measure
    from geosearch.evaluation.earth_examples import check, draw

    weights = lambdas_of(lambdas)
    check_files(out, plot)
    if examples is not None:
        check(examples)
    encoder = load(model)
    with progress() as bar:
        report = measure(encoder, views, seed, ground.value, weights, lambda title: counted(bar, title))
    if examples is not None:
        draw(report, examples)
    facts: dict[str, Any] = {"model": model, "ground": ground.value}
    if json:
        facts |= {"looked at": report.looked_at.counts(), "views": report.views.counts()}
        facts |= {"values": report.values(), "sure": report.sure()}
        show(report.report, facts, out, plot, json)
        return
    note(f"{len(report.looked_at)} views of {WIDTH_M / 1000:.0f} km looked at, by what they show:")
    emit(report.looked_at.counts())
    note(f"\n{len(report.views)} of them are ranked:")
    emit(report.views.counts())
    print()
    show(report.report, facts, out, plot, json)
    print()
    emit(report.values())
    note("\naverages with 95 % intervals over cells of 10 degrees drawn again, and the lead of the best λ over each")
    columns = ("method", "average", "low", "high", "lead low", "lead high", "best in %")
    emit([{name: row.get(name) for name in columns} for row in report.sure()])
