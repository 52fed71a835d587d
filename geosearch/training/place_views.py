"""What a location encoder learns from: places, and mini-clip's vectors of several views of each, made once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.encoders.base import Encoder
from geosearch.geometry import Floats
from geosearch.training.split import Split, split
from geosearch.training.views import land_places, nadirs

VIEWS = ("a tile of 300 km", "a tile of 220–400 km, turned a little, in light weather", "a simulated photograph")
BLOCK = 2000  # places a file: what an interrupted run loses at most
_ENCODED = 250


@dataclass(frozen=True)
class PlaceViews:
    """lat, lon (n,) float64 degrees; vectors (n, len(VIEWS), d) float32 of unit length: mini-clip's, of each view."""

    lat: Floats
    lon: Floats
    vectors: NDArray[np.float32]


def place_views(
    folder: Path,
    encoder: Encoder,
    count: int,
    seed: int,
    ground: Split | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> PlaceViews:
    """Return views of ``count`` places outside the held-out ground; blocks that lie in ``folder`` are read, not made.

    ground: what is held out (the project's split by default). report is told how many places are ready.
    The same encoder, count and seed give the same views, interrupted or not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ground = ground or split()
    outside = hashlib.sha256(repr(ground).encode()).hexdigest()[:8]
    lat, lon = training_places(count, np.random.default_rng(seed), ground)
    blocks = []
    for number, start in enumerate(range(0, count, BLOCK)):
        part = slice(start, start + BLOCK)
        # The name says what the block depends on: another model, ground, seed or count never reads it.
        file = folder / f"{encoder.info.weights_sha256[:12]}-{outside}-{seed}-{count}-{number:04d}.npy"
        if not file.exists():
            vectors = _encode(encoder, lat[part], lon[part], np.random.default_rng([seed, number]))
            with file.with_suffix(".tmp").open("wb") as out:
                np.save(out, vectors.astype(np.float16))
            file.with_suffix(".tmp").replace(file)
        blocks.append(np.load(file).astype(np.float32))
        report(min(start + BLOCK, count))
    vectors = np.concatenate(blocks)
    return PlaceViews(lat, lon, vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def training_places(count: int, rng: np.random.Generator, ground: Split) -> tuple[Floats, Floats]:
    """Return (lat, lon) of ``count`` places near land, uniform on the sphere, outside caps and guards.

    Beyond 66° only three of ten are kept, as for mini-clip: bare ice teaches little.
    """
    lats, lons, have = [], [], 0
    while have < count:
        lat, lon = land_places(max(count, 1000), rng)
        keep = ground.trainable(lat, lon) & ((np.abs(lat) < 66) | (rng.random(len(lat)) < 0.3))
        lats.append(lat[keep])
        lons.append(lon[keep])
        have += int(keep.sum())
    return np.concatenate(lats)[:count], np.concatenate(lons)[:count]


def render(lat: Floats, lon: Floats, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the views (len(VIEWS), n, size, size, 3) of places: each is the middle of what its views show."""
    earth, n = raster.load(), len(lat)
    plain = earth.sample(*camera.tile_view(lat, lon, 300e3, size))
    varied = earth.sample(*camera.tile_view(lat, lon, rng.uniform(220e3, 400e3, n), size, rng.normal(0, 6, n)))
    eye_lat, eye_lon = nadirs(lat, lon, rng)
    width = np.exp(rng.uniform(np.log(190e3), np.log(440e3), n))
    oblique = earth.sample(*camera.photo_view(eye_lat, eye_lon, lat, lon, width, size, rng.uniform(0, 360, n)))
    return np.stack(
        [
            np.clip(np.rint(plain), 0, 255).astype(np.uint8),
            atmosphere.apply(varied, rng, atmosphere.LIGHT),
            atmosphere.apply(oblique, rng),
        ]
    )


def _encode(encoder: Encoder, lat: Floats, lon: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the vectors (n, len(VIEWS), d) of places, a few hundred pictures in memory at a time."""
    from PIL import Image

    from geosearch.item import Item

    size = int(encoder.info.preprocessing["size"][0])
    blocks = []
    for start in range(0, len(lat), _ENCODED):
        part = slice(start, start + _ENCODED)
        views = render(lat[part], lon[part], size, rng)
        items = [Item(image=Image.fromarray(picture)) for picture in views.reshape(-1, size, size, 3)]
        blocks.append(encoder.encode(items).reshape(len(VIEWS), -1, encoder.info.dimension).swapaxes(0, 1))
    return np.concatenate(blocks)
