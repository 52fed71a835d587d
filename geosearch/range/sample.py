"""Some of many places, stratified: each part of the Earth gives its share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats

_ROW_DEG = 2.0  # as the cells of sql/15_cells.sql: rows of two degrees, parted so that all have nearly one area


def sample_size(places: int, fraction: float) -> int:
    """Return how many places a fraction of them is: rounded, and at least one. Raises InputError for no fraction."""
    if not 0 < fraction <= 1:
        raise InputError(f"a fraction of the places is above 0 and up to 1, not {fraction}")
    return max(1, round(places * fraction))


def sampled(fraction: float, seed: int, places: int) -> dict[str, Any]:
    """Return what is recorded of a sample."""
    return {"fraction": fraction, "seed": seed, "candidates": places}


def systematic(lat: ArrayLike, lon: ArrayLike, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Return `count` rows (ascending) of places (n,) in degrees, at equal steps along an order of the Earth's cells.

    So every run of neighbouring cells gives its share to within one place. The seed says where the steps begin.
    """
    lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
    rng = np.random.default_rng(seed)
    order = spatial_order(lat, lon)
    picked = ((np.arange(count) + rng.random()) * (len(lat) / count)).astype(np.int64)
    return np.sort(order[picked])


def spatial_order(lat: Floats, lon: Floats) -> NDArray[np.int64]:
    """Return rows (n,) in the order of cells of two degrees; every other row of cells runs from east to west."""
    row = np.minimum(((lat + 90) / _ROW_DEG).astype(np.int64), round(180 / _ROW_DEG) - 1)
    middle = (row + 0.5) * _ROW_DEG - 90
    across = np.maximum(np.rint(180 * np.cos(np.radians(middle))), 1)
    column = np.minimum((lon + 180) / 360 * across, across - 1).astype(np.int64)
    column = np.where(row % 2 == 1, -column, column)
    return np.lexsort((lon, lat, column, row)).astype(np.int64)
