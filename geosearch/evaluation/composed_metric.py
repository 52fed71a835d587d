"""Average precision, precision@k and recall@k of whole rankings, in percent, as PatternCom counts them.

A ranking is known by the ranks of its relevant images, from 1, over the whole database (Psomas et al., arXiv
2405.15587). Every figure of a question is rounded to two places before means are taken, as the published evaluation
does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats

KS = (5, 10, 15, 20)  # of the published evaluation


@dataclass(frozen=True)
class Scores:
    """Percentages, of a question or their means over `questions`: ap, precision and recall at each k."""

    questions: int
    ap: float
    precision: dict[int, float]
    recall: dict[int, float]


def average_precision(ranks: ArrayLike) -> float:
    """Return the mean of the precision at every hit, 0 … 1; 0 without any.

    ranks: (m,) of all relevant images, from 1, in any order. The i-th hit in order has precision i / rank.
    """
    ordered = np.sort(np.asarray(ranks))
    if not ordered.size:
        return 0.0
    if ordered[0] < 1 or (np.diff(ordered) == 0).any():
        raise InputError("ranks count from 1, and no two images share one")
    return float((np.arange(1, ordered.size + 1) / ordered).mean())


def score(ranks: ArrayLike, ks: Sequence[int] = KS) -> Scores:
    """Return the figures of one question, rounded to two places, from the ranks (m,) of all relevant images."""
    ranks = np.asarray(ranks)
    hits = {k: int((ranks <= k).sum()) for k in ks}
    return Scores(
        1,
        round(average_precision(ranks) * 100, 2),
        {k: round(hits[k] / k * 100, 2) for k in ks},
        {k: round(hits[k] / ranks.size * 100, 2) if ranks.size else 0.0 for k in ks},
    )


def mean(scores: Iterable[Scores], ks: Sequence[int] = KS) -> Scores:
    """Return the mean of figures, each of which counts alike, and how many questions they are of; NaN of none."""
    every = list(scores)
    n = len(every) or float("nan")
    return Scores(
        sum(one.questions for one in every),
        sum(one.ap for one in every) / n,
        {k: sum(one.precision[k] for one in every) / n for k in ks},
        {k: sum(one.recall[k] for one in every) / n for k in ks},
    )


def chance(relevant: int, images: int, ks: Sequence[int] = KS) -> Scores:
    """Return the figures that a random order is expected to have, for a question with so many relevant images; or 0.

    Rank r holds a hit with probability m / N, and given that, (r − 1)(m − 1) / (N − 1) others before it. Hence the
    expected precision at the hits is H/N + (1 − H/N)(m − 1)/(N − 1), H the N-th harmonic number.
    """
    if not 0 <= relevant <= images:
        raise InputError(f"{relevant} of {images} images cannot be relevant")
    if not relevant:
        return Scores(1, 0.0, dict.fromkeys(ks, 0.0), dict.fromkeys(ks, 0.0))
    harmonic = float((1 / np.arange(1, images + 1)).sum()) / images
    ap = harmonic + ((1 - harmonic) * (relevant - 1) / (images - 1) if images > 1 else 0.0)
    drawn = {k: min(k, images) for k in ks}
    return Scores(
        1,
        ap * 100,
        {k: drawn[k] * relevant / images / k * 100 for k in ks},
        {k: drawn[k] / images * 100 for k in ks},
    )


def ranks_of(costs: Floats, ordered: Floats, positions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the ranks (m,), from 1, of the images at `positions` (m,); least cost first, equal ones by position.

    costs: (n,). ordered: the same, sorted; a sort of values alone is many times as fast as one of positions.
    """
    own = costs[positions]
    before = np.searchsorted(ordered, own, "left")
    last = np.minimum(before + 1, len(ordered) - 1)
    for at in np.flatnonzero((ordered[last] == own) & (last > before)):
        before[at] += int((costs[: positions[at]] == own[at]).sum())
    return before + 1
