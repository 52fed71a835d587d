"""How far down a combined similarity a row of a good score may lie: a half-space that holds all of them.

With z_j the standard scores of a row and w_j > 0 weights, its tail is Σ w_j Q(z_j) and its combined standard score
Σ w_j z_j. `least_combined` is the least combined score of all z with a tail of at most T and no z_j below `lowest`.

Where it lies. The minimum is reached (the score grows with every z_j), with the tail at T unless all z_j are `lowest`.
Of the z_j above `lowest`, the condition of Lagrange w_j = μ w_j φ(z_j) says that all have the same |z_j| = a. At most
one of them is below 0: of two, one could go up and the other down along the surface of equal tail, and the score would
fall, as Q is concave there. So some parts (L) are at `lowest`, the others (S) at +a, but for none or one (N) at −a, and
w_S Q(a) + w_N (1 − Q(a)) = T − w_L Q(lowest) gives a. All such points are looked at: 2^j (j + 1) of them. A point
looked at that is not the minimum is above it, so nothing has to be excluded with care.

With more parts than `ENUMERATED` a tangent does. Let E be the greatest convex function below Q over [lowest, ∞): E
decreases, so by Jensen's inequality, for weights of sum 1, E(Σ w_j z_j) ≤ Σ w_j E(z_j) ≤ Σ w_j Q(z_j), and a tail of at
most T needs Σ w_j z_j ≥ E⁻¹(T). Q is convex above 0 and concave below, so E is a line from (lowest, Q(lowest)) that
touches Q, and from there Q itself. Where T ≤ min w_j / 2 every z_j of such a row is positive, where Q is convex: then
the minimum is Q⁻¹(T), however many parts there are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from geosearch.compose.normal import tail_inverse

ENUMERATED = 4
FAR = 37.5  # beyond it Q is below what float64 holds in full; a row of tail 0 lies somewhere above


def least_combined(worst: float, weights: Iterable[float], lowest: float) -> float:
    """Return c such that every row whose tail is at most `worst` has Σ w_j z_j ≥ c; −inf where all rows may.

    weights: (j,), of any sum; those that are not above 0 are left out. lowest: the least z that any row has in any
    part; taken for −1 if it is above that.
    """
    parts = [w for w in weights if w > 0]
    total, lowest = sum(parts), min(lowest, -1.0)
    worst *= 1 + 1e-9  # of a sum whose last digits are rounded: a part of 1e-17 is lost beside one of 0.3
    if worst >= total:
        return -math.inf
    if len(parts) == 1 or worst <= min(parts) / 2:
        return total * _inverse(worst / total)
    if len(parts) > ENUMERATED:
        return total * _tangent(worst / total, lowest)
    return min(_points(worst, parts, lowest))


def _points(worst: float, parts: list[float], lowest: float) -> Iterator[float]:
    """Yield the combined scores among which the least one is."""
    total = sum(parts)
    for at_bottom in itertools.product((False, True), repeat=len(parts)):
        free = [w for w, bottom in zip(parts, at_bottom, strict=True) if not bottom]
        left, above = worst - (total - sum(free)) * _tail(lowest), sum(free)
        if left < 0 or (free and left >= above):
            continue
        rest = lowest * (total - above)
        if not free:
            yield rest
            continue
        a = _inverse(left / above)
        if a > lowest - 1e-6:
            yield above * a + rest
        for below in free:
            if len(free) == 1 or above == 2 * below:
                continue
            q = (left - below) / (above - 2 * below)
            if -1e-12 <= q <= 0.5 + 1e-12:
                a = _inverse(min(q, 0.5))
                if a <= 1e-6 - lowest:
                    yield (above - 2 * below) * a + rest


def _tangent(worst: float, lowest: float) -> float:
    touching = touching_point(lowest)
    if worst <= _tail(touching):
        return _inverse(worst)
    return touching - (worst - _tail(touching)) / _density(touching)


def touching_point(lowest: float) -> float:
    """Return where the tangent of Q through (lowest, Q(lowest)) touches it: z > 0. lowest < 0."""
    low, high = 0.0, FAR
    while True:
        z = (low + high) / 2
        if z in (low, high):
            return z
        # Above the touching point the tangent at z meets `lowest` below Q.
        if _tail(z) + _density(z) * (z - lowest) > _tail(lowest):
            low = z
        else:
            high = z


def _inverse(p: float) -> float:
    return min(FAR, tail_inverse(p))


def _tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))


def _density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
