"""`geosearch search`: which images look like this and show this place?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import WRONG_USAGE, JsonOption, emit, fail, note


def search(
    image: Annotated[Path | None, typer.Option(help="Ask with a picture: the file.", metavar="FILE")] = None,
    text: Annotated[str | None, typer.Option(help='Ask with words: "snow-covered mountains".')] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Ask with a catalogued image: its name, or archive/name where several have it.", metavar="NAME"
        ),
    ] = None,
    near: Annotated[
        str | None,
        typer.Option(
            help="Only images that may show something near this place, in degrees: -3,-60.", metavar="LAT,LON"
        ),
    ] = None,
    radius_km: Annotated[
        float | None, typer.Option(help="How near to that place; 2500 when it is not given.", metavar="KM")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many answers.")] = 10,
    archive: Annotated[str | None, typer.Option(help="Only images of this archive.")] = None,
    space: Annotated[str | None, typer.Option(help="The space to search in, where there are several.")] = None,
    strategy: Annotated[str, typer.Option(help="auto or exact; auto chooses the cheaper one.")] = "auto",
    json: JsonOption = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the pictures and a map to this file.", metavar="OUT")
    ] = None,
) -> None:
    """Find the images most like a picture, a text or a catalogued image, anywhere or near a place.

    Exactly one of --image, --text and --like is needed. An image of which only the nadir is known may show
    ground up to 2 500 km away, so such images are taken from a circle that much wider.
    """
    if sum(given is not None for given in (image, text, like)) != 1:
        raise fail("give exactly one of --image, --text and --like", WRONG_USAGE)
    if radius_km is not None and near is None:
        raise fail("--radius-km needs --near: the middle of the circle", WRONG_USAGE)

    from geosearch.errors import InputError
    from geosearch.search.client import connect
    from geosearch.search.query import Query, parse_place

    try:
        query = Query.of(
            image=image,
            text=text,
            like=like,
            near=parse_place(near) if near is not None else None,
            radius_km=2500.0 if radius_km is None else radius_km,
            k=k,
            archive=archive,
            space=space,
            strategy=strategy,
        )
    except InputError as error:
        raise fail(str(error), WRONG_USAGE) from error

    with connect() as client:
        ranking = client.ask(query)
    if html is not None:
        from geosearch.search.page import ranking_page

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(ranking_page(ranking), "utf-8")
        note(f"written: {html}")
    if json:
        emit(ranking.to_dict(), json=True)
        return
    rows = [
        {
            "rank": result.rank,
            "similarity": f"{result.similarity:.4f}",
            "km": "" if result.distance_m is None else f"{result.distance_m / 1000:.0f}",
            "lat": "" if result.lat is None else f"{result.lat:.3f}",
            "lon": "" if result.lon is None else f"{result.lon:.3f}",
            "archive": result.archive,
            "name": result.name,
        }
        for result in ranking
    ]
    emit(rows)
    plan = ranking.plan
    note(f"{plan.returned} of {plan.candidates} candidates, space {ranking.space}, strategy {plan.strategy}")
