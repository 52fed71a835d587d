"""The sphere: unit vectors, angles, caps, destinations. Pure functions of NumPy arrays; degrees in, metres out.

Latitude comes before longitude in every signature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.77  # PostGIS's sphere: (2a + b) / 3 of WGS 84
PHOTO_REACH_M = 2_500_000.0  # an astronaut photograph lies within this of its nadir


def unit_vectors(lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Return unit vectors (…, 3) of places given in degrees: (cos φ cos λ, cos φ sin λ, sin φ)."""
    phi, lam = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def local_axes(lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Return the unit vectors (…, 3) that point up, east and north at places given in degrees, at the poles too."""
    phi, lam = np.radians(np.asarray(lat, float)), np.radians(np.asarray(lon, float))
    east = np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)], axis=-1)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], axis=-1)
    return unit_vectors(lat, lon), east, north


def lat_lon(vectors: ArrayLike) -> tuple[Floats, Floats]:
    """Return (lat, lon) in degrees of vectors (…, 3), which need not have unit length."""
    x, y, z = np.moveaxis(np.asarray(vectors, float), -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def angle(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return the angle in radians between vectors (…, 3), accurate also where it is tiny or near π."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1))


def distance_m(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> Floats:
    """Return great-circle distances in metres on PostGIS's sphere."""
    return EARTH_RADIUS_M * angle(unit_vectors(lat1, lon1), unit_vectors(lat2, lon2))


def destination(lat: ArrayLike, lon: ArrayLike, bearing_deg: ArrayLike, metres: ArrayLike) -> tuple[Floats, Floats]:
    """Return (lat, lon) reached from a place along a great circle: bearing clockwise from north, distance in metres."""
    here, east, north = local_axes(lat, lon)
    theta, delta = np.radians(np.asarray(bearing_deg, float)), np.asarray(metres, float) / EARTH_RADIUS_M
    heading = np.cos(theta)[..., None] * north + np.sin(theta)[..., None] * east
    return lat_lon(np.cos(delta)[..., None] * here + np.sin(delta)[..., None] * heading)
