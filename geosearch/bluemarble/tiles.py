"""Where to cut tiles: a lattice of overlapping squares, evenly over the sphere, wherever there is land."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble import camera, raster
from geosearch.geometry import Floats

TILE_M = 300_000.0
LAND_SHARE = 0.05  # less land than this is open sea with a rock in it


def land_tiles(count: int, south: float, north: float) -> tuple[Floats, Floats]:
    """Return (lat, lon) of the centres of about `count` tiles of TILE_M with land in them, between two latitudes.

    The lattice is Fibonacci's: every tile has the same share of the Earth. The same count gives the same tiles.
    """
    # The share of the Earth that becomes tiles, measured on a lattice of its own, says how fine a lattice must be.
    points = round(count * 4000 / int(_has_land(*_lattice(4000, south, north)).sum()))
    lat, lon = _lattice(points, south, north)
    keep = _has_land(lat, lon)
    return np.round(lat[keep], 4), np.round(lon[keep], 4)


def _lattice(points: int, south: float, north: float) -> tuple[Floats, Floats]:
    i = np.arange(points) + 0.5
    lat = np.degrees(np.arcsin(1 - 2 * i / points)).astype(np.float64)
    lon = ((i * 360 / ((1 + 5**0.5) / 2) + 180) % 360 - 180).astype(np.float64)
    keep = (lat > south) & (lat < north)
    return lat[keep], lon[keep]


def _has_land(lat: Floats, lon: Floats) -> NDArray[np.bool_]:
    earth = raster.load()
    share = np.empty(len(lat))
    for start in range(0, len(lat), 1000):
        part = slice(start, start + 1000)
        view = camera.tile_view(lat[part], lon[part], TILE_M, 16)
        share[part] = (earth.surface(*view) == raster.LAND).mean((1, 2))
    return share >= LAND_SHARE
