"""Endless training batches: a tile of the ground, a simulated photograph that overlaps it, and a caption."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.bluemarble.raster import LAND
from geosearch.geometry import Floats, destination
from geosearch.training import captions, ground
from geosearch.training.split import split


@dataclass(frozen=True)
class Batch:
    """tiles and photos (n, s, s, 3) uint8, texts (n), flags and claims (n, attributes): what is shown, what is said."""

    tiles: NDArray[np.uint8]
    photos: NDArray[np.uint8]
    texts: list[str]
    flags: NDArray[np.bool_]
    claims: NDArray[np.bool_]


def land_places(n: int, rng: np.random.Generator, within_m: float = 110_000.0) -> tuple[Floats, Floats]:
    """Return (lat, lon) of n places, uniform on the sphere, with land at them or within about ``within_m``."""
    earth = raster.load()
    lats, lons, have = [], [], 0
    while have < n:
        lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 4 * n)))
        lon = rng.uniform(-180, 180, 4 * n)
        near_lat, near_lon = destination(
            lat[:, None], lon[:, None], np.arange(0, 360, 60)[None, :], np.full((1, 6), within_m)
        )
        dry = (earth.surface(near_lat, near_lon) == LAND).any(1) | (earth.surface(lat, lon) == LAND)
        lats.append(lat[dry])
        lons.append(lon[dry])
        have += int(dry.sum())
    return np.concatenate(lats)[:n], np.concatenate(lons)[:n]


def nadirs(
    lat: Floats, lon: Floats, rng: np.random.Generator, spread_m: float = 420_000.0, most_m: float = 2_000_000.0
) -> tuple[Floats, Floats]:
    """Return nadirs from which the places could have been photographed: half-normal offsets in any direction.

    The default's median (283 km) and 95th percentile (823 km) are near those of astronaut photographs with a known
    centre (322 and 764 km in a public collection of 17 763).
    """
    away = np.minimum(np.abs(rng.normal(0, spread_m, len(lat))), most_m)
    nadir_lat, nadir_lon = destination(lat, lon, rng.uniform(0, 360, len(lat)), away)
    return nadir_lat, nadir_lon


class Views:
    """Batches from everywhere but the held-out ground, drawn with one seed."""

    def __init__(self, seed: int, size: int, places: int = 200_000) -> None:
        self._rng = np.random.default_rng(seed)
        self._size = size
        lat, lon = land_places(places, self._rng)
        keep = split().trainable(lat, lon)
        keep &= (np.abs(lat) < 66) | (
            self._rng.random(len(lat)) < 0.3
        )  # bare ice teaches little: less of the far poles
        self._lat, self._lon = lat[keep], lon[keep]

    def batch(self, n: int) -> Batch:
        """Return n pairs of different places."""
        rng, earth = self._rng, raster.load()
        some = rng.choice(len(self._lat), n, replace=False)
        lat, lon = self._lat[some], self._lon[some]
        tile_patch = camera.tile_view(lat, lon, rng.uniform(230e3, 380e3, n), self._size, rng.normal(0, 6, n))
        clear = earth.sample(*tile_patch)
        flags = ground.describe(clear, tile_patch)
        texts, claims = captions.compose(flags, rng)
        aim_lat, aim_lon = destination(lat, lon, rng.uniform(0, 360, n), 110e3 * np.sqrt(rng.uniform(0, 1, n)))
        eye_lat, eye_lon = nadirs(aim_lat, aim_lon, rng)
        width = np.exp(rng.uniform(np.log(190e3), np.log(440e3), n))
        photo_patch = camera.photo_view(eye_lat, eye_lon, aim_lat, aim_lon, width, self._size, rng.uniform(0, 360, n))
        photos = atmosphere.apply(earth.sample(*photo_patch), rng)
        tiles = atmosphere.apply(clear, rng, atmosphere.LIGHT)
        return Batch(tiles, photos, texts, flags, claims)
