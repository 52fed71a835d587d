"""Footprints: from boxes, corners and polygons in degrees to MultiPolygons that are right as PostGIS geography.

A geography's edges are great circles, so a line that was meant along a parallel must be densified before it is stored,
a shape that passes ±180 must be cut there, and no piece may be so wide that its inside is in doubt.
docs/decisions/0003-footprints.md gives the reasons and the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
import shapely.errors
from shapely.geometry import MultiPolygon, Polygon

from geosearch.catalog.crossing import (
    STEP_DEG,
    Edges,
    Geometries,
    along_great_circles,
    crosses_itself,
    cut_at_180,
    jumps_over_180,
    surrounds_a_pole,
    turned_inside,
    with_area,
)
from geosearch.errors import InputError
from geosearch.geometry import Floats, lat_lon, unit_vectors

PIECE_DEG = 90.0  # widest piece of an outline
SLAB_DEG = 45.0  # of one that is cut: PostGIS takes some eighths of the globe for everything but themselves


@dataclass(frozen=True)
class Footprint:
    """An outline made ready: `geometry` is None where nothing with an area was left; `self_crossing` as it came."""

    geometry: MultiPolygon | None
    self_crossing: bool = False


def box(west: float, south: float, east: float, north: float) -> MultiPolygon:
    """Return the latitude–longitude box as pieces of at most 90°, cut at ±180, densified to 1°.

    `west` > `east` crosses ±180, as in STAC and GeoJSON; east − west = 360 is the whole circle. Degrees.
    Raises InputError for a box without area or outside −90 … 90, −360 … 360.
    """
    if not all(np.isfinite((west, south, east, north))):
        raise InputError(f"the box {west}, {south}, {east}, {north} has a corner that is not a finite number")
    if not -90 <= south <= north <= 90:
        raise InputError(f"the box's latitudes {south} … {north} are not in order within -90 … 90")
    if max(abs(west), abs(east)) > 360 or east - west > 360:
        raise InputError(f"the box's longitudes {west} … {east} are not within one turn of -180 … 180")
    width = east - west if east >= west else (east - west) % 360
    if width == 0 or south == north:
        raise InputError(f"the box {west}, {south}, {east}, {north} has no area")
    start = (west + 180) % 360 - 180
    # Cut at ±180 first, then each part into equal pieces.
    parts = [(start, min(start + width, 180.0))] + ([(-180.0, start + width - 360)] if start + width > 180 else [])
    pieces = []
    for low, high in parts:
        if high > low:
            columns = list(pairwise(np.linspace(low, high, int(np.ceil((high - low) / PIECE_DEG)) + 1)))
            rows = list(pairwise(np.linspace(south, north, int(np.ceil((north - south) / PIECE_DEG)) + 1)))
            pieces += [_dense(shapely.box(a, c, b, d)) for a, b in columns for c, d in rows]
    return MultiPolygon(pieces)


def boxes(west: Floats, south: Floats, east: Floats, north: Floats) -> tuple[Geometries, dict[int, str]]:
    """Return `box` of every row (n,) and, by row, why there is none. The plain ones are made all at once."""
    made: Geometries = np.full(len(west), None, dtype=object)
    refused: dict[int, str] = {}
    with np.errstate(invalid="ignore"):
        ordered = (west >= -180) & (west < east) & (east <= 180) & (south > -90) & (south < north) & (north < 90)
        plain = ordered & (east - west <= PIECE_DEG) & (north - south <= PIECE_DEG)
    rectangles = shapely.box(west[plain], south[plain], east[plain], north[plain])
    made[plain] = shapely.multipolygons(shapely.segmentize(rectangles, STEP_DEG), indices=np.arange(plain.sum()))
    for i in np.flatnonzero(~plain):
        try:
            made[i] = box(west[i], south[i], east[i], north[i])
        except InputError as error:
            refused[int(i)] = str(error)
    return made, refused


def polygon(shape: Any, edges: Edges = "straight", crossing: bool = True) -> Footprint:
    """Return a Polygon or MultiPolygon (x = longitude) cut at ±180 and over the poles, valid, wide pieces cut.

    edges: what joins two vertices. "straight" in latitude and longitude (GeoJSON, RFC 7946: densified to 1°)
    or "great-circle" (not densified unless it must be cut at more places than ±180).
    crossing: a jump of more than 180° between neighbours passes ±180 (True), or is really that wide (False).
    Raises InputError where coordinates are not finite, or latitudes outside −90 … 90, longitudes outside −360 … 360.
    """
    try:
        return _polygon(shape, edges, crossing)
    except shapely.errors.ShapelyError as error:
        raise InputError(f"the outline cannot be made valid ({error})") from error


def _polygon(shape: Any, edges: Edges, crossing: bool) -> Footprint:
    rings = shapely.get_coordinates(shape)
    if shape is None or len(rings) == 0:
        return Footprint(None)
    _check(rings)
    shape = shapely.force_2d(shape)
    jumps = crossing and jumps_over_180(shape)
    crossed = crosses_itself(shape, jumps)
    polar = edges == "great-circle" and surrounds_a_pole(shape)
    if jumps:
        shape = cut_at_180(along_great_circles(shape) if polar else shape, edges)
    if not shapely.is_valid(shape):
        shape = shapely.make_valid(shape)
    if not jumps and np.abs(rings[:, 0]).max() > 180:
        shape = turned_inside(shape)
    whole = with_area(shape)
    # Great circles bound a shape on the sphere as they are, unless it was unrolled round a pole.
    if polar or (edges == "straight" and any(_size(part) > PIECE_DEG for part in whole.geoms)):
        whole = _slabs(whole)
    if edges == "straight":
        whole = MultiPolygon([_dense(part) for part in whole.geoms])
    return Footprint(None if whole.is_empty else whole, crossed)


def centres(shapes: Geometries) -> tuple[Floats, Floats]:
    """Return (lat, lon) of the middle of each footprint's outline: the mean of its vertices' unit vectors."""
    points, index = shapely.get_coordinates(shapes, return_index=True)
    total = np.zeros((len(shapes), 3))
    np.add.at(total, index, unit_vectors(points[:, 1], points[:, 0]))
    lat, lon = lat_lon(total)
    lost = ~total.any(axis=1)
    return np.where(lost, np.nan, lat), np.where(lost, np.nan, lon)


def _check(xy: Floats) -> None:
    if not np.isfinite(xy).all():
        raise InputError("the outline has a coordinate that is not a finite number")
    low, high = xy[:, 1].min(), xy[:, 1].max()
    if low < -90 or high > 90:
        raise InputError(f"the outline's latitude {low if low < -90 else high:g} is outside -90 … 90")
    low, high = xy[:, 0].min(), xy[:, 0].max()
    if low < -360 or high > 360:
        raise InputError(f"the outline's longitude {low if low < -360 else high:g} is outside -360 … 360")


def _slabs(shape: MultiPolygon) -> MultiPolygon:
    """Cut along every 45th meridian and parallel."""
    west, south = (axis.ravel() for axis in np.meshgrid(np.arange(-180, 180, SLAB_DEG), np.arange(-90, 90, SLAB_DEG)))
    cut = shapely.intersection(shape, shapely.box(west, south, west + SLAB_DEG, south + SLAB_DEG))
    return MultiPolygon([part for piece in cut for part in with_area(piece).geoms])


def _size(part: Any) -> float:
    west, south, east, north = part.bounds
    return float(max(east - west, north - south))


def _dense(part: Polygon) -> Polygon:
    """Put a vertex at least every degree, except along a pole, where every longitude is one point."""
    return Polygon(_dense_ring(part.exterior), [_dense_ring(ring) for ring in part.interiors])


def _dense_ring(ring: Any) -> Floats:
    xy = shapely.get_coordinates(shapely.segmentize(ring, STEP_DEG))
    polar = np.abs(xy[:, 1]) == 90
    between = polar & np.roll(polar, 1) & np.roll(polar, -1)
    between[[0, -1]] = False
    return xy[~between]
