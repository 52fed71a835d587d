"""Where an image may lie, seen from its nadir: a soft prior over distance, and its weight beside a similarity.

By Bayes' rule an image b answers a query q with odds p(b | picture, nadir) ∝ p(b | picture) · f(d) / g(d): d from q's
nadir to the middle of b, f the density of d over right pairs, g that of places drawn evenly over the sphere. The
picture's part is exp(s · cosine), so the score is a conditional logit (McFadden, 1974) of two numbers,

    score = s · cosine + w · log(f(d) / g(d)),

and s, w are those of greatest likelihood on pairs that are known. w = 1 where the cosine says nothing of distance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, Floats

BIN_M = 25_000.0
ANYWHERE = 0.001  # the share of photographs that may show any place: a wrong nadir must not rule out what is right
STEPS = 50


@dataclass(frozen=True)
class DistancePrior:
    """log f(d) / g(d) at the middles (bins,) of bins of equal width from 0 to half the Earth's girth; natural log."""

    log_ratios: Floats

    @classmethod
    def fit(cls, distances_m: ArrayLike, anywhere: float = ANYWHERE) -> DistancePrior:
        """Return the prior of right pairs' distances (n,) in metres; NaN, an unknown nadir, is left out.

        f is a Gaussian kernel's estimate, reflected at 0, of Silverman's width (1986, equation 3.31), with a share of
        `anywhere` spread evenly over the Earth. Raises InputError for fewer than 10 distances, impossible
        ones, and a share that is not above 0: then far images would be ruled out for ever.
        """
        if not 0 < anywhere <= 1:
            raise InputError(f"the share of photographs from anywhere lies in 0 … 1, above 0, and is not {anywhere}")
        d = np.asarray(distances_m, float).ravel()
        d = d[~np.isnan(d)]
        if len(d) < 10:
            raise InputError(f"{len(d)} distances are too few to fit a prior to; give at least 10 pairs with nadirs")
        if d.min() < 0 or d.max() > 1.001 * np.pi * EARTH_RADIUS_M:
            raise InputError("distances on the Earth are 0 … 20015 km, in metres; check their unit")
        edges, middles = _bins()
        low, high = np.quantile(d, [0.25, 0.75])
        spread = min(d.std(), (high - low) / 1.34) or d.std()
        width = max(0.9 * spread * len(d) ** -0.2, BIN_M / 2)
        # What a kernel would put below 0 or beyond the antipode is folded back: no mass is lost.
        top = edges[-1]
        kernel = sum(
            np.exp(-0.5 * ((middles[:, None] - other) / width) ** 2) for other in (middles, -middles, 2 * top - middles)
        )
        counts = np.histogram(np.minimum(d, top), edges)[0]
        near = (kernel / kernel.sum(0)) @ counts / len(d)
        even = -np.diff(np.cos(edges / EARTH_RADIUS_M)) / 2
        return cls(np.log(((1 - anywhere) * near + anywhere * even) / even))

    def log_ratio(self, distances_m: ArrayLike) -> Floats:
        """Return log f/g (…) at distances (…) in metres, linear between bins; 0, no opinion, where one is NaN."""
        d = np.asarray(distances_m, float)
        return np.where(np.isnan(d), 0.0, np.interp(d, _bins()[1], self.log_ratios))

    def facts(self) -> dict[str, Any]:
        """Return the prior as JSON can keep it; `read` is the way back."""
        return {"bin_m": BIN_M, "log_ratios": [round(float(v), 4) for v in self.log_ratios]}

    @classmethod
    def read(cls, facts: dict[str, Any]) -> DistancePrior:
        """Return the prior of `facts`. Raises InputError for another layout."""
        values = np.asarray(facts.get("log_ratios", ()), float)
        if facts.get("bin_m") != BIN_M or values.shape != (len(_bins()[1]),) or not np.isfinite(values).all():
            raise InputError("this is no distance prior of this version; fit it again")
        return cls(values)


@dataclass(frozen=True)
class Blend:
    """Weights of the two numbers of the score: sharpness of the cosine, weight of the prior's log-ratio."""

    sharpness: float
    weight: float

    def score(self, cosines: ArrayLike, log_ratios: ArrayLike) -> Floats:
        """Return scores (…) on the cosine's own scale, which does not change their order: cosine + w/s · log-ratio."""
        return np.asarray(cosines, float) + self.weight / self.sharpness * np.asarray(log_ratios, float)


Part = tuple[ArrayLike, ArrayLike, NDArray[np.bool_]]


class _Block(NamedTuple):
    """Cosines and log-ratios of all pairs (q, n), of right pairs (m,), and the query (m,) of each right one."""

    cosines: NDArray[np.float32]
    log_ratios: NDArray[np.float32]
    right_cosines: Floats
    right_log_ratios: Floats
    rows: NDArray[np.int64]


def fit_blend(parts: Iterable[Part]) -> Blend:
    """Return the weights of greatest likelihood: of drawing a right image of all, softmax over the database.

    parts: queries in blocks of (cosines (q, n), log-ratios (q, n), right (q, n) bool); a list, as they are passed over
    again and again. A query without a right image, or with nothing but right ones, is left out. Each step climbs the
    likelihood's tangent bound (right pairs kept at their present weights), halved until it does not fall. Raises
    InputError without a query, or where no finite sharpness above 0 is best: the cosine does not help.
    """
    blocks = [_block(*part) for part in parts]
    blocks = [block for block in blocks if len(block.cosines)]
    if not blocks:
        raise InputError("no query has both right and wrong images; there is nothing to fit the prior's weight to")
    at = np.array([20.0, 1.0])
    value, slope, curve = _likelihood(blocks, at)
    for _ in range(STEPS):
        step = np.linalg.lstsq(curve, slope, rcond=1e-12)[0]
        share = 1.0
        while share > 1e-6:
            moved = _likelihood(blocks, at + share * step)
            if moved[0] >= value:
                break
            share /= 2
        else:
            break
        gained, at = moved[0] - value, at + share * step
        value, slope, curve = moved
        if gained < 1e-7:
            break
    if not (np.isfinite(at).all() and 0 < at[0] < 1e4):
        raise InputError(
            f"the best weight of the cosine is {at[0]:.3g}: these vectors do not tell right images from wrong ones, "
            "or do so without a fault; give more queries or another model"
        )
    return Blend(float(at[0]), float(at[1]))


def _bins() -> tuple[Floats, Floats]:
    edges = np.append(np.arange(0.0, np.pi * EARTH_RADIUS_M - BIN_M / 2, BIN_M), np.pi * EARTH_RADIUS_M)
    return edges, (edges[:-1] + edges[1:]) / 2


def _block(cosines: ArrayLike, log_ratios: ArrayLike, right: NDArray[np.bool_]) -> _Block:
    usable = right.any(1) & ~right.all(1)
    rows, _ = pair = np.nonzero(right[usable])
    c, r = (np.asarray(values, np.float32)[usable] for values in (cosines, log_ratios))
    return _Block(c, r, c[pair].astype(float), r[pair].astype(float), rows)


def _likelihood(blocks: list[_Block], at: Floats) -> tuple[float, Floats, Floats]:
    """Return the mean log-likelihood, its gradient (2,) and the curvature (2, 2) of its tangent bound."""
    value, slope, curve, count = 0.0, np.zeros(2), np.zeros((2, 2)), 0
    for c, r, right_c, right_r, rows in blocks:
        # Single precision but for what is summed: the largest exponent of a query is 0.
        score = np.float32(at[0]) * c + np.float32(at[1]) * r
        top = score.max(1)
        p = np.exp(score - top[:, None])
        total = p.sum(1, dtype=float)
        p /= total[:, None].astype(np.float32)
        q = np.exp(at[0] * right_c + at[1] * right_r - top[rows])
        good = np.maximum(np.bincount(rows, q), 1e-300)
        q /= good[rows]
        value += float(np.log(good / total).sum())
        pc, pr = p * c, p * r
        mean = np.stack([pc.sum(1, dtype=float), pr.sum(1, dtype=float)])
        slope += [q @ right_c, q @ right_r] - mean.sum(1)
        cc, cr, rr = (float(np.vdot(a, b)) for a, b in ((pc, c), (pc, r), (pr, r)))
        curve += np.array([[cc, cr], [cr, rr]]) - mean @ mean.T
        count += len(total)
    return value / count, slope / count, curve / count
