"""What nadir-aware retrieval is measured with: the images of archives, where they were taken and what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import psycopg
import shapely
from numpy.typing import NDArray

from geosearch.catalog.problems import IMPOSSIBLE_NADIR
from geosearch.database.archives import get_archive_id
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, Floats, angle, unit_vectors

_IMAGES = """
    select i.id, i.archive_id, i.name, i.uri, a.root, st_y(i.nadir::geometry), st_x(i.nadir::geometry),
           %(impossible)s = any (i.problems), st_y(p.place::geometry), st_x(p.place::geometry),
           st_y(p.middle::geometry), st_x(p.middle::geometry), st_asbinary(i.footprint::geometry), i.reach_m
    from geosearch.image i join geosearch.archive a on a.id = i.archive_id
    cross join lateral (select geosearch.encoded_place(i.nadir, i.footprint, i.problems) as place,
                               geosearch.encoded_place(null, i.footprint) as middle) p
    where i.archive_id = any (%(archives)s) order by i.id
"""


@dataclass(frozen=True)
class Images:
    """n images in the order of their ids; every array has n rows. Angles in degrees, NaN where not known.

    uris, roots: where their files lie. nadir_lat, nadir_lon: of nadirs that can be trusted: none that is flagged as
    impossible. place_lat, place_lon: what a model that reads places is told of an image of the database: its nadir or,
    without one, the middle of its footprint (`geosearch.encoded_place`). A query is told its nadir alone: where its
    footprint lies is what is asked. middle_lat, middle_lon: of the footprint, a photograph's true centre. cap_m: how
    far from it the footprint reaches on the sphere. core (n, 3): a vertex of the footprint, or the recorded nadir,
    trusted or not, where there is none. reach_m: how far from its recorded place an image may lie.
    """

    ids: NDArray[np.int64]
    archive_ids: NDArray[np.int64]
    names: NDArray[np.object_]
    uris: NDArray[np.object_]
    roots: NDArray[np.object_]
    nadir_lat: Floats
    nadir_lon: Floats
    impossible: NDArray[np.bool_]
    place_lat: Floats
    place_lon: Floats
    middle_lat: Floats
    middle_lon: Floats
    cap_m: Floats
    core: Floats
    reach_m: Floats

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, rows: NDArray[Any] | slice) -> Images:
        """Return some of the images."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def read_images(conn: psycopg.Connection[Any], archives: Sequence[str]) -> Images:
    """Return all images of archives. Raises UnknownNameError for an archive that is not there, InputError for none."""
    if not archives:
        raise InputError("no archive is named; name one or more")
    scope = {"archives": [get_archive_id(conn, name) for name in archives], "impossible": IMPOSSIBLE_NADIR}
    rows: list[Any] = conn.execute(_IMAGES, scope).fetchall()
    if not rows:
        raise InputError(f"archive {', '.join(archives)} holds no image; catalogue one (`geosearch catalog`)")
    columns: list[Any] = list(zip(*rows, strict=True))
    impossible = np.array(columns[7], bool)
    lat, lon, place_lat, place_lon, middle_lat, middle_lon, reach_m = (
        _floats(columns[i]) for i in (5, 6, 8, 9, 10, 11, 13)
    )
    cap_m, core = _bounds(columns[12], unit_vectors(middle_lat, middle_lon), unit_vectors(lat, lon))
    return Images(
        ids=np.array(columns[0], np.int64),
        archive_ids=np.array(columns[1], np.int64),
        names=np.array(columns[2], object),
        uris=np.array(columns[3], object),
        roots=np.array(columns[4], object),
        nadir_lat=np.where(impossible, np.nan, lat),
        nadir_lon=np.where(impossible, np.nan, lon),
        impossible=impossible,
        place_lat=place_lat,
        place_lon=place_lon,
        middle_lat=middle_lat,
        middle_lon=middle_lon,
        cap_m=cap_m,
        core=core,
        reach_m=reach_m,
    )


def _bounds(footprints: Sequence[bytes | None], middle: Floats, nadir: Floats) -> tuple[Floats, Floats]:
    """Return how far each footprint reaches from its middle (n,) in metres, and a point of each place (n, 3)."""
    cap, core = np.full(len(footprints), np.nan), nadir.copy()
    points, index = shapely.get_coordinates(shapely.from_wkb(list(footprints)), return_index=True)
    if len(points):
        vectors = unit_vectors(points[:, 1], points[:, 0])
        there, first = np.unique(index, return_index=True)
        cap[there] = EARTH_RADIUS_M * np.maximum.reduceat(angle(vectors, middle[index]), first)
        core[there] = vectors[first]
    return cap, core


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], float)
