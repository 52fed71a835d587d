"""An embedding as a picture of the world: three independent components of it become red, green and blue.

Standardise every number, FastICA with three components, equalise each channel's histogram (RANGE, arXiv 2502.19781, as
SINR, arXiv 2306.02564, before it). Places of one colour have like embeddings; the colours themselves mean nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.bluemarble import raster
from geosearch.errors import InputError
from geosearch.evaluation.extra import sklearn
from geosearch.geometry import Floats

Encode = Callable[[Floats, Floats], NDArray[Any]]

SEED = 2001
SAMPLE = 12_000  # places that the components are found from
CHUNK = 8_192
BLANK = 255  # white: what is not shown


def ica_map(
    encode: Encode,
    path: Path,
    width: int = 720,
    bbox: tuple[float, float, float, float] | None = None,
    land_only: bool = False,
) -> None:
    """Write an RGB PNG of an embedding over the world or a box (south, west, north, east; across 180°: west > east).

    encode: lat, lon (n,) in degrees → embeddings (n, d), d ≥ 3. width: pixels; degrees of longitude are all of one
    width, and in the middle latitude a degree of latitude is as high as it is there wide. land_only: the sea is white.
    The components are found from a fixed sample of places inside, evenly by area: the same map for the same embedding.
    Raises InputError for a box that holds nothing and for embeddings with fewer than three independent numbers.
    """
    lat, lon = grid(width, bbox)
    shown = np.ones(lat.shape, bool)
    if land_only:
        shown = raster.load().surface(lat, lon) != raster.OCEAN
        if not shown.any():
            raise InputError("there is no land in the box; leave out the land-only choice or give another box")
    components = _components(encode, lat[shown], lon[shown])
    picture = np.full((*lat.shape, 3), BLANK, np.uint8)
    picture[shown] = np.stack([equalise(c) for c in components.T], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, optimize=True)


def grid(width: int, bbox: tuple[float, float, float, float] | None = None) -> tuple[Floats, Floats]:
    """Return (lat, lon), each (height, width), of the pixels' centres, north at the top; no pixel lies on an edge."""
    south, west, north, east = bbox or (-90.0, -180.0, 90.0, 180.0)
    wide = east - west if east > west else east - west + 360
    if not (-90 <= south < north <= 90 and 0 < wide <= 360 and width >= 1):
        raise InputError(
            f"no map can be drawn of south {south}, west {west}, north {north}, east {east}, {width} pixels wide; give "
            "south < north in −90 … 90, west and east in −180 … 180"
        )
    # One scale along the middle parallel: a box far from the equator does not look squashed.
    height = max(1, round(width * (north - south) / (wide * np.cos(np.radians((south + north) / 2)))))
    rows = north - (np.arange(height) + 0.5) * (north - south) / height
    columns = west + (np.arange(width) + 0.5) * wide / width
    lat, lon = np.meshgrid(rows, (columns + 180) % 360 - 180, indexing="ij")
    return lat, lon


def equalise(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values (n,) as 0 … 255 by rank, so that every level is as frequent as any other; equals stay equal."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2  # the mean rank of each distinct value, from 0
    return np.minimum(middle[inverse] * 256 / len(values) + 128 / len(values), 255).astype(np.uint8)


def _components(encode: Encode, lat: Floats, lon: Floats) -> Floats:
    """Return three components (n, 3) of the embeddings of places, computed in chunks."""
    rng = np.random.default_rng(SEED)
    area = np.cos(np.radians(lat))
    sample = np.sort(rng.choice(len(lat), min(SAMPLE, len(lat)), replace=False, p=area / area.sum()))
    x = _encoded(encode, lat[sample], lon[sample])
    if min(x.shape) < 3:
        raise InputError(f"embeddings of shape {x.shape} have no three components; an ICA map needs three or more")
    mean, spread = x.mean(0), x.std(0)
    spread[spread < 1e-12] = 1.0
    x = (x - mean) / spread
    # Whitening here and not in FastICA: sklearn's stumbles over a number that is the same everywhere.
    strength, axes = np.linalg.eigh(x.T @ x / len(x))
    if strength[-3] < 1e-9:
        raise InputError("fewer than three numbers of these embeddings differ from place to place; there is no map")
    whiten = axes[:, -3:] / np.sqrt(strength[-3:])
    ica = sklearn("decomposition").FastICA(random_state=SEED, max_iter=1000, tol=1e-7, whiten=False)
    with warnings.catch_warnings():
        # Colours that could still turn a little are as good.
        warnings.simplefilter("ignore", sklearn("exceptions").ConvergenceWarning)
        ica.fit(x @ whiten)
    turn = whiten @ ica.components_.T
    turn *= np.sign(((x @ turn) ** 3).sum(0))  # ICA leaves signs open: the longer tail is bright
    parts = [
        (_encoded(encode, lat[s : s + CHUNK], lon[s : s + CHUNK]) - mean) / spread @ turn
        for s in range(0, len(lat), CHUNK)
    ]
    return np.concatenate(parts)


def _encoded(encode: Encode, lat: Floats, lon: Floats) -> Floats:
    x = np.asarray(encode(lat, lon), np.float64)
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise InputError(f"the embedding of latitude {lat[bad[0]]:.3f}, longitude {lon[bad[0]]:.3f} is not finite")
    return x
