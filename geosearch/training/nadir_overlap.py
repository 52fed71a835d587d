"""How much footprints share: intersections on the sphere, areas in an equal-area projection round the first of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats, local_axes, unit_vectors

Shapes = NDArray[Any]  # of shapely's geometries, longitude first, as PostGIS has them

FARTHEST = np.radians(80.0)  # from the middle of the map; at 90° a gnomonic map ends
_STEP = 0.02  # radians: an edge is bent to its great circle in pieces of this length, 127 km


def gnomonic(shapes: Shapes, lat: float, lon: float) -> Shapes:
    """Return footprints on a map round a place, on which each great circle, and so each edge, is a straight line.

    Units: Earth radii at the middle. What is cut at ±180° is whole again. Raises InputError for what reaches too far.
    """
    up, east, north = local_axes(lat, lon)

    def project(xy: Floats) -> Floats:
        v = unit_vectors(xy[:, 1], xy[:, 0])
        height = v @ up
        if len(height) and height.min() < np.cos(FARTHEST):
            raise InputError(
                f"a footprint reaches more than {np.degrees(FARTHEST):.0f}° from {lat:.2f}, {lon:.2f}: "
                "that is no picture of a tile or a photograph; flag or remove the image"
            )
        return np.stack([v @ east, v @ north], axis=1) / height[:, None]

    flat = shapely.transform(shapes, project)
    # Parts that met at ±180° now share an edge, which makes them one polygon and not a broken collection.
    whole: Shapes = shapely.buffer(flat, 0.0)
    return whole


def area(flat: Shapes) -> Floats:
    """Return the areas (n,) on the sphere, in Earth radii squared, of shapes on a gnomonic map.

    By Lambert's azimuthal equal-area projection round the same place: what lies at tan c there lies at 2 sin(c / 2).
    """

    def spread(xy: Floats) -> Floats:
        tangent = np.hypot(xy[:, 0], xy[:, 1])
        c = np.arctan(tangent)
        return xy * np.where(tangent > 1e-9, 2 * np.sin(c / 2) / np.maximum(tangent, 1e-12), 1.0)[:, None]

    areas: Floats = shapely.area(shapely.transform(shapely.segmentize(flat, _STEP), spread))
    return areas


def shared(shape: Any, others: Shapes, lat: float, lon: float) -> Floats:
    """Return intersection over union (n,), by area on the sphere, of a footprint round (lat, lon) with others."""
    flat = gnomonic(np.concatenate([np.array([shape], object), others]), lat, lon)
    both = area(shapely.intersection(flat[0], flat[1:]))
    areas = area(flat)
    return np.asarray(both / (areas[0] + areas[1:] - both))


def meeting(shapes: Shapes, lat: Floats, lon: Floats, cap: Floats) -> NDArray[np.bool_]:
    """Return which of n footprints share a point, (n, n). lat, lon, cap: the caps round them, degrees and radians."""
    points = unit_vectors(lat, lon)
    near = np.arccos(np.clip(points @ points.T, -1, 1)) <= cap[:, None] + cap
    out = np.eye(len(shapes), dtype=bool)
    for i in range(len(shapes)):
        others = np.flatnonzero(near[i, i + 1 :]) + i + 1
        if len(others):
            flat = gnomonic(np.concatenate([shapes[i : i + 1], shapes[others]]), lat[i], lon[i])
            out[i, others] = shapely.intersects(flat[0], flat[1:])
    return np.asarray(out | out.T)
