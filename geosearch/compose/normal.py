"""The standard normal distribution's tail Q(z) = 1 − Φ(z) and its inverse.

Near the top of a ranking Φ is 1 but for digits that float64 does not have; Q keeps them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from geosearch.geometry import Floats


def tail(z: ArrayLike) -> Floats:
    """Return Q(z) elementwise, float64; 0.5 erfc(z / √2)."""
    z = np.asarray(z, np.float64)
    return np.array([0.5 * math.erfc(x / math.sqrt(2)) for x in z.ravel().tolist()]).reshape(z.shape)


def tail_inverse(p: float) -> float:
    """Return z with Q(z) = p, for p in (0, 1); ±inf at 0 and 1. Bisection: exact to the last digits of z."""
    if p <= 0:
        return math.inf
    if p >= 1:
        return -math.inf
    low, high = -40.0, 40.0
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if 0.5 * math.erfc(middle / math.sqrt(2)) > p:
            low = middle
        else:
            high = middle
