"""Which tiles are right for a photograph, and which lie near its nadir: PostGIS decides both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation.nadir_data import Images
from geosearch.geometry import EARTH_RADIUS_M, PHOTO_REACH_M, Floats, unit_vectors

LEAST_M2 = 1.0  # footprints that only touch have an intersection of rounding's size
MERCATOR = 999000  # PostGIS's number of it in _st_bestsrid
GUARD = 0.0057  # distances on the spheroid are 0.9944 to 1.0045 times those on the sphere
PAGE, PAIRS = 256, 200_000  # photographs, and pairs, a statement

# The intersection of geographies is made in a projection about both, so that ±180 and the poles are no border. For what
# is too large together (25° high and more) that is Mercator's, in which a long edge is no great circle: what meets on
# the sphere and lies apart there shares an area.
_OVERLAPS = """
    select p.id, t.id
    from unnest(%(photos)s::bigint[]) u (id) join geosearch.image p on p.id = u.id
    cross join lateral (
        select t.id, t.footprint from geosearch.image t
        where st_intersects(coalesce(t.footprint, t.nadir), p.footprint)
          and t.footprint is not null and t.archive_id = any (%(archives)s) and t.id <> p.id
        offset 0) t
    where case when _st_bestsrid(t.footprint, p.footprint) = %(mercator)s
                    and not st_intersects(t.footprint::geometry, p.footprint::geometry) then true
               else st_area(st_intersection(t.footprint, p.footprint)) > %(least)s end
"""
_WITHIN = """
    select u.n from unnest(%(n)s::bigint[], %(lat)s::float8[], %(lon)s::float8[], %(id)s::bigint[]) u (n, lat, lon, id)
    join geosearch.image t on t.id = u.id
    where st_distance(coalesce(t.footprint, t.nadir), st_makepoint(u.lon, u.lat)::geography)
          <= %(radius)s::float8 + t.reach_m
    order by u.n
"""


def relevant(
    conn: psycopg.Connection[Any],
    photos: Images,
    tiles: Images,
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.int64]]:
    """Return, for each photograph, the rows of the tiles that its footprint shares an area with, ascending.

    Over all tiles, whether they have a vector or not. None where either has no footprint. An image is not relevant for
    itself. Right at ±180 and over the poles. Raises InputError where PostGIS cannot intersect two footprints.
    """
    found: list[NDArray[np.int64]] = []
    scope = {"archives": np.unique(tiles.archive_ids).tolist(), "least": LEAST_M2, "mercator": MERCATOR}
    for start in range(0, len(photos), PAGE):
        ids = photos.ids[start : start + PAGE]
        try:
            with conn.transaction():
                rows = conn.execute(_OVERLAPS, {**scope, "photos": ids.tolist()}).fetchall()
        except psycopg.errors.InternalError as error:
            raise InputError(
                f"PostGIS cannot intersect the footprints of images {ids[0]} … {ids[-1]} with those of the tiles "
                f"({str(error).strip()}); correct or remove the one that is not valid (st_isvalid)"
            ) from error
        pairs = np.array(rows, np.int64).reshape(-1, 2)
        row = _rows(tiles, pairs[:, 1])
        pairs, row = pairs[row >= 0], row[row >= 0]
        order = np.lexsort((row, pairs[:, 0]))
        pairs, row = pairs[order], row[order]
        low, high = np.searchsorted(pairs[:, 0], ids), np.searchsorted(pairs[:, 0], ids, "right")
        found += [row[a:b] for a, b in zip(low, high, strict=True)]
        if progress:
            progress(start + len(ids), len(photos))
    return found


def near(
    conn: psycopg.Connection[Any], photos: Images, tiles: Images, radius_m: float = PHOTO_REACH_M
) -> Callable[[slice], list[NDArray[np.int64]]]:
    """Return what gives, for some of the photographs, the rows of the tiles within a radius of their nadirs, ascending.

    A tile is in where st_distance to its footprint, on the spheroid, is at most the radius and its reach, as in
    `geosearch.search`; without a footprint, to its nadir. A photograph without a nadir has an empty list.
    """
    middle = unit_vectors(tiles.middle_lat, tiles.middle_lon)
    bare = np.isnan(tiles.middle_lat)
    middle[bare] = tiles.core[bare]
    cap = np.where(bare, 0.0, tiles.cap_m)
    # Most tiles need no exact distance: a point of theirs is near enough, or the cap about them is too far.
    near_enough = _cosine((radius_m + tiles.reach_m) * (1 - GUARD) - 1)
    too_far = _cosine((radius_m + tiles.reach_m) * (1 + GUARD) + 1 + cap)

    def of(part: slice) -> list[NDArray[np.int64]]:
        some = photos.only(part)
        at = unit_vectors(some.nadir_lat, some.nadir_lon)
        inside: list[NDArray[np.bool_]] = []
        ring: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for i, point in enumerate(at):
            sure = tiles.core @ point >= near_enough  # False for a nadir that is not known
            unsure = ~sure & (middle @ point >= too_far)
            inside.append(sure)
            ring.append((np.full(int(unsure.sum()), i), np.flatnonzero(unsure)))
        photo, tile = (np.concatenate(side).astype(np.int64) for side in zip(*ring, strict=True))
        for start in range(0, len(photo), PAIRS):
            p, t = photo[start : start + PAIRS], tile[start : start + PAIRS]
            asked = {"n": list(range(len(p))), "id": tiles.ids[t].tolist(), "radius": radius_m}
            asked |= {"lat": some.nadir_lat[p].tolist(), "lon": some.nadir_lon[p].tolist()}
            within = np.array(conn.execute(_WITHIN, asked).fetchall(), np.int64).reshape(-1)
            for a, b in zip(p[within], t[within], strict=True):
                inside[a][b] = True
        return [np.flatnonzero(one) for one in inside]

    return of


def _cosine(metres: Floats) -> Floats:
    """Return the cosines (n,) of distances on the sphere; beyond ±1 where no point, or every point, is so near."""
    angle = metres / EARTH_RADIUS_M
    return np.where(angle < 0, 2.0, np.where(angle >= np.pi, -2.0, np.cos(angle)))


def _rows(images: Images, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of images by id, −1 for one that is not among them."""
    at = np.minimum(np.searchsorted(images.ids, ids), len(images) - 1)
    return np.where(images.ids[at] == ids, at, -1)
