"""Images that look like what RANGE expects at a place, asked of the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from geosearch.item import Place
from geosearch.range.options import Retrieval
from geosearch.range.store import bank_of, explained

# Left joins: of an empty catalogue, too, the function is called, and says what is wrong with what is asked.
_SIMILAR = """
    select s.rank, s.similarity, s.distance_m, a.name as archive, s.name, s.image_id,
           st_y(p.geom) as lat, st_x(p.geom) as lon
    from geosearch.range_similar(
        bank => %(bank)s::text, place => st_makepoint(%(lon)s::float8, %(lat)s::float8)::geography, k => %(k)s::int,
        beta => %(beta)s::float8, tau_sem => %(tau_sem)s::float8, tau_geo => %(tau_geo)s::float8,
        min_cos => %(min_cos)s::float8, mode => %(mode)s::text, mode_k => %(mode_k)s::int,
        near => case when %(radius_m)s::float8 is null then null
                     else st_makepoint(%(lon)s::float8, %(lat)s::float8)::geography end,
        radius_m => coalesce(%(radius_m)s::float8, 2500000), archive => %(archive)s::text, space => %(space)s::text,
        strategy => %(strategy)s::text) s
    left join geosearch.image i on i.id = s.image_id
    left join geosearch.archive a on a.id = i.archive_id
    cross join lateral (select geosearch.place_point(coalesce(i.footprint, i.nadir)) as geom) p
    order by s.rank
"""


@dataclass(frozen=True)
class Similar:
    """One answer: similarity is the cosine of its vector and the expected value, distance_m from the place asked for
    (None where nothing was said of a radius); lat, lon in degrees of its own place.
    """

    rank: int
    similarity: float
    distance_m: float | None
    archive: str
    name: str
    image_id: int
    lat: float | None
    lon: float | None


def similar(
    conn: psycopg.Connection[Any],
    bank: str,
    near: Place,
    k: int = 10,
    options: Retrieval | None = None,
    *,
    radius_km: float | None = None,
    archive: str | None = None,
    space: str | None = None,
    strategy: str = "auto",
) -> list[Similar]:
    """Return the k images whose vectors are nearest to the value that a bank lets expect at a place, best first.

    radius_km: only images that may show ground that near to the place. archive: only its images. space: where the
    bank's values come from no space. Raises UnknownNameError, InputError with what the database says.
    """
    options = options or Retrieval()
    arguments = {**options.to_dict(), "mode_k": options.k, "bank": bank, "lat": near.lat, "lon": near.lon, "k": k}
    arguments |= {
        "radius_m": None if radius_km is None else radius_km * 1000.0,
        "archive": archive,
        "space": space,
        "strategy": strategy,
    }
    bank_of(conn, bank)
    with explained(), conn.transaction():
        return conn.cursor(row_factory=class_row(Similar)).execute(_SIMILAR, arguments).fetchall()
