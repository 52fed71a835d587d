"""Outlines that pass ±180 or lie round a pole: found, wound, cut. Used by footprints.py; x is longitude, degrees."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon

from geosearch.errors import InputError
from geosearch.geometry import Floats, unit_vectors

Edges = Literal["straight", "great-circle"]
Geometries = NDArray[np.object_]

STEP_DEG = 1.0  # longest edge of a densified outline; at 60° N its great circle leaves the parallel by 105 m


def _rings(shape: Any) -> list[Floats]:
    return [shapely.get_coordinates(ring) for part in shapely.get_parts([shape]) for ring in shapely.get_rings(part)]


def jumps_over_180(shape: Any) -> bool:
    """Tell whether neighbouring vertices lie more than 180° of longitude apart."""
    steps = [np.abs(np.diff(ring[:, 0])) for ring in _rings(shape)]
    # Exactly one turn is the edge of a whole belt (-180 to 180), not a jump.
    return any(((step > 180) & ~np.isclose(step, 360)).any() for step in steps)


def crosses_itself(shape: Any, jumps: bool) -> bool:
    """Tell whether an outline meets itself, also where it jumps over ±180 or runs round a pole."""
    if not jumps:
        return not shapely.is_valid(shape)
    for ring in _rings(shape):
        lon = np.unwrap(np.radians(ring[:, 0]))
        if np.isclose(lon[0], lon[-1]):
            flat = np.column_stack([np.degrees(lon), ring[:, 1]])
        else:  # it does not close in the plane because it runs round a pole: look from there
            away = (90 - ring[:, 1] if ring[:, 1].mean() > 0 else 90 + ring[:, 1])[:, None]
            flat = away * np.column_stack([np.cos(lon), np.sin(lon)])
        flat[-1] = flat[0]  # else rounding leaves a gap, and closing it makes an edge that crosses its neighbour
        if not shapely.is_simple(shapely.linearrings(flat)):
            return True
    return False


def _turn(degrees: float) -> Callable[[Floats], Floats]:
    return lambda xy: xy - [degrees, 0]


def turned_inside(shape: Any) -> Any:
    """Bring what runs on past ±180 back by whole turns; straight edges only, so the plane is enough."""
    moved = [
        shapely.transform(shapely.intersection(shape, shapely.box(turn - 180, -90, turn + 180, 90)), _turn(turn))
        for turn in (-360.0, 0.0, 360.0)
    ]
    # Parts on both sides of ±180 stay apart; only an outline of more than one turn overlaps itself.
    return shapely.union_all([with_area(band) for band in moved])


def cut_at_180(shape: Any, edges: Edges) -> Any:
    """Return an outline that jumps over ±180 as pieces on either side of it, closed over the pole that it surrounds.

    Raises InputError where that is not possible.
    """
    import antimeridian

    great = edges == "great-circle"
    shape = _oriented(shape)
    fix = antimeridian.fix_multi_polygon if shape.geom_type == "MultiPolygon" else antimeridian.fix_polygon
    try:
        return fix(shape, fix_winding=True, great_circle=great)
    except (AssertionError, ValueError, IndexError, RecursionError, shapely.errors.ShapelyError) as error:
        raise InputError(f"the outline cannot be cut at ±180 ({error or type(error).__name__})") from error


def _oriented(shape: Any) -> Any:
    """Wind outer rings anticlockwise as seen across ±180; a ring round a pole so that it holds the nearer pole."""

    def wound(ring: Any, outer: bool) -> Floats:
        xy = shapely.get_coordinates(ring)
        lon = np.degrees(np.unwrap(np.radians(xy[:, 0])))
        if np.isclose(lon[0], lon[-1]):
            forward = shapely.is_ccw(shapely.linearrings(np.column_stack([lon, xy[:, 1]])))
        else:
            forward = (lon[-1] > lon[0]) == (xy[:, 1].mean() > 0)
        return xy if forward == outer else xy[::-1]

    made = [
        Polygon(wound(part.exterior, True), [wound(hole, False) for hole in part.interiors])
        for part in shapely.get_parts([shape])
    ]
    return MultiPolygon(made) if len(made) > 1 else made[0]


def surrounds_a_pole(shape: Any) -> bool:
    """Tell whether a ring makes a whole turn of longitude."""
    turned = [np.unwrap(np.radians(ring[:, 0])) for ring in _rings(shape)]
    return any(abs(lon[-1] - lon[0]) > np.pi for lon in turned)


def along_great_circles(shape: Any) -> Any:
    """Put vertices where the great circles between the vertices cross whole degrees of longitude.

    Near a pole a short edge sweeps over many longitudes, so steps are counted in those; ±180 is left to the cutting.
    """

    def ring(xy: Floats) -> Floats:
        v, lon = unit_vectors(xy[:, 1], xy[:, 0]), np.degrees(np.unwrap(np.radians(xy[:, 0])))
        out = []
        for i, ((a, b), (start, end)) in enumerate(zip(pairwise(v), pairwise(lon), strict=True)):
            out.append(xy[i : i + 1])
            x, y, z = np.cross(a, b)
            low, high = sorted((start, end))
            whole = np.arange(np.floor(low) + 1, np.ceil(high))
            whole = whole[(whole + 180) % 360 != 0]
            if len(whole) and z:
                m = np.radians(whole)
                lat = np.degrees(np.arctan(-(x * np.cos(m) + y * np.sin(m)) / z))
                points = np.column_stack([(whole + 180) % 360 - 180, lat])
                out.append(points if end > start else points[::-1])
        return np.concatenate([*out, xy[-1:]])

    made = [
        Polygon(ring(shapely.get_coordinates(p.exterior)), [ring(shapely.get_coordinates(r)) for r in p.interiors])
        for p in shapely.get_parts([shape])
    ]
    return MultiPolygon(made) if len(made) > 1 else made[0]


def with_area(shape: Any) -> MultiPolygon:
    """Keep what has an area of a valid geometry of any type."""
    flat = [shapely.get_parts(part) for part in shapely.get_parts([shape])]
    parts = [p for group in flat for p in shapely.get_parts(group) if p.geom_type == "Polygon" and p.area > 0]
    return MultiPolygon(parts)
