"""Recall@k: the share of queries with at least one relevant image among their first k. Arrays in, figures out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError

KS = (1, 5, 10, 100)


@dataclass(frozen=True)
class Recall:
    """at: share of the counted queries with a hit among the first k, for each k; NaN without any.

    counted: queries that have a relevant image; without_relevant: queries that have none and are left out.
    """

    at: dict[int, float]
    counted: int
    without_relevant: int


def first_hits(rankings: Sequence[Sequence[int]], relevant: Sequence[Collection[int]]) -> NDArray[np.float64]:
    """Return the rank (n,) of each query's first relevant image, from 1; inf: none was found; NaN: there is none.

    rankings: the images' ids, best first, of each query; they may have different lengths. relevant: the ids that are
    right, over the whole database and not only among those that were ranked. Raises InputError for unequal lengths.
    """
    if len(rankings) != len(relevant):
        raise InputError(f"{len(rankings)} rankings cannot be judged by {len(relevant)} sets of relevant images")
    ranks = np.full(len(rankings), np.inf)
    for i, (ranking, right) in enumerate(zip(rankings, relevant, strict=True)):
        if not right:
            ranks[i] = np.nan
            continue
        wanted = frozenset(right)
        ranks[i] = next((rank for rank, image in enumerate(ranking, 1) if image in wanted), np.inf)
    return ranks


def recall(ranks: ArrayLike, ks: Sequence[int] = KS) -> Recall:
    """Return Recall@k of the ranks (n,) of first hits; NaN, a query with nothing to find, is left out."""
    ranks = np.asarray(ranks, float)
    counted = ranks[~np.isnan(ranks)]
    at = {k: float((counted <= k).mean()) if counted.size else float("nan") for k in ks}
    return Recall(at, int(counted.size), int(ranks.size - counted.size))


def chance(relevant: ArrayLike, candidates: ArrayLike, ks: Sequence[int] = KS) -> Recall:
    """Return the Recall@k expected of a random order.

    relevant, candidates: how many images are right, and how many there are to draw from, for each query (n,); the
    right ones are among the candidates. The share with no hit is hypergeometric: C(N − m, k) / C(N, k).
    """
    m, n = np.asarray(relevant, float), np.asarray(candidates, float)
    if np.any(m > n):
        raise InputError("a query cannot have more relevant images than candidates")
    counted = m > 0
    m, n = m[counted], n[counted]
    at = {}
    for k in ks:
        miss = np.ones_like(m)
        for drawn in range(k):
            # One draw more without a hit; once only relevant images are left, the next must be one.
            left = n - drawn
            miss *= np.clip((left - m) / np.where(left > 0, left, 1), 0, 1)
        at[k] = float((1 - miss).mean()) if m.size else float("nan")
    return Recall(at, int(counted.sum()), int((~counted).sum()))
