"""Footprints of photographs from their four corners, all rows of a table at once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geosearch.catalog.crossing import Geometries, with_area
from geosearch.catalog.footprints import polygon
from geosearch.errors import InputError
from geosearch.geometry import Floats, lat_lon, unit_vectors


def corners(quads: Floats) -> tuple[Geometries, NDArray[np.bool_]]:
    """Return footprints (n,) and self-crossing flags (n,) of photographs' corners (n, 4, 2): latitude, longitude.

    Corners follow each other round the picture; edges are great circles and are not densified.
    Longitudes lie within −180 … 180, latitudes within −90 … 90 (the caller has rejected other rows).
    A footprint is None where the corners enclose no area or do not lie within one hemisphere.
    """
    quads = np.asarray(quads, float)
    if quads.ndim != 3 or quads.shape[1:] != (4, 2):
        raise InputError(f"corners have shape {quads.shape}, not (n, 4, 2)")
    made: Geometries = np.full(len(quads), None, dtype=object)
    if not len(quads):
        return made, np.zeros(0, bool)
    plane, seen = _gnomonic(quads)
    flat: Any = shapely.polygons(np.nan_to_num(plane))
    valid = np.asarray(shapely.is_valid(flat))
    # 1e-14 of the squared radius is half a square metre: corners that coincide or lie in one line.
    hollow = valid & (shapely.area(flat) < 1e-14)
    lon = quads[..., 1]
    plain = seen & valid & ~hollow & (np.ptp(lon, axis=1) < 180)
    made[plain] = shapely.multipolygons(shapely.polygons(quads[plain][..., ::-1]), indices=np.arange(plain.sum()))
    for i in np.flatnonzero(seen & ~hollow & ~plain):
        with suppress(InputError):  # what cannot be cut is left without a footprint, like what has no area
            made[i] = _round_the_corner(quads[i], repair=not valid[i])
    return made, seen & ~valid & np.array([m is not None for m in made])


def _gnomonic(quads: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Project onto the tangent plane at each middle, where great circles are straight; False where out of sight."""
    vectors = unit_vectors(quads[..., 0], quads[..., 1])
    middle = vectors.mean(axis=1)
    length = np.linalg.norm(middle, axis=-1, keepdims=True)
    middle /= np.where(length > 0, length, 1)
    helper = np.where(np.abs(middle[:, 2:]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    east = np.cross(helper, middle)
    east /= np.where((n := np.linalg.norm(east, axis=-1, keepdims=True)) > 0, n, 1)
    north = np.cross(middle, east)
    depth = np.einsum("nij,nj->ni", vectors, middle)
    seen = (depth > 1e-3).all(axis=1)
    depth = np.where(depth > 1e-3, depth, 1)
    x, y = np.einsum("nij,nj->ni", vectors, east) / depth, np.einsum("nij,nj->ni", vectors, north) / depth
    return np.stack([x, y], axis=-1), seen


def _round_the_corner(quad: Floats, repair: bool) -> MultiPolygon | None:
    """Make one footprint that crosses ±180, lies over a pole or crosses itself."""
    if repair:
        crossing = _meeting_point(quad)
        # A bow tie is stored as the two triangles that were drawn.
        parts = [_round_the_corner(part, repair=False) for part in crossing]
        whole = with_area(shapely.union_all([p for p in parts if p is not None]))
        return None if whole.is_empty else whole
    ring = quad[:, ::-1]
    if np.ptp(ring[:, 0]) < 180:
        shape = Polygon(ring)
        return MultiPolygon([shape]) if shape.area > 0 else None
    return polygon(Polygon(ring), edges="great-circle").geometry


def _meeting_point(quad: Floats) -> list[Floats]:
    """Return the two triangles of a bow tie; nothing where edges merely touch or fold back."""
    v = unit_vectors(quad[:, 0], quad[:, 1])
    for a, b, c, d in ((0, 1, 2, 3), (1, 2, 3, 0)):  # edge a–b meets edge c–d
        m = np.cross(np.cross(v[a], v[b]), np.cross(v[c], v[d]))
        if np.linalg.norm(m) < 1e-15:
            continue
        m *= np.sign(m @ v.mean(axis=0))
        lat, lon = lat_lon(m)
        x = np.array([float(lat), float(lon)])
        if all(
            np.cross(v[i], m) @ np.cross(v[i], v[j]) >= 0 and np.cross(m, v[j]) @ np.cross(v[i], v[j]) >= 0
            for i, j in ((a, b), (c, d))
        ):
            return [np.array([x, quad[b], quad[c]]), np.array([x, quad[d], quad[a]])]
    return []
