"""Encoders without weights, as the paper of RANGE compares with them (arXiv 2502.19781, table of location encoders).

Each takes places in degrees and returns the features in the order of the published code, which passes lon before lat
and, in `theory` and `sphere2vec-*`, degrees where the papers have radians. `theory` has the shortest length, 1000, that
gives the paper's figures; the released code says 1, offered as `theory-fine`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.encoders.base import ModelInfo
from geosearch.encoders.harmonics import MAX_DEGREE, spherical_harmonics
from geosearch.encoders.places import PlaceEncoderBase

Array = NDArray[np.float64]
FAMILY = "coordinates"
# Shortest and longest scale and their number: of the published code for sphere2vec's (its inat2018, linear).
_THEORY, _THEORY_FINE = (1000.0, 10000.0, 32), (1.0, 10000.0, 32)
_SPHERES = {"c": (1.0, 0.01, 48), "c+": (1.0, 0.01, 16), "m": (1.0, 0.01, 48), "m+": (1.0, 0.01, 32)}


def scales(first: float, last: float, count: int) -> Array:
    """Return `count` lengths (count,) from first to last, each the same factor times the one before."""
    return np.asarray(first * np.exp(np.arange(count) * (math.log(last / first) / (count - 1))))


def direct(lat: Array, lon: Array) -> Array:
    """Return (n, 2): lon and lat in radians."""
    return np.radians(np.stack([lon, lat], axis=1))


def unit_vector(lat: Array, lon: Array) -> Array:
    """Return (n, 3): the point on the unit sphere, x towards (0, 0), z towards the north pole."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=1)


def wrap(lat: Array, lon: Array) -> Array:
    """Return (n, 4): cosine and sine of lon, then of lat (Mac Aodha, Cole and Perona, arXiv 1906.05272)."""
    phi, lam = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(lam), np.sin(lam), np.cos(phi), np.sin(phi)], axis=1)


def theory(lat: Array, lon: Array, lengths: Array) -> Array:
    """Return (n, 6 · lengths): grid cells of Space2Vec (Mai et al., arXiv 2003.00824, eq. 5).

    At each length, sine and cosine of the place's component along three directions 120° apart, in degrees ÷ length.
    """
    turns = np.radians([0.0, 120.0, 240.0])
    along = lon[:, None] * np.cos(turns) + lat[:, None] * np.sin(turns)  # (n, 3)
    angles = along[:, None, :] / lengths[:, None]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(lat), -1)


def sphere2vec(lat: Array, lon: Array, lengths: Array, kind: str) -> Array:
    """Return Sphere2Vec's features (Mai et al., arXiv 2201.10489, eq. 4 and 8–10), kind "c", "c+", "m", "m+".

    (n, 6, 12, 10 or 16 · lengths), by kind: the published code writes each product twice, and so do we, for a ridge
    probe weighs a doubled feature differently.
    """
    phi, lam = lat[:, None] / lengths, lon[:, None] / lengths  # (n, lengths)
    whole, turn = np.broadcast_to(lat[:, None], phi.shape), np.broadcast_to(lon[:, None], phi.shape)
    single = [np.sin(phi), np.cos(phi), np.sin(lam), np.cos(lam)]
    if kind.startswith("c"):
        mixed = [np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam)]
    else:
        mixed = [np.cos(phi) * np.cos(turn), np.cos(whole) * np.cos(lam),
                 np.cos(phi) * np.sin(turn), np.cos(whole) * np.sin(lam)]  # fmt: skip
    parts = [*(single if kind.endswith("+") else single[:1]), *mixed]
    return np.stack(parts, axis=-1).repeat(2, axis=-1).reshape(len(lat), -1)


class CoordinatesEncoder(PlaceEncoderBase):
    """Places → features that need no weights; not normalised they are what the paper's probe takes."""

    def __init__(self, info: ModelInfo, features: Callable[[Array, Array], Array]) -> None:
        super().__init__(info)
        self._features = features

    def _embed(self, lat: Array, lon: Array) -> Array:
        return self._features(lat, lon)


def features_of(kind: str) -> tuple[Callable[[Array, Array], Array], dict[str, Any]] | None:
    """Return (what `coordinates:KIND` computes, what it is in plain values), None for a kind that does not exist."""
    simple = {"direct": direct, "unit-vector": unit_vector, "wrap": wrap}
    if kind in simple:
        return simple[kind], {"features": kind}
    head, _, tail = kind.rpartition("-")
    if kind in ("theory", "theory-fine"):
        lengths = _THEORY if kind == "theory" else _THEORY_FINE
        return lambda lat, lon: theory(lat, lon, scales(*lengths)), {"features": "theory", "scales": list(lengths)}
    if head == "sphere2vec" and tail in _SPHERES:
        spans = _SPHERES[tail]
        return (
            lambda lat, lon: sphere2vec(lat, lon, scales(*spans), tail),
            {"features": kind, "scales": list(spans)},
        )
    if head == "harmonics" and re.fullmatch("[1-9][0-9]?", tail):
        degree = int(tail)
        if degree <= MAX_DEGREE:
            facts = {"features": "spherical harmonics", "degree": degree}
            return lambda lat, lon: spherical_harmonics(lat, lon, degree), facts
    return None


def kinds() -> list[str]:
    """Return the kinds there are; of harmonics one example (degrees 1 … 40 exist)."""
    return ["direct", "unit-vector", "wrap", "theory", "theory-fine",
            *(f"sphere2vec-{kind}" for kind in _SPHERES), "harmonics-10"]  # fmt: skip


def describe(name: str, kind: str) -> tuple[ModelInfo, Callable[[Array, Array], Array]]:
    """Return the identity and the features of a kind that exists; in place of weights its facts are hashed."""
    found = features_of(kind)
    assert found is not None
    features, facts = found
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    dimension = features(np.zeros(1), np.zeros(1)).shape[1]
    info = ModelInfo(name, FAMILY, "1", digest, dimension, "cosine", frozenset({"place"}), facts)
    return info, features
