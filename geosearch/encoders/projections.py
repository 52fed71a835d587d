"""Map projections that encoders put before their network."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.encoders.coordinates import degrees

# Equal Earth (Šavrič, Patterson and Jenny 2018, eq. 7–9) and the scale by which GeoCLIP brings x to −1 … 1.
_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796
_SCALE = 66.50336 / 180


def equal_earth(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
    """Return (n, 2): x (east, ±1) and y (north, ±0.487) of places in degrees, as GeoCLIP scales them.

    Raises InputError for places that are not on Earth.
    """
    lats, lons = degrees(lat, lon)
    t = np.arcsin(math.sqrt(3) / 2 * np.sin(np.radians(lats)))
    t2 = t * t
    t6 = t2**3
    slope = 9 * _A4 * t6 * t2 + 7 * _A3 * t6 + 3 * _A2 * t2 + _A1
    x = 2 * math.sqrt(3) * np.radians(lons) * np.cos(t) / (3 * slope)
    y = t * (_A4 * t6 * t2 + _A3 * t6 + _A2 * t2 + _A1)
    return _SCALE * np.stack([x, y], axis=1)
