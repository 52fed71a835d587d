"""The model's formulas in plain NumPy and float64: what every other way of computing them is held against.

SALAD (arXiv 2311.15937): assignment, descriptor. Fourier features (arXiv 2006.10739) of the unit vector. Concatenation.
The multi-similarity loss and its miner (arXiv 1904.06627, equations 11, 12 and 15), in which pairs may be neutral.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def assignment(scores: ArrayLike, dustbin: float, iterations: int = 3) -> Floats:
    """Return how much of each patch goes to each cluster, (n, m).

    scores: (n, m), n > m. Sinkhorn as it is mostly written, by scaling exp(scores): clusters take 1 each and the
    dustbin n − m, then each patch gives 1.
    """
    s = np.asarray(scores, np.float64)
    n, m = s.shape
    s = np.hstack([s, np.full((n, 1), float(dustbin))])
    kernel = np.exp(s - s.max())
    takes = np.append(np.ones(m), n - m)
    patch_scale = np.ones(n)
    for _ in range(iterations):
        cluster_scale = takes / (kernel.T @ patch_scale)
        patch_scale = 1 / (kernel @ cluster_scale)
    return np.asarray((patch_scale[:, None] * kernel * cluster_scale)[:, :m])


def descriptor(shared: ArrayLike, features: ArrayLike, token: ArrayLike) -> Floats:
    """Return SALAD's vector (g + m · l,) of one picture, of length 1.

    shared: (n, m), what `assignment` returns. features: (n, l), of patches. token: (g,). Of the parts, the token and
    each cluster's weighted sum are brought to length 1, and the whole once more; before that its length is √(1 + m).
    """
    weights, patches = np.asarray(shared, np.float64), np.asarray(features, np.float64)
    sums = [unit((weights[:, j, None] * patches).sum(0)) for j in range(weights.shape[1])]
    return unit(np.concatenate([unit(token), *sums]))


def fourier_features(lat: float, lon: float, waves: ArrayLike) -> Floats:
    """Return (3 + 2f,): the unit vector v of a place in degrees, cos(W v), sin(W v). waves W: (f, 3)."""
    phi, lam = math.radians(lat), math.radians(lon)
    v = np.array([math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)])
    at = np.asarray(waves, np.float64) @ v
    return np.concatenate([v, np.cos(at), np.sin(at)])


def concatenation(image: ArrayLike, nadir: ArrayLike, scale: float) -> Floats:
    """Return [image, scale · nadir] / √(1 + scale²) of unit vectors (…, d) and (…, e): unit vectors (…, d + e)."""
    both = np.concatenate([np.asarray(image, np.float64), scale * np.asarray(nadir, np.float64)], axis=-1)
    return np.asarray(both / math.sqrt(1 + scale**2))


def cosine_of_both(image: ArrayLike, nadir: ArrayLike, scale: float) -> Floats:
    """Return the cosine of two concatenations, from the cosines of their images and of their nadirs."""
    return np.asarray((np.asarray(image, np.float64) + scale**2 * np.asarray(nadir, np.float64)) / (1 + scale**2))


def mine(similarity: ArrayLike, positive: ArrayLike, negative: ArrayLike, epsilon: float) -> tuple[Bools, Bools]:
    """Return the pairs (n, n) that the miner keeps: those harder than the hardest of the other kind, less a margin."""
    s, right, wrong = np.asarray(similarity), np.asarray(positive, bool), np.asarray(negative, bool)
    kept = np.zeros_like(right), np.zeros_like(wrong)
    for i in range(len(s)):
        rights = [j for j in range(len(s)) if right[i, j] and j != i]
        wrongs = [j for j in range(len(s)) if wrong[i, j] and j != i]
        if not rights or not wrongs:
            continue
        for j in rights:
            kept[0][i, j] = s[i, j] < max(s[i, w] for w in wrongs) + epsilon
        for j in wrongs:
            kept[1][i, j] = s[i, j] > min(s[i, r] for r in rights) - epsilon
    return kept


def multi_similarity(
    vectors: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    alpha: float = 1.0,
    beta: float = 50.0,
    base: float = 0.0,
    epsilon: float | None = 0.1,
) -> float:
    """Return the mean over anchors of log(1 + Σ e^(−α(s − base))) / α + log(1 + Σ e^(β(s − base))) / β.

    vectors: (n, d), of any length. positive, negative: (n, n) bool, as for `loss.multi_similarity`. The sums go over
    the positives, and the negatives, that the miner keeps (all of them where epsilon is None).
    """
    x = np.asarray(vectors, np.float64)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    s = x @ x.T
    apart = ~np.eye(len(x), dtype=bool)
    right, wrong = np.asarray(positive, bool) & apart, np.asarray(negative, bool) & apart
    if epsilon is not None:
        right, wrong = mine(s, right, wrong, epsilon)
    total = 0.0
    for i in range(len(x)):
        total += math.log1p(sum(math.exp(-alpha * (v - base)) for v in s[i, right[i]])) / alpha
        total += math.log1p(sum(math.exp(beta * (v - base)) for v in s[i, wrong[i]])) / beta
    return total / len(x)


def unit(vector: ArrayLike) -> Floats:
    """Return a vector (d,) at length 1."""
    x = np.asarray(vector, np.float64)
    return np.asarray(x / math.sqrt(float(x @ x)))
