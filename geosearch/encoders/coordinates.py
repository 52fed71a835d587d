"""Latitudes and longitudes, checked before anything is computed from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError


def degrees(lat: ArrayLike, lon: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (lat, lon) as two float64 arrays (n,) of degrees.

    Raises InputError, naming the row, for latitudes beyond ±90, longitudes beyond ±180, NaN and unequal lengths.
    """
    lats, lons = (np.atleast_1d(np.asarray(given, np.float64)) for given in (lat, lon))
    if lats.ndim != 1 or lats.shape != lons.shape:
        raise InputError(f"latitudes {lats.shape} and longitudes {lons.shape} are not two lists of one length")
    for name, values, limit in (("latitude", lats, 90), ("longitude", lons, 180)):
        wrong = np.flatnonzero(~(np.abs(values) <= limit))  # `not <=` also for NaN
        if len(wrong):
            row = int(wrong[0])
            raise InputError(f"place {row} of {len(values)}: {name} {values[row]} is not within ±{limit}")
    return lats, lons
