"""A lattice of overlapping tiles over all land and coast: the database that small models are measured on."""

from __future__ import annotations

import numpy as np

from geosearch.demo import bluemarble, camera
from geosearch.demo.bluemarble import LAND
from geosearch.geometry import EARTH_RADIUS_M, Floats


def lattice(
    spacing_m: float, width_m: float, least_land: float = 0.02, most_lat: float = 84.0
) -> tuple[Floats, Floats]:
    """Return (lat, lon) of tile centres in rows ``spacing_m`` apart, wherever a tile shows that share of land."""
    step = np.degrees(spacing_m / EARTH_RADIUS_M)
    lats, lons = [], []
    for row, lat in enumerate(np.arange(-most_lat, most_lat, step)):
        count = max(1, round(360 * np.cos(np.radians(lat)) / step))
        lons.append(-180 + (np.arange(count) + 0.5 * (row % 2)) * 360 / count)
        lats.append(np.full(count, lat))
    lat, lon = np.concatenate(lats), np.concatenate(lons)
    patch = camera.tile_view(lat, lon, width_m, 16)
    dry = (bluemarble.load().surface(patch.lat, patch.lon) == LAND).mean((1, 2)) >= least_land
    return lat[dry], lon[dry]
