"""How far down a combined similarity a row of a good score may lie: a half-space that holds all of them.

With z_j the standard scores of a row and w_j ≥ 0 weights of sum 1, its tail is Σ w_j Q(z_j) and its combined standard
score Σ w_j z_j. Let E be the greatest convex function below Q over [lowest, ∞): E decreases, so by Jensen's inequality
E(Σ w_j z_j) ≤ Σ w_j E(z_j) ≤ Σ w_j Q(z_j). A tail of at most T hence needs Σ w_j z_j ≥ E⁻¹(T), however many parts there
are. Q is convex above 0 and concave below, so E is a line from (lowest, Q(lowest)) that touches Q, and from there Q
itself. Where T ≤ min w_j / 2 every z_j of such a row is positive, where Q is convex: then Q⁻¹(T) ≥ E⁻¹(T) does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from geosearch.compose.normal import tail_inverse


def least_combined(worst: float, weights: Iterable[float], lowest: float) -> float:
    """Return c such that every row whose tail is at most `worst` has Σ w_j z_j ≥ c.

    weights: (j,), none negative, of sum 1. lowest: below 0, the least z that any row has in any part.
    """
    if worst >= 1:
        return -math.inf
    smallest = min(w for w in weights if w > 0)
    touching = touching_point(lowest)
    if worst <= max(smallest / 2, _tail(touching)):
        return tail_inverse(worst)
    return touching - (worst - _tail(touching)) / _density(touching)


def touching_point(lowest: float) -> float:
    """Return where the tangent of Q through (lowest, Q(lowest)) touches it: z > 0. lowest < 0."""
    low, high = 0.0, 40.0
    while True:
        z = (low + high) / 2
        if z in (low, high):
            return z
        # Above the touching point the tangent at z meets `lowest` below Q.
        if _tail(z) + _density(z) * (z - lowest) > _tail(lowest):
            low = z
        else:
            high = z


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
