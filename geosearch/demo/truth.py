"""Which tiles a photograph really shows: those whose footprint overlaps its own, by more than a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
import shapely

from geosearch.geometry import EARTH_RADIUS_M, Floats, local_axes, unit_vectors
from geosearch.search.shape import Shape, middle, rings

LEAST_M2 = 1.0  # below this an overlap is a shared border and rounding

# st_intersects also finds footprints that only touch: the area decides below. The index is on the place.
_TOUCHING = """
    select i.id, st_asgeojson(i.footprint, 9) from geosearch.image i
    join geosearch.archive a on a.id = i.archive_id and a.name = %s
    where i.footprint is not null and st_intersects(coalesce(i.footprint, i.nadir), st_geomfromgeojson(%s)::geography)
"""


def relevant(conn: psycopg.Connection[Any], archive: str, footprints: Mapping[str, Shape]) -> dict[str, frozenset[int]]:
    """Return, for each photograph's footprint, the ids of the archive's images that overlap it."""
    found = {}
    for name, footprint in footprints.items():
        rows = conn.execute(_TOUCHING, [archive, json.dumps(footprint)]).fetchall()
        areas = overlaps_m2(footprint, [json.loads(row[1]) for row in rows])
        found[name] = frozenset(int(row[0]) for row, area in zip(rows, areas, strict=True) if area > LEAST_M2)
    return found


def overlaps_m2(footprint: Shape, others: Sequence[Shape]) -> list[float]:
    """Return the area that a footprint shares with each of others, in square metres near its middle.

    On the gnomonic plane round the footprint's middle great circles are straight lines, so overlap is decided
    exactly on the sphere; areas grow away from the middle. Everything must lie within 90° of it.
    """
    centre = middle(footprint)
    assert centre is not None
    here = _plane(footprint, centre)
    return [float(shapely.intersection(here, _plane(other, centre)).area) for other in others]


def _plane(shape: Shape, centre: tuple[float, float]) -> shapely.Geometry:
    up, east, north = local_axes(*centre)

    def flat(ring: Floats) -> Floats:
        v = unit_vectors(ring[:, 1], ring[:, 0])
        return np.column_stack([v @ east, v @ north]) / (v @ up)[:, None] * EARTH_RADIUS_M

    # Pieces of one footprint that were cut apart at 180° are joined again; holes do not occur in the demo.
    return shapely.union_all([shapely.make_valid(shapely.Polygon(flat(ring))) for ring in rings(shape)])
