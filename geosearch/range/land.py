"""Banks of Blue Marble: tiles of 300 km, evenly over land, seen by encoders of images. For demos and experiments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from geosearch.bluemarble import camera, raster
from geosearch.bluemarble.tiles import TILE_M, land_tiles
from geosearch.encoders.base import Encoder, Vectors
from geosearch.errors import InputError, ModelError
from geosearch.geometry import Floats
from geosearch.item import Item
from geosearch.range.bank import Bank
from geosearch.range.sample import systematic

BATCH = 64
MOST = 200_000
_PIXELS = 112  # a tile, where a model does not say how large its pictures are

Progress = Callable[[int, int], None]


def land_places(count: int) -> tuple[Floats, Floats]:
    """Return (lat, lon) of exactly `count` centres of tiles with land in them, evenly over the land of the Earth."""
    if not 1 <= count <= MOST:
        raise InputError(f"land:N is a bank of 1 … {MOST} places, not {count}")
    lat, lon = land_tiles(max(count + count // 20, 100), -90.0, 90.0)
    if len(lat) < count:  # the finer lattice met less land than the one that it was planned on
        lat, lon = land_tiles(2 * count, -90.0, 90.0)
    rows = systematic(lat, lon, count)
    return lat[rows], lon[rows]


def land_bank(
    name: str,
    places: tuple[Floats, Floats],
    encoder: str,
    keys: Encoder,
    values: Encoder,
    progress: Progress | None = None,
) -> Bank:
    """Return a bank of tiles around places (lat, lon), each (n,), that two models of images see.

    encoder: the location encoder that asks it. Raises ModelError for a model that reads no images.
    """
    for model in (keys, values):
        if "image" not in model.info.reads:
            raise ModelError(f"{model.info.name} does not read images; a bank's keys and values are of images")
    lat, lon = places
    size = max(_size(keys), _size(values))
    earth = raster.load()
    made: tuple[list[Vectors], list[Vectors]] = ([], [])
    for start in range(0, len(lat), BATCH):
        part = slice(start, start + BATCH)
        pixels = earth.sample(*camera.tile_view(lat[part], lon[part], TILE_M, size))
        items = [Item(image=Image.fromarray(tile)) for tile in np.clip(np.rint(pixels), 0, 255).astype(np.uint8)]
        made[0].append(keys.encode(items))
        made[1].append(made[0][-1] if values is keys else values.encode(items))
        if progress:
            progress(min(start + BATCH, len(lat)), len(lat))
    return Bank.of(
        name,
        encoder,
        lat,
        lon,
        np.concatenate(made[0]),
        np.concatenate(made[1]),
        key_model=keys.info.name,
        value_model=values.info.name,
        source=f"land:{len(lat)}",
        properties={"imagery": "Blue Marble Next Generation (NASA Earth Observatory, R. Stöckli), tiles of 300 km"},
    )


def _size(model: Encoder) -> int:
    size = model.info.preprocessing.get("size")
    return max(size) if isinstance(size, list | tuple) else _PIXELS
