"""The banks that are measured: of the database, of a file, or made of Blue Marble in memory without a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.bluemarble import camera, raster
from geosearch.bluemarble.tiles import TILE_M, land_tiles
from geosearch.errors import InputError
from geosearch.evaluation.probe import cells
from geosearch.geometry import Floats
from geosearch.item import Item
from geosearch.range.bank import Bank

PIXELS = 112
BLOCK = 128

Watch = Callable[[int, int], None]


def stored(name: str) -> Bank:
    """Return a bank of the database, read into memory. Raises UnknownNameError, DatabaseError."""
    from geosearch.database import connection
    from geosearch.range.store import read_bank

    with connection.connect() as conn:
        return read_bank(conn, name)


def from_npz(path: Path, ask: str) -> Bank:
    """Return the bank of a file of the published layout. ask: the location encoder that asks it."""
    from geosearch.range.npz import read_npz

    return read_npz(path, ask)


def blue_marble(
    places: int, ask: str, watch: Watch | None = None, keys: str = "mini-clip", values: str = "features:mini-clip"
) -> Bank:
    """Return a bank of about `places` tiles of Blue Marble, 300 km wide, evenly over land, the same each time.

    ask: the location encoder that asks it, trained against `keys`. keys, values: models that read images. watch: is
    told how many tiles are done, and of how many.
    """
    from geosearch.encoders import registry

    lat, lon = land_tiles(places, -90.0, 90.0)
    models = [registry.load(keys), registry.load(values)]
    earth = raster.load()
    made: list[list[NDArray[np.float32]]] = [[], []]
    for start in range(0, len(lat), BLOCK):
        part = slice(start, start + BLOCK)
        patch = camera.tile_view(lat[part], lon[part], TILE_M, PIXELS)
        pictures = np.clip(np.rint(earth.sample(*patch)), 0, 255).astype(np.uint8)
        items = [Item(image=Image.fromarray(picture)) for picture in pictures]
        for vectors, model in zip(made, models, strict=True):
            vectors.append(model.encode(items))
        if watch:
            watch(min(start + BLOCK, len(lat)), len(lat))
    facts: dict[str, Any] = {"key_model": keys, "value_model": values, "source": "Blue Marble, tiles of 300 km"}
    return Bank.of("blue_marble", ask, lat, lon, np.concatenate(made[0]), np.concatenate(made[1]), **facts)


def thinned(bank: Bank, share: float, seed: int = 0) -> Bank:
    """Return `share` of a bank's places, 0 … 1: as many, to one, of each region as of the whole (systematic sampling).

    Places are taken at equal steps from a seeded start along the order of 10° cells, shuffled within each.
    """
    if not 0 < share <= 1:
        raise InputError(f"a bank can be thinned to a share above 0 and up to 1, not {share}")
    return bank.take(systematic(bank.lat, bank.lon, round(share * len(bank)), seed))


def systematic(lat: Floats, lon: Floats, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return `count` rows (sorted) of places (n,), each 10° cell giving its share to within one row."""
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(lat)), cells(lat, lon)))
    step = len(lat) / max(count, 1)
    picked = np.floor((np.arange(max(count, 1)) + rng.random()) * step).astype(np.int64)
    return np.sort(order[np.minimum(picked, len(lat) - 1)])
