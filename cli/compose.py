"""`geosearch compose`: which images look like this, but with that, and without the other?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import WRONG_USAGE, JsonOption, answer_rows, emit, fail, note, write_page
from .filters import (
    ArchiveOption,
    AreaOption,
    CountOption,
    FromOption,
    NearOption,
    PropertyOption,
    RadiusOption,
    SpaceOption,
    ToOption,
    check_radius,
    filters,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geosearch.search.composed import ComposedRanking

LONGEST_NAME = 12


def compose(
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture: the file. May be repeated.", metavar="FILE")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            help="A catalogued image: its name, or archive/name where several have it. May be repeated.",
            metavar="NAME",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help='Words for what is to be seen: "snow". May be repeated.')
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help='Words for what is not wanted: "clouds". May be repeated.', metavar="TEXT"),
    ] = None,
    lam: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            help="Weight of all words, from 0 (pictures alone) to 1 (words alone); if not given, the model's default.",
            metavar="L",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Instead of lambda, a number for each part: --image, then --like, --text, --without.",
            metavar="W,W,…",
        ),
    ] = None,
    near: NearOption = None,
    radius_km: RadiusOption = None,
    area: AreaOption = None,
    captured_from: FromOption = None,
    captured_to: ToOption = None,
    property_: PropertyOption = None,
    k: CountOption = 10,
    archive: ArchiveOption = None,
    space: SpaceOption = None,
    population: Annotated[
        str,
        typer.Option(help="What a similarity is compared with: space (all images) or candidates (those that pass)."),
    ] = "space",
    method: Annotated[
        str, typer.Option(help="weicom; or of its baselines mean (of similarities), image or text (that alone).")
    ] = "weicom",
    strategy: Annotated[
        str, typer.Option(help="auto, exact or fast (the approximate index); auto takes the cheaper one.")
    ] = "auto",
    late: Annotated[
        str,
        typer.Option(help="Where the moments of the space are late: compute what is needed, or refuse."),
    ] = "compute",
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the pictures to this file.", metavar="OUT")
    ] = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Show lambda 0, 0.1 … 1 side by side, to choose one.")] = False,
) -> None:
    """Find images by pictures and words together: like this photograph, but with snow, without clouds.

    At least one of --image, --like, --text and --without is needed; all may be repeated. Each part's likeness is
    compared with what is usual in the space, so that neither pictures nor words drown the other (WeiCom).
    """
    check_radius(radius_km, near)
    if sweep and lam is not None:
        raise fail("--sweep shows all values of lambda; leave out --lambda", WRONG_USAGE)

    from geosearch.errors import InputError
    from geosearch.search.client import connect
    from geosearch.search.compose import Composition

    try:
        composition = Composition.of(
            image=image,
            like=like,
            text=text,
            without=without,
            lam=lam,
            weights=None if weights is None else weights.split(","),
            population=population,
            method=method,
            late=late,
            **filters(
                near,
                radius_km,
                area,
                captured_from,
                captured_to,
                property_,
                k=k,
                archive=archive,
                space=space,
                strategy=strategy,
            ),
        )
        if sweep:
            composition.swept()  # refused before anything is loaded
    except (InputError, UnicodeDecodeError) as error:
        raise fail(str(error), WRONG_USAGE) from error

    with connect() as client:
        rankings = client.sweep(composition) if sweep else [client.ask_composed(composition)]
    for said in dict.fromkeys(said for ranking in rankings for said in ranking.notes):
        note(said)
    if html is not None:
        _write(html, rankings, sweep)
    if sweep:
        _emit_sweep(rankings, json)
    elif json:
        emit(rankings[0].to_dict(), json=True)
    else:
        _emit(rankings[0])


def _write(html: Path, rankings: Sequence[ComposedRanking], sweep: bool) -> None:
    from geosearch.search.compose_page import composed_page, sweep_page

    page = sweep_page(rankings) if sweep else composed_page(rankings[0])
    write_page(html, page)


def _emit(ranking: ComposedRanking) -> None:
    rows = []
    for result, row in zip(ranking, answer_rows(ranking), strict=True):
        columns: dict[str, Any] = {"rank": row.pop("rank"), "score": f"{result.score:.4f}"}
        del row["similarity"]
        for number, likeness in enumerate(result.parts, 1):
            columns[f"cos{number}"] = "" if likeness.similarity is None else f"{likeness.similarity:.4f}"
            columns[f"z{number}"] = "" if likeness.z is None else f"{likeness.z:+.2f}"
        rows.append({**columns, **row})
    emit(rows)
    for number, part in enumerate(ranking.parts, 1):
        note(f"part {number}: {part.kind} {part.label!r}, weight {part.weight:+.3f}")
    if ranking.lam is not None:
        said = ", the default of the space's model" if ranking.composition.method == "weicom" else ", the default"
        note(f"lambda {ranking.lam:g}{'' if ranking.composition.lam is not None else said}")
    plan = ranking.plan
    note(
        f"{plan.returned} of {plan.candidates} candidates, space {ranking.space}, method {ranking.composition.method}, "
        f"population {plan.population}, strategy {plan.strategy}"
    )


def _emit_sweep(rankings: Sequence[ComposedRanking], json: bool) -> None:
    if json:
        emit({"lambdas": [ranking.lam for ranking in rankings], "rankings": [r.to_dict() for r in rankings]}, json=True)
        return
    rows: list[dict[str, Any]] = [{"rank": rank + 1} for rank in range(max(map(len, rankings)))]
    before: set[int] | None = None
    for ranking in rankings:
        column = f"{ranking.lam:g}"
        for row in rows:
            row[column] = ""
        for result, row in zip(ranking, rows, strict=False):
            new = before is not None and result.image_id not in before
            row[column] = f"{'+' if new else ''}{_short(result.name)}"
        before = {result.image_id for result in ranking}
    emit(rows)
    first = rankings[0]
    note("columns: lambda, from the pictures alone to the words alone; +: not in the column before")
    note(f"space {first.space}, method {first.composition.method}, lambda by default {first.default_lambda:g}")


def _short(name: str) -> str:
    """Return a name so short that eleven fit side by side; names of an archive differ at their ends."""
    return name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}"
