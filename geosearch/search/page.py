"""A ranking as one self-contained HTML page: pictures, map, ranks and distances; no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from geosearch.search.query import Filters
from geosearch.search.ranking import Ranking, Result
from geosearch.search.thumbnails import thumbnail
from geosearch.search.worldmap import Mark, circle_map, world_map

THUMBNAIL_SIDE = 220
FOOTER = "<footer>Made by geosearch. This page carries all that it shows; it loads nothing.</footer>"


def document(title: str, body: str) -> str:
    """Return a whole HTML page with the style of all pages of geosearch. body: HTML."""
    style = (files("geosearch.search") / "page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing is fetched and nothing runs, whatever a name in an archive may hold.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
        " style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def ranking_page(ranking: Ranking) -> str:
    """Return a ranking as a self-contained HTML page."""
    query, plan = ranking.query, ranking.plan
    title = question(ranking)
    facts = [
        f"<b>{plan.returned}</b> of <b>{plan.candidates}</b> candidates",
        f"space <b>{escape(ranking.space)}</b>",
        f"strategy <b>{escape(plan.strategy)}</b>",
    ]
    if query.archive:
        facts.append(f"archive <b>{escape(query.archive)}</b>")
    picture = thumbnail(query.image, 480) if query.image is not None else None
    shown = (
        f'<figure class="query"><div class="frame"><img src="{picture}" alt="the query"></div></figure>'
        if picture
        else ""
    )
    body = (
        f"<header><h1>{escape(title)}</h1>\n"
        f'<p class="lead">{plan.returned} image{"" if plan.returned == 1 else "s"}{where(query)}, best first.</p>'
        f"</header>\n{fact_list(facts)}\n{located(query, ranking.results, answers(ranking.results), shown)}{FOOTER}"
    )
    return document(title, body)


def where(query: Filters) -> str:
    """Return in words where answers lie, with a space before them; nothing where that is anywhere."""
    if query.near:
        return f" within {kilometres(query.radius_km * 1000)} of {degrees(query.near.lat, query.near.lon)}"
    return " in the area" if query.area else ""


def fact_list(facts: Sequence[str]) -> str:
    """Return facts (HTML) as a list in a line."""
    return f'<ul class="facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul>'


def located(query: Filters, results: Sequence[Result], found: str, shown: str = "") -> str:
    """Return answers (HTML) with a map of where they are. shown: the question's picture (HTML)."""
    marks = result_marks(results)
    if query.near:
        drawn = circle_map(query.near.lat, query.near.lon, query.radius_km * 1000, marks)
        return f'<div class="split"><div>{shown}{drawn}</div>\n{found}</div>\n'
    beside = " beside" if shown else ""
    return f'<div class="over{beside}">{shown}{world_map(marks)}</div>\n{found}\n'


def question(ranking: Ranking) -> str:
    """Return in words what was asked."""
    query = ranking.query
    if query.text is not None:
        return f"“{query.text}”"
    if query.like is not None:
        return f"Images like {query.like}"
    if query.image is not None:
        return f"Images like {query.image.name}" if isinstance(query.image, Path) else "Images like a picture"
    return "Images near a vector"


def answers(results: Sequence[Result], hits: frozenset[int] | None = None) -> str:
    """Return the results as a grid of pictures. hits: ids of images that are right, where that is known."""
    return grid([answer(result, hits is not None and result.image_id in hits) for result in results])


def grid(figures: Sequence[str]) -> str:
    """Return figures (HTML) as a grid, and a sentence where there is none."""
    if not figures:
        return '<p class="soft">No image of this space meets all that was asked.</p>'
    return f'<ol class="grid">{"".join(f"<li>{figure}</li>" for figure in figures)}</ol>'


def answer(result: Result, hit: bool = False, brief: bool = False) -> str:
    """Return one result as a figure: picture, rank, name, similarity, distance, and the place unless brief."""
    facts = [f"cos {result.similarity:.3f}", *distance(result)]
    if brief:
        return picture_of(result, "<br>".join(facts), "hit" if hit else "")
    return picture_of(result, "<br>".join([" · ".join(facts), *middle_of(result)]), "hit" if hit else "")


def picture_of(result: Result, facts: str, kind: str = "", side: int = THUMBNAIL_SIDE) -> str:
    """Return a result's picture as a figure with its rank, its name and facts (HTML). kind chooses its look."""
    uri = thumbnail(result.uri, side, result.root)
    name = escape(result.name)
    inside = (
        f'<img src="{uri}" alt="{name}" loading="lazy">'
        if uri
        else f'<div class="none">no picture here<br>{name}</div>'
    )
    return (
        f'<figure class="{f"answer {kind}".rstrip()}"><div class="frame">{inside}'
        f'<span class="rank">{result.rank}</span></div>'
        f"<figcaption><b>{name}</b>{facts}</figcaption></figure>"
    )


def distance(result: Result) -> list[str]:
    """Return how far a result is, where that was asked."""
    return [] if result.distance_m is None else [kilometres(result.distance_m)]


def middle_of(result: Result) -> list[str]:
    """Return the place of a result, where it has one."""
    return [] if result.lat is None or result.lon is None else [degrees(result.lat, result.lon, 1)]


def result_marks(results: Sequence[Result], hits: frozenset[int] | None = None) -> list[Mark]:
    """Return the results' footprints for a map; the best lie on top."""
    marks = []
    for result in reversed(results):
        if result.shape is not None:
            kind = "plain" if hits is None else "hit" if result.image_id in hits else "miss"
            label = str(result.rank) if result.rank <= 10 else ""
            marks.append(Mark(result.shape, kind, label, f"{result.rank}. {result.name}"))  # type: ignore[arg-type]
    return marks


def degrees(lat: float, lon: float, digits: int = 2) -> str:
    """Return a place as people write it: 46.25° N, 8.10° E; its parts do not break across lines."""
    north, east = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    return f"{abs(lat):.{digits}f}°\u202f{north}, {abs(lon):.{digits}f}°\u202f{east}"


def kilometres(metres: float) -> str:
    """Return a distance with narrow spaces between thousands: 2 500 km."""
    return f"{metres / 1000:,.0f}".replace(",", "\u202f") + "\u00a0km"
