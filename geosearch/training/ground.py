"""What a view shows, said from its pixels, a land mask, a relief map and its position: the truth behind captions."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.bluemarble import raster
from geosearch.bluemarble.raster import LAKE, OCEAN, Patch

Flags = NDArray[np.bool_]

# Continents as rough outlines (lat, lon): coarse on purpose, they only name a side of the world.
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "africa": [(37.5, -6), (37.5, 11), (33, 12), (31.7, 32.2), (28, 34), (12, 43.5), (12, 52), (-12, 51), (-27, 48),
               (-35.5, 28), (-35.5, 17), (3, 8), (4, -9), (14, -18), (28, -14)],
    "europe": [(36, -10), (36, -5.5), (37.8, 1), (38, 11), (35.5, 15), (34.5, 23.5), (36.5, 27.5), (41, 27), (43, 41),
               (47, 50), (55, 60), (69, 66), (72, 30), (71.5, 20), (68, -26), (62, -26), (50, -12)],
    "asia": [(36.5, 27.5), (41, 27), (43, 41), (47, 50), (55, 60), (69, 66), (82, 60), (78, 110), (73, 179), (65, 179),
             (50, 158), (42, 146), (34, 142), (30, 132), (20, 123), (5, 128), (-9, 127), (-11, 115), (-7, 103), (6, 93),
             (5, 80), (12, 72), (22, 60), (11, 46), (12.8, 43), (28, 34.5), (31.5, 34)],
    "north america": [(72, -168), (84, -70), (84, -20), (70, -21), (59, -43), (47, -52), (25, -77), (18, -61),
                      (10, -61),
                      (8, -77), (7, -82), (14, -93), (22, -112), (40, -126), (54, -134), (55, -165)],
    "south america": [(12.5, -73), (10, -61), (5, -51), (-5, -34), (-23, -40), (-40, -60), (-56, -65), (-53, -76),
                      (-18, -71), (-14, -77.5), (-5, -82), (2, -80), (8, -77.5)],
    "australia": [(-10, 142.5), (-20, 150), (-28, 154.5), (-39, 150), (-44, 148), (-43, 145), (-36, 135), (-35.5, 115),
                  (-22, 112.5), (-13, 129), (-11, 132)],
}  # fmt: skip
CONTINENTS = (*_OUTLINES, "antarctica")
SURFACES = ("desert", "forest", "snow", "green", "coast", "island", "lake", "mountains", "tropical", "boreal")
ATTRIBUTES = (*SURFACES, *CONTINENTS)
_INDEX = {name: i for i, name in enumerate(ATTRIBUTES)}


def attribute(name: str) -> int:
    """Return the column of an attribute in the flags of :func:`describe`."""
    return _INDEX[name]


def describe(pixels: NDArray[np.float32], patch: Patch) -> Flags:
    """Return flags (n, len(ATTRIBUTES)) of clear views: pixels (n, s, s, 3) in 0 … 255 and where they look."""
    r, g, b = np.moveaxis(pixels, -1, 0)
    high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
    water = ((b > r + 12) & (b >= g + 5)) | (high < 16)
    snow = ~water & (low > 150) & (high - low < 50)
    bare = ~water & ~snow & (r >= 95) & (r - b > 25)
    forest = ~water & (g < 48) & (g >= r) & (g > b + 8)
    green = ~water & ~forest & (r < 95) & (g > b + 12)
    land = 1 - _share(water)
    ground = np.maximum(land, 1e-6)
    surface = raster.load().surface(patch.lat[:, ::4, ::4], patch.lon[:, ::4, ::4])
    sea, lake = _share(surface == OCEAN), _share(surface == LAKE)
    rim = np.concatenate([water[:, 0], water[:, -1], water[:, :, 0], water[:, :, -1]], axis=1).mean(1)
    middle = patch.lat.shape[1] // 2
    lat, lon = patch.lat[:, middle, middle], patch.lon[:, middle, middle]
    rough = _roughness_at(patch.lat[:, ::4, ::4], patch.lon[:, ::4, ::4])

    flags = np.zeros((len(pixels), len(ATTRIBUTES)), bool)
    flags[:, _INDEX["desert"]] = (_share(bare) / ground > 0.7) & (land > 0.3)
    flags[:, _INDEX["forest"]] = (_share(forest) / ground > 0.6) & (land > 0.3)
    flags[:, _INDEX["snow"]] = _share(snow) > 0.5
    flags[:, _INDEX["green"]] = (_share(green) / ground > 0.6) & (land > 0.3)
    flags[:, _INDEX["coast"]] = (land > 0.1) & (land < 0.9) & (sea > 0.08)
    flags[:, _INDEX["island"]] = (land > 0.02) & (land < 0.5) & (rim > 0.97) & (sea > 0.4)
    flags[:, _INDEX["lake"]] = (lake > 0.05) & (sea < 0.02)
    flags[:, _INDEX["mountains"]] = (rough > 16) & (land > 0.3)
    flags[:, _INDEX["tropical"]] = flags[:, _INDEX["forest"]] & (np.abs(lat) < 20)
    flags[:, _INDEX["boreal"]] = flags[:, _INDEX["forest"]] & (lat > 48)
    flags[:, len(SURFACES) :] = continents(lat, lon)
    return flags


def continents(lat: NDArray[np.floating], lon: NDArray[np.floating]) -> Flags:
    """Return flags (n, len(CONTINENTS)): in which rough outline a place lies (in two along a shared border)."""
    flags = np.zeros((len(lat), len(CONTINENTS)), bool)
    for i, outline in enumerate(_OUTLINES.values()):
        corners = np.array(outline)
        inside = np.zeros(len(lat), bool)
        for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            crosses = (y0 > lat) != (y1 > lat)
            with np.errstate(divide="ignore", invalid="ignore"):
                inside ^= crosses & (lon < (x1 - x0) * (lat - y0) / (y1 - y0) + x0)
        flags[:, i] = inside
    flags[:, -1] = lat < -60
    return flags


def _share(flags: NDArray[np.bool_]) -> NDArray[np.float64]:
    return flags.mean(axis=(1, 2))


def _roughness_at(lat: NDArray[np.floating], lon: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the mean steepness of the relief map's shading over views, in grey levels a pixel."""
    rough = _roughness()
    rows, columns = rough.shape
    y = np.clip((90 - lat) * rows / 180, 0, rows - 1).astype(np.int32)
    x = ((lon + 180) * columns / 360).astype(np.int32) % columns
    steep = rough[y, x]
    on_land = steep > 0.5
    return (steep * on_land).sum((1, 2)) / np.maximum(on_land.sum((1, 2)), 1)


@cache
def _roughness() -> NDArray[np.float32]:
    """Return the shading's steepness in cells of 16 arc minutes, (675, 1350), from a shaded relief of the world."""
    with Image.open(raster.data_folder() / "shadedrelief.jpg") as picture:
        grey = np.asarray(picture.convert("L"), np.float32)
    down, across = np.gradient(grey)
    steep = np.abs(down) + np.abs(across)
    rows, columns = steep.shape[0] // 675, steep.shape[1] // 1350
    return steep.reshape(675, rows, 1350, columns).mean((1, 3))
