"""The demo's page: one file with its pictures and maps, which says what was asked, what came, and what is simulated."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from geosearch.bluemarble import raster
from geosearch.demo.measure import RADIUS_KM, Asked, Line, hits
from geosearch.encoders.names import MINI_CLIP
from geosearch.evaluation.recall import KS
from geosearch.geometry import distance_m
from geosearch.search.compose_page import composed_answers, composed_question, shown_parts
from geosearch.search.page import answer, answers, degrees, document, kilometres, question, result_marks
from geosearch.search.projection import Projection, World
from geosearch.search.ranking import Ranking
from geosearch.search.thumbnails import thumbnail
from geosearch.search.worldmap import Mark, circle_map, ground, surroundings, world_map

if TYPE_CHECKING:
    from geosearch.demo.findings import Demo

SHOWN = 8
ANSWERS = 6


def demo_page(demo: Demo, photo_folder: Path) -> str:
    """Return the page as HTML. photo_folder: where the photographs lie."""
    chosen = spread_by_rank(demo.asked, SHOWN)
    shown = "\n".join(_photograph(demo, i, photo_folder) for i in chosen)
    texts = "\n".join(_text(ranking) for ranking in demo.texts)
    body = f"""
<header>
<h1>Which image shows this place and looks like this photograph?</h1>
<p class="lead">{_number(demo.tiles)} tiles of NASA’s Blue Marble, catalogued and embedded in PostgreSQL, asked with
{_number(demo.photographs)} photographs by their look, and by their look and place.</p>
</header>
<div class="note"><p><b>The photographs are simulated.</b> They are oblique views rendered from the same Blue
Marble, with haze, cloud, exposure and grain, from points along the orbit of the International Space Station in
December 2019. No astronaut took them. They show that the search works; they do not tell how well it works on real
photographs.</p></div>
<h2>How often the right ground comes up</h2>
<p>A photograph knows where the station was, not what it shows: that may lie far away. A tile is right when its
footprint overlaps the photograph’s. Recall@k is the share of photographs with a right tile among the first k.</p>
{_table(demo)}
<h2>Where the photographs were taken</h2>
<p>Each dot is the point beneath the station. <span class="key hit"></span> a right tile was among the first ten
within {_number(round(RADIUS_KM))} km of it; <span class="key miss"></span> it was not.</p>
<div class="over">{_overview(demo)}</div>
<h2>{_number(len(chosen))} photographs, from the best answered to the worst</h2>
<p>Picked at equal steps down the list of all, in the order of the rank of their first right tile within the circle.
Green frames are right. On the map: the station’s nadir, the circle of {_number(round(RADIUS_KM))} km, what the
photograph shows in blue, and the answers inside the circle.</p>
{shown}
<h2>Asked in words</h2>
{texts}
{_composed(demo)}
{_expected(demo)}
<h2>How it was made</h2>
<p>The model is <code>{escape(demo.model)}</code>, {_trained(demo.model)} Half of the photographs were drawn
there. Every answer comes from <code>geosearch.search</code> in SQL, those to a tile with words from
<code>geosearch.compose</code>: exact, by cosines of half-precision vectors, and within the circle by distances on the
spheroid.</p>
<pre>geosearch search --text "a desert" --near 23,30 --archive bluemarble-demo --space demo
geosearch search --like astronaut-demo/simulated-0001.jpg --archive bluemarble-demo --html answer.html
geosearch compose --like bluemarble-demo/N23.7E010.7 --text coast --sweep
geosearch db psql</pre>
<footer>Imagery: NASA Earth Observatory, Blue Marble Next Generation. Orbit: the station’s two-line elements of
9 December 2019, SGP4. Made by geosearch; this page carries its pictures and maps and loads nothing.</footer>
"""
    return document("geosearch: the demo", body)


def _trained(model: str) -> str:
    if model.partition("@")[0] == MINI_CLIP:
        return (
            "a small image–text model trained by this project on other views of Blue Marble, away from six regions of "
            "1 500 km: those are the held-out ground."
        )
    return (
        "which was trained elsewhere; held-out ground are six regions of 1 500 km that this project’s models never saw."
    )


def spread_by_rank(asked: Sequence[Asked], count: int) -> list[int]:
    """Return the positions of `count` photographs at equal steps from the best answered to the worst."""
    ranks = hits([one.nearby for one in asked], [one.relevant for one in asked])
    order = np.argsort(np.where(np.isnan(ranks), np.inf, ranks), kind="stable")
    steps = ((np.arange(min(count, len(order))) + 0.5) * len(order) / min(count, len(order))).astype(int)
    return [int(i) for i in order[steps]]


def _table(demo: Demo) -> str:
    """Return Recall@k as a table: the model's lines, and beside them the colour histogram and chance."""
    head = "".join(f"<th>R@{k}</th>" for k in KS)
    rows = []
    title = ""
    for line in demo.table:
        if line.photographs != title:
            title = line.photographs
            left_out = (
                f", {line.recall.without_relevant} without a right tile left out"
                if line.recall.without_relevant
                else ""
            )
            rows.append(
                f'<tr class="head"><th colspan="{len(KS) + 1}">{title[0].upper()}{escape(title[1:])} '
                f'<span class="soft">({line.recall.counted}{left_out})</span></th></tr>'
            )
        rows += _lines(line)
    return (
        f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _lines(line: Line) -> list[str]:
    rows = []
    for kind, by, recall in (
        ("strong", line.search.replace("2500", "2\u202f500"), line.recall),
        ("weak", "colour histogram", line.colours),
        ("weak", "chance", line.chance),
    ):
        cells = "".join(f"<td>{100 * recall.at[k]:.1f}</td>" for k in KS)
        rows.append(f'<tr class="{kind}"><td>{escape(by)}</td>{cells}</tr>')
    return rows


def _overview(demo: Demo) -> str:
    ranks = hits([asked.nearby for asked in demo.asked], [asked.relevant for asked in demo.asked])
    marks = [
        Mark(
            {"type": "Point", "coordinates": [asked.nadir[1], asked.nadir[0]]},
            "hit" if rank <= 10 else "miss",
            title=asked.name,
        )
        for asked, rank in zip(demo.asked, ranks, strict=True)
    ]
    return world_map(marks, _imagery(World(), 1240))


def _photograph(demo: Demo, i: int, folder: Path) -> str:
    asked, planned = demo.asked[i], demo.planned
    away = float(distance_m(*asked.nadir, planned.aim[0][i], planned.aim[1][i]))
    footprint = {"type": "Polygon", "coordinates": [planned.footprint[i]]}
    best = asked.nearby.results[:ANSWERS]
    disc = surroundings(*asked.nadir, RADIUS_KM * 1000)
    marks = [*result_marks(best, asked.relevant), Mark(footprint, "truth", title="what the photograph shows")]
    drawn = circle_map(*asked.nadir, RADIUS_KM * 1000, marks, _imagery(disc, 520))
    when = str(planned.time[i].astype("datetime64[m]")).replace("T", ", ")
    picture = thumbnail(str(folder / asked.name), 360)
    said = f"{when} UTC, above {degrees(*asked.nadir, 1)}. It looked at ground {kilometres(away)} away"
    said += ", held out from training." if asked.held_out else "."
    return f"""
<article class="photograph">
<figure class="query"><div class="frame"><img src="{picture}" alt="simulated photograph"></div>
<figcaption><b>{escape(asked.name.removesuffix(".jpg"))}</b>{said}</figcaption></figure>
{drawn}
<div>
{_row("No filter", asked.anywhere, asked)}
{_row(f"Within {kilometres(RADIUS_KM * 1000)}", asked.nearby, asked)}
</div>
</article>"""


def _row(title: str, ranking: Ranking, asked: Asked) -> str:
    rank = hits([ranking], [asked.relevant])[0]
    if np.isnan(rank):
        said = "no tile shows this ground"
    elif np.isinf(rank):
        said = f"no right tile among the first {len(ranking)}"
    else:
        said = f"first right tile at rank {int(rank)}"
    items = "".join(
        f"<li>{answer(result, result.image_id in asked.relevant, brief=True)}</li>"
        for result in ranking.results[:ANSWERS]
    )
    return (
        f'<h3>{title} <span class="soft">{said}; {len(asked.relevant)} right among '
        f'{_number(ranking.plan.candidates)} candidates</span></h3><ol class="grid six">{items}</ol>'
    )


def _text(ranking: Ranking) -> str:
    query = ranking.query
    if query.near:
        near = (query.near.lat, query.near.lon)
        drawn = circle_map(
            *near,
            query.radius_km * 1000,
            result_marks(ranking.results),
            _imagery(surroundings(*near, query.radius_km * 1000), 520),
        )
        where = f"within {kilometres(query.radius_km * 1000)} of {degrees(*near, 0)}"
    else:
        drawn = world_map(result_marks(ranking.results), _imagery(World(), 640))
        where = "anywhere"
    return (
        f'<article class="text"><div><h3>{escape(question(ranking))} <span class="soft">{where}</span></h3>'
        f"{drawn}</div>"
        f"{answers(ranking.results)}</article>"
    )


def _composed(demo: Demo) -> str:
    articles = [
        f'<article class="text"><div><h3>{escape(composed_question(ranking.parts))} <span class="soft">λ '
        f"{ranking.lam:g}</span></h3>{shown_parts(ranking.parts, weighed=True)}</div>"
        f"{composed_answers(ranking)}</article>"
        for ranking in demo.composed
    ]
    return f"""<h2>Like this tile, but …</h2>
<p>A tile and a word in one question. Each similarity is compared with what is usual in the whole space, so that neither
drowns the other (WeiCom); λ is the weight of the word, here the model’s own. Below each answer its score, and for
each part its cosine and how many deviations that lies above the mean.</p>
{"".join(articles)}"""


def _expected(demo: Demo) -> str:
    if not demo.expected:
        return ""
    articles = []
    for place in demo.expected:
        here = Mark({"type": "Point", "coordinates": [place.lon, place.lat]}, "truth", title=place.name)
        drawn = world_map([*result_marks(place.ranking.results), here], _imagery(World(), 640))
        articles.append(
            f'<article class="text"><div><h3>{escape(place.name)} <span class="soft">'
            f"{degrees(place.lat, place.lon, 0)}</span></h3>{drawn}</div>{answers(place.ranking.results)}</article>"
        )
    return f"""<h2>What a place is expected to look like</h2>
<p>Asked with coordinates alone. RANGE mixes the image features of a bank of Blue Marble’s places, by likeness in the
space of a location encoder and by nearness; these tiles look most like the mixture, anywhere on Earth. One SQL call:
<code>geosearch.range_similar('demo', st_makepoint(12, 23)::geography)</code>. The blue dot is the place.</p>
{"".join(articles)}"""


def _imagery(projection: Projection, width: int) -> str:
    """Return Blue Marble on a map as a data URI, a little lightened so that marks stand out."""
    lat, lon = ground(projection, width)
    pixels = raster.load().sample(lat, lon) * 0.82 + 34
    data = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=78, optimize=True)
    return "data:image/jpeg;base64," + b64encode(data.getvalue()).decode("ascii")


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
