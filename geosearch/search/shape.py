"""GeoJSON geometries on the sphere: their rings and their middle. Pure functions."""

from __future__ import annotations

from typing import Any

import numpy as np

from geosearch.geometry import Floats, angle, lat_lon, unit_vectors

Shape = dict[str, Any]


def rings(shape: Shape) -> list[Floats]:
    """Return the rings of a Polygon or MultiPolygon as arrays (n, 2) of longitude and latitude; none of a Point."""
    if shape["type"] == "Polygon":
        polygons = [shape["coordinates"]]
    elif shape["type"] == "MultiPolygon":
        polygons = shape["coordinates"]
    else:
        return []
    return [np.array(ring, float)[:, :2] for polygon in polygons for ring in polygon]


def middle(shape: Shape) -> tuple[float, float] | None:
    """Return (lat, lon) of a Point or of an area's centroid; None for an empty shape.

    The centroid is the direction of the integral of the position over the area, ½ Σ θ n over the edges (θ an edge's
    length, n its great circle's pole): exact, whatever the number of pieces, their holes, and how densely an edge is
    drawn. The sides of two pieces that were cut apart at 180° cancel.
    """
    if shape["type"] == "Point":
        if not shape["coordinates"]:
            return None
        lon, lat = shape["coordinates"][:2]
        return float(lat), float(lon)
    total, corners = np.zeros(3), np.zeros(3)
    for ring in rings(shape):
        v = unit_vectors(ring[:, 1], ring[:, 0])
        normal = np.cross(v[:-1], v[1:])
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        pole = np.divide(normal, length, out=np.zeros_like(normal), where=length > 0)
        total += (angle(v[:-1], v[1:])[:, None] * pole).sum(0) / 2
        corners += v[:-1].sum(0)
    if not np.any(corners) and not np.any(total):
        return None
    # A ring that runs clockwise gives the opposite direction; a shape without area, such as a line, none at all.
    if np.linalg.norm(total) < 1e-12:
        total = corners
    elif total @ corners < 0:
        total = -total
    lat, lon = lat_lon(total)
    return float(lat), float(lon)
