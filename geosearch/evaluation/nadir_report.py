"""Recall of nadir-aware retrieval: over all photographs, region by region, on held-out ground, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_vectors import VectorSource
from geosearch.evaluation.nadir_ways import Prior, Rotations
from geosearch.geometry import PHOTO_REACH_M, Floats

KS = (1, 5, 10, 20, 100)
REGION_M = 2_500_000.0


@dataclass(frozen=True)
class Measured:
    """What was measured. photos: those asked, q; relevant: rows of tiles for each; answers: by way, rows (q, depth).

    ranks: by way, the rank (q,) of the first relevant tile; inf: not among the answers; NaN: there is none.
    facts: what is to be said of the run (model, archives, counts of what was left out, …), plain JSON values.
    """

    photos: Images
    tiles: Images
    relevant: list[NDArray[np.int64]]
    answers: Mapping[str, NDArray[np.int32]]
    ranks: Mapping[str, Floats]
    facts: Mapping[str, Any]


def measure(
    conn: psycopg.Connection[Any],
    photos: Images,
    tiles: Images,
    source: VectorSource,
    ways: Sequence[str],
    *,
    rotations: Rotations = "none",
    depth: int = 100,
    priors: Mapping[str, Prior] | None = None,
    radius_m: float = PHOTO_REACH_M,
    progress: Callable[[str], Callable[[int, int], None]] | None = None,
) -> Measured:
    """Rank the tiles for each photograph in each way, and find its first relevant one.

    photos, tiles: of `nadir_data.read_images`; source: of `nadir_vectors`. Photographs without a footprint are not
    asked. ways: names in `nadir_ways.WAYS`. priors: by way, "prior" and "concat+prior".
    progress: called with what is about to be done, returns what is called with (done, of).
    """
    raise NotImplementedError


def groups(photos: Images) -> dict[str, NDArray[np.bool_]]:
    """Return the groups that are reported apart, and which photographs (q,) are in each.

    "all", "held-out ground" (the true centre lies in a cap of the project's split), "other ground"; for each of the six
    places "Alps", … (the nadir lies within REGION_M) and "Alps, held-out ground", ….
    """
    raise NotImplementedError


def rows(
    ranks: Mapping[str, Floats], photos: Images, ks: Sequence[int] = KS, draws: int = 1000, seed: int = 1
) -> list[dict[str, Any]]:
    """Return a row a group and way: counts, R@k in percent with 95 % intervals, and its lead over the way "image"."""
    raise NotImplementedError
