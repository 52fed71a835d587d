"""Banks of random places, and a location encoder without weights, for the tests of RANGE."""

from __future__ import annotations

from typing import Any

import numpy as np

from geosearch.geometry import lat_lon, unit_vectors
from geosearch.range.bank import Bank


def random_places(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (lat, lon), uniform on the sphere."""
    return lat_lon(rng.standard_normal((n, 3)))


def random_bank(n: int = 300, dk: int = 12, dv: int = 20, seed: int = 0, **facts: Any) -> Bank:
    """A bank as those of real models are: keys in a cone, values far from 0."""
    rng = np.random.default_rng(seed)
    lat, lon = random_places(rng, n)
    keys = rng.standard_normal((n, dk)) + rng.standard_normal(dk)
    values = rng.standard_normal((n, dv)) * 3 + 5 * rng.standard_normal(dv)
    return Bank.of("toy", "no-encoder", lat, lon, keys, values, **facts)


def random_queries(n: int, dk: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places and unit queries for them: lat, lon (n,), queries (n, dk)."""
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((n, dk)) + 1
    return *random_places(rng, n), queries / np.linalg.norm(queries, axis=1, keepdims=True)


def relative(found: np.ndarray, truth: np.ndarray) -> float:
    """The greatest relative error, L2 a row."""
    return float((np.linalg.norm(found - truth, axis=1) / np.linalg.norm(truth, axis=1)).max())


class PositionEncoder:
    """A location encoder: the unit vector of the place, padded with zeros."""

    class _Info:
        name, dimension, reads = "position", 12, frozenset({"place"})

    info = _Info()

    def encode_places(self, lat: Any, lon: Any, normalise: bool = True) -> np.ndarray:
        return np.pad(unit_vectors(lat, lon), ((0, 0), (0, 9)))
