"""`geosearch search`: which images look like this and show this place?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import (
    DONE_WITH_REJECTS,
    FAILED,
    WRONG_USAGE,
    JsonOption,
    answer_rows,
    emit,
    fail,
    note,
    progress,
    write_page,
)
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


def search(
    image: Annotated[Path | None, typer.Option(help="Ask with a picture: the file.", metavar="FILE")] = None,
    text: Annotated[str | None, typer.Option(help='Ask with words: "snow-covered mountains".')] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Ask with a catalogued image: its name, or archive/name where several have it.", metavar="NAME"
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Ask many at once: one JSON object a line, or CSV with a header; the names are those of the options.",
            metavar="FILE",
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
    strategy: Annotated[
        str, typer.Option(help="auto, exact or hnsw (the approximate index); auto takes the cheaper one.")
    ] = "auto",
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the pictures and a map to this file.", metavar="OUT")
    ] = None,
) -> None:
    """Find the images most like a picture, a text or a catalogued image, anywhere or near a place.

    Exactly one of --image, --text, --like and --queries is needed. An image of which only the nadir is known may show
    ground up to 2 500 km away, so such images are taken from a circle that much wider.

    With --queries the other options hold for each line that does not say otherwise. Status 3: some were not answered.
    """
    if sum(given is not None for given in (image, text, like, queries)) != 1:
        raise fail("give exactly one of --image, --text, --like and --queries", WRONG_USAGE)
    if queries is None:
        check_radius(radius_km, near)
    if queries is not None and html is not None:
        raise fail("--html shows one query; leave out --queries", WRONG_USAGE)

    from geosearch.errors import InputError
    from geosearch.search.batch import read_queries
    from geosearch.search.client import connect
    from geosearch.search.query import Query

    try:
        common = filters(
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
        )
        asked = None if queries is None else read_queries(queries, common)
        query = Query.of(image=image, text=text, like=like, **common) if asked is None else None
    except (InputError, UnicodeDecodeError) as error:
        raise fail(str(error), WRONG_USAGE) from error

    if asked is not None:
        _many(asked, json)
        return
    assert query is not None
    with connect() as client:
        ranking = client.ask(query)
    if html is not None:
        from geosearch.search.page import ranking_page

        write_page(html, ranking_page(ranking))
    if json:
        emit(ranking.to_dict(), json=True)
        return
    emit(answer_rows(ranking))
    plan = ranking.plan
    note(f"{plan.returned} of {plan.candidates} candidates, space {ranking.space}, strategy {plan.strategy}")


def _many(asked: list[Any], json: bool) -> None:
    from geosearch.errors import GeosearchError
    from geosearch.search.client import connect

    documents: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    failed = 0
    with connect() as client, progress() as bar:
        task = bar.add_task("search", total=len(asked))
        for one, answer in zip(asked, client.search_many(line.query for line in asked), strict=True):
            if isinstance(answer, GeosearchError):
                failed += 1
                note(f"line {one.line}: {answer}")
                documents.append({"id": one.id, "line": one.line, "error": str(answer)})
            else:
                documents.append({"id": one.id, "line": one.line, **answer.to_dict()})
                rows += [{"query": one.id, **row} for row in answer_rows(answer)]
            bar.advance(task)
    if json:
        emit(
            {"queries": len(asked), "answered": len(asked) - failed, "failed": failed, "rankings": documents}, json=True
        )
    else:
        emit(rows)
        note(f"{len(asked) - failed} of {len(asked)} queries answered")
    if failed:
        raise typer.Exit(FAILED if failed == len(asked) else DONE_WITH_REJECTS)
