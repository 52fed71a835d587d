"""How far down a combined similarity a row of a good score may lie: a half-space that holds all of them.

With z_j the standard scores of a row and weights w_j > 0 of sum 1, its tail is Σ w_j Q(z_j) and its combined score
Σ w_j z_j. `least_combined` gives a c that no row with a tail of at most T falls below.

Why. Such a row has w_j Q(z_j) ≤ T for every j alone, so no z_j lies below Q⁻¹(T / min w), nor below the least z that
there is; l is the greater of both. Let E be the greatest convex function below Q over [l, ∞). By Jensen's inequality
E(Σ w_j z_j) ≤ Σ w_j E(z_j) ≤ Σ w_j Q(z_j) ≤ T, and E decreases, so Σ w_j z_j ≥ E⁻¹(T) = c. Q is convex above 0 and
concave below: where l ≥ 0, E is Q; else it is the line from (l, Q(l)) that touches Q, and Q from there.

Where T lies below the point that is touched (T ≤ 2/3 min w does), c is Q⁻¹(T), which a row with all z_j = c reaches:
there is no better bound. Above that it is loose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from geosearch.compose.normal import tail_inverse

FAR = 37.5  # beyond it Q is below what float64 holds in full; a row of tail 0 lies somewhere above


def least_combined(worst: float, weights: Iterable[float], lowest: float) -> float:
    """Return c such that every row whose tail is at most `worst` has Σ w_j z_j ≥ c; −inf where all rows may.

    weights: (j,), of any sum; those that are not above 0 are left out. lowest: the least z that any row has in any
    part; −inf if that is not known.
    """
    parts = [w for w in weights if w > 0]
    total = sum(parts)
    worst *= 1 + 1e-9  # of a sum whose last digits are rounded: a part of 1e-17 is lost beside one of 0.3
    if worst >= total:
        return -math.inf
    lowest = max(lowest, tail_inverse(worst / min(parts)))
    return total * _envelope_inverse(worst / total, lowest)


def _envelope_inverse(p: float, lowest: float) -> float:
    """Return z with E(z) = p, E the greatest convex function below Q over [lowest, ∞)."""
    if lowest >= 0:
        return min(FAR, tail_inverse(p))
    if lowest == -math.inf:
        return lowest
    touching = touching_point(lowest)
    if p <= _tail(touching):
        return min(FAR, tail_inverse(p))
    return touching - (p - _tail(touching)) / _density(touching)


def touching_point(lowest: float) -> float:
    """Return where the tangent of Q through (lowest, Q(lowest)) touches it: z > 0. lowest < 0, finite."""
    low, high = 0.0, FAR
    while True:
        z = (low + high) / 2
        if z in (low, high):
            return high  # the line stays below Q with a touching point that is too great, not with one too small
        # Above the touching point the tangent at z meets `lowest` below Q.
        if _tail(z) + _density(z) * (z - lowest) > _tail(lowest):
            low = z
        else:
            high = z


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
