"""Checks of places that whole columns of a table share: each returns, by row, what is wrong."""

from __future__ import annotations

import numpy as np

from geosearch.catalog.options import Options
from geosearch.geometry import Floats

Wrong = dict[int, str]


def latitudes(lat: Floats, what: str = "latitude") -> Wrong:
    """Return, by row, latitudes that are outside −90 … 90; NaN (missing) passes."""
    return {
        int(i): f"{what} {lat[i]:g} is outside -90 … 90"
        + (" (are latitude and longitude swapped?)" if abs(lat[i]) <= 180 else "")
        for i in np.flatnonzero(np.abs(lat) > 90)
    }


def longitudes(lon: Floats, options: Options, what: str = "longitude") -> tuple[Floats, Wrong]:
    """Return longitudes within −180 … 180 and, by row, those outside of what the table counts; NaN passes.

    0 … 360 is accepted only when the caller says so: a single 200 may as well be a slip of the pen.
    """
    if options.longitudes == "360":
        outside = (lon < 0) | (lon > 360)
        wrong = {int(i): f"{what} {lon[i]:g} is outside 0 … 360" for i in np.flatnonzero(outside)}
        return np.where(lon > 180, lon - 360, lon), wrong
    hint = "; a table that counts 0 … 360 is read with --longitudes 360"
    return lon, {
        int(i): f"{what} {lon[i]:g} is outside -180 … 180" + (hint if 180 < lon[i] <= 360 else "")
        for i in np.flatnonzero(np.abs(lon) > 180)
    }
