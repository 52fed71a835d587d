"""The demo's archive: Blue Marble cut into tiles of 300 km of land and coast, with an index of their footprints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from geosearch.bluemarble import camera, raster
from geosearch.bluemarble.tiles import TILE_M, land_tiles
from geosearch.errors import InputError
from geosearch.geometry import Floats

TILE_PIXELS = 96  # Blue Marble itself has about 40 across such a tile
SOUTH, NORTH = -60.0, 75.0  # from 51.6° of latitude the station sees no further than about 71°
INDEX = "tiles.geojson"
BATCH = 64

FACTS = {
    "title": "Blue Marble, cut into tiles of 300 km",
    "licence": "public domain",
    "attribution": "NASA Earth Observatory, Blue Marble Next Generation, R. Stöckli",
}

Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Tiles:
    """Names and centres (n,) in degrees of the tiles; corners: (lat, lon), each (n, 4)."""

    name: list[str]
    lat: Floats
    lon: Floats
    corners: tuple[Floats, Floats]

    def __len__(self) -> int:
        return len(self.name)


def plan_tiles(count: int) -> Tiles:
    """Return about `count` tiles with land in them, spread evenly over the Earth; the same for the same count."""
    if not 1 <= count <= 50_000:
        raise InputError(f"the demo can be cut into 1 … 50000 tiles, not {count}")
    lat, lon = land_tiles(count, SOUTH, NORTH)
    name = [f"{_half(a, 'NS', 2)}{_half(b, 'EW', 3)}" for a, b in zip(lat, lon, strict=True)]
    return Tiles(name, lat, lon, camera.tile_corners(lat, lon, TILE_M))


def write_tiles(folder: Path, tiles: Tiles, progress: Step | None = None) -> Path:
    """Write the tiles that are not there yet as JPEG files, then the index, and return the index's path.

    Files appear whole or not at all, so that a run that was killed is continued by the next.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i, name in enumerate(tiles.name) if not (folder / f"{name}.jpg").exists()]
    earth = raster.load() if missing else None
    for start in range(0, len(missing), BATCH):
        some = missing[start : start + BATCH]
        assert earth is not None
        view = camera.tile_view(tiles.lat[some], tiles.lon[some], TILE_M, TILE_PIXELS)
        pixels = np.clip(np.rint(earth.sample(*view)), 0, 255).astype(np.uint8)
        for i, picture in zip(some, pixels, strict=True):
            write_whole(folder / f"{tiles.name[i]}.jpg", partial(_save, picture))
        if progress:
            progress(len(tiles) - len(missing) + start + len(some), len(tiles))
    index = folder / INDEX
    write_whole(index, lambda path: path.write_text(json.dumps(_index(tiles)), "utf-8"))
    return index


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its name and move it there when it is whole."""
    unfinished = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _half(degrees: float, sides: str, digits: int) -> str:
    return f"{sides[int(degrees < 0)]}{abs(degrees):0{digits + 2}.1f}"


def _save(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).save(path, "JPEG", quality=92, subsampling=0)


def _index(tiles: Tiles) -> dict[str, object]:
    lat, lon = tiles.corners
    features = []
    for i, name in enumerate(tiles.name):
        ring = [[round(float(x), 7), round(float(y), 7)] for x, y in zip(lon[i], lat[i], strict=True)]
        features.append(
            {
                "type": "Feature",
                "properties": {"name": name, "location": f"{name}.jpg"},
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            }
        )
    return {"type": "FeatureCollection", "features": features}
