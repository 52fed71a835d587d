"""The checkerboard of location encoders: the sphere cut into cells of one size, a class each. Arrays in, arrays out.

As in RANGE (arXiv 2502.19781) and in its source, "Geographic location encoding with spherical harmonics and sinusoidal
representation networks" (arXiv 2310.06743): N places on a Fibonacci lattice, the i-th of class i mod 16; any other
place has the class of the nearest one. More places: smaller cells, higher frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.evaluation.extra import sklearn
from geosearch.evaluation.probe import Split
from geosearch.geometry import Floats, lat_lon, unit_vectors

# RANGE shows five scales; which, its text and code do not say. These span cells about 23°, 16°, 10°, 7° and 5° wide.
SCALES = (100, 200, 500, 1000, 2000)
CLASSES = 16
SAMPLES = 10_000


@dataclass(frozen=True)
class Board:
    """places: how many cells. lat, lon (n,) in degrees, label (n,) 0 … 15, and which rows are fitted and judged."""

    places: int
    lat: Floats
    lon: Floats
    label: NDArray[np.int64]
    split: Split


def fibonacci(count: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return (lat, lon, i) of the lattice of 2 (count // 2) places: lat = asin(2i / (2N + 1)), lon = i · 360 / φ.

    N = count // 2, i = −N … N − 1, φ the golden ratio; lon in −180 … 180.
    """
    half = count // 2
    if half < 1:
        raise InputError(f"a lattice of {count} places cannot be made; give two or more")
    i = np.arange(-half, half)
    lat = np.degrees(np.arcsin(2 * i / (2 * half + 1)))
    # The turns are reduced before they become degrees: i · 360 / φ would lose digits.
    turns = np.mod(i / ((1 + 5**0.5) / 2), 1.0)
    return lat, np.where(turns > 0.5, turns - 1, turns) * 360, i


def labels(lat: ArrayLike, lon: ArrayLike, places: int, classes: int = CLASSES) -> NDArray[np.int64]:
    """Return the class (n,) of each place: that of the nearest of `places` lattice places, by great circle."""
    lattice_lat, lattice_lon, i = fibonacci(places)
    tree = sklearn("neighbors").KDTree(unit_vectors(lattice_lat, lattice_lon))
    nearest = tree.query(unit_vectors(lat, lon), return_distance=False)[:, 0]
    return np.asarray(np.mod(i, classes)[nearest], np.int64)


def board(places: int, samples: int = SAMPLES, seed: int = 0) -> Board:
    """Return a checkerboard: `samples` random places, uniform on the sphere, to fit, and a lattice of them to judge."""
    train_lat, train_lon = lat_lon(np.random.RandomState(seed).normal(size=(3, samples)).T)
    test_lat, test_lon, _ = fibonacci(samples)
    lat, lon = np.concatenate([train_lat, test_lat]), np.concatenate([train_lon, test_lon])
    split = Split("checkerboard", np.arange(samples), np.arange(samples, len(lat)))
    return Board(places, lat, lon, labels(lat, lon, places), split)
