"""Two map projections of the sphere, forward and back: degrees on the ground, x to the right and y up on paper.

A map lies within |x| <= 1 and |y| <= its height. Pure functions of arrays.

Disc: azimuthal equidistant, true distances and bearings from its middle. World: Equal Earth (Šavrič, Patterson and
Jenny, 2018, https://doi.org/10.1080/13658816.2018.1504949), true areas.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from geosearch.geometry import EARTH_RADIUS_M, Floats, angle, destination, unit_vectors


@dataclass(frozen=True)
class Disc:
    """What lies within radius_m of a place, seen from above: at most half of the way round."""

    lat: float
    lon: float
    radius_m: float
    height: float = 1.0

    def forward(self, lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
        """Return (x, y) of places; x² + y² > 1 beyond the radius."""
        middle, there = unit_vectors(self.lat, self.lon), unit_vectors(lat, lon)
        phi, lam = np.radians([self.lat, self.lon])
        east = np.array([-np.sin(lam), np.cos(lam), 0.0])
        north = np.array([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)])
        bearing = np.arctan2(there @ east, there @ north)
        r = angle(middle, there) * EARTH_RADIUS_M / self.radius_m
        return r * np.sin(bearing), r * np.cos(bearing)

    def backward(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Return (lat, lon); NaN outside the disc."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        r = np.hypot(x, y)
        lat, lon = destination(self.lat, self.lon, np.degrees(np.arctan2(x, y)), r * self.radius_m)
        return np.where(r <= 1, lat, np.nan), np.where(r <= 1, lon, np.nan)


_A = (1.340264, -0.081106, 0.000893, 0.003796)
_ROOT3 = np.sqrt(3.0)
_X_MAX = 2 * _ROOT3 * np.pi / (3 * _A[0])  # x of latitude 0, longitude 180


@dataclass(frozen=True)
class World:
    """The whole Earth, Greenwich in the middle."""

    height: float = 0.48671694  # y of the pole over x of the equator's end

    def forward(self, lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
        """Return (x, y) of places."""
        theta = np.arcsin(_ROOT3 / 2 * np.sin(np.radians(np.asarray(lat, float))))
        t2 = theta**2
        slope = _A[0] + 3 * _A[1] * t2 + t2**3 * (7 * _A[2] + 9 * _A[3] * t2)
        x = 2 * _ROOT3 * np.radians(np.asarray(lon, float)) * np.cos(theta) / (3 * slope)
        return x / _X_MAX, _height(theta) / _X_MAX

    def backward(self, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
        """Return (lat, lon); NaN outside the map."""
        right, up = np.asarray(x, float) * _X_MAX, np.asarray(y, float) * _X_MAX
        theta = up / _A[0]
        for _ in range(8):  # Newton's method, quadratic: 8 steps are more than enough
            t2 = theta**2
            slope = _A[0] + 3 * _A[1] * t2 + t2**3 * (7 * _A[2] + 9 * _A[3] * t2)
            theta = np.clip(theta - (_height(theta) - up) / slope, -np.pi / 3, np.pi / 3)
        t2 = theta**2
        slope = _A[0] + 3 * _A[1] * t2 + t2**3 * (7 * _A[2] + 9 * _A[3] * t2)
        lon = np.degrees(3 * right * slope / (2 * _ROOT3 * np.cos(theta)))
        lat = np.degrees(np.arcsin(np.clip(2 / _ROOT3 * np.sin(theta), -1, 1)))
        off = (np.abs(lon) > 180) | (np.abs(up) > _height(np.pi / 3) + 1e-9)
        return np.where(off, np.nan, lat), np.where(off, np.nan, lon)


Projection = Disc | World


def _height(theta: Floats | float) -> Floats:
    t2 = np.asarray(theta) ** 2
    return theta * (_A[0] + _A[1] * t2 + t2**3 * (_A[2] + _A[3] * t2))
