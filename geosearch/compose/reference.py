"""WeiCom in plain NumPy and float64: what every other way of computing it is held against.

Psomas et al., "Composed image retrieval for remote sensing" (arXiv 2405.15587). For a query image q and a query text t
over a database of unit vectors x:

    s_img(x) = q·x,  s_txt(x) = t·x                              similarities
    s'(x) = Φ((s(x) − mean s) / std s)                           each over the whole database, std with ddof 1
    score(x) = (1 − λ) s'_img(x) + λ s'_txt(x)                   λ = 0: the image alone; λ = 1: the text alone

Here for any number of parts: score(x) = Σ |w_j| Φ(±z_j(x)), Σ |w_j| = 1, with −z where w_j < 0: such a part is not
wanted ("without cloud"). Ranked by the tail Σ |w_j| Q(±z_j) = 1 − score, which keeps the digits that Φ loses near 1,
then by position. A similarity that does not vary over the database says nothing: its Φ is 0.5.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.compose.normal import tail
from geosearch.compose.parts import Parts
from geosearch.errors import InputError
from geosearch.geometry import Floats

Method = Literal["text", "image", "mean", "weicom"]
METHODS: tuple[Method, ...] = ("text", "image", "mean", "weicom")
LEAST_DEVIATION = 1e-6  # cosines are computed in single precision: what varies less does not vary


class Composed(NamedTuple):
    """order (n,): positions, best first. scores, tails = 1 − scores (n,): in the order of the rows."""

    order: NDArray[np.int64]
    scores: Floats
    tails: Floats


def compose(
    rows: ArrayLike, image: ArrayLike, text: ArrayLike, lam: float = 0.5, method: Method = "weicom"
) -> Composed:
    """Rank rows (n, d) for a query image (d,) and a query text (d,); lam is the weight of the text. Raises InputError.

    method: weicom; or one of its baselines: text, image, or the mean of the two similarities, with the same weights
    (the paper's is the plain one, of λ 0.5).
    """
    if not 0 <= lam <= 1:
        raise InputError(f"lambda is the weight of the text, from 0 (image alone) to 1 (text alone), not {lam}")
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; there are: {', '.join(METHODS)}")
    weight = {"text": 1.0, "image": 0.0}.get(method, lam)
    parts = Parts.of(np.stack([np.asarray(image), np.asarray(text)]), [1 - weight, weight])
    return compose_parts(rows, parts) if method == "weicom" else mean(rows, parts)


def compose_parts(rows: ArrayLike, parts: Parts, population: ArrayLike | None = None) -> Composed:
    """Rank rows (n, d) by WeiCom's score of any number of parts.

    population: (m, d), the rows over which mean and deviation are taken; the same rows if not given.
    """
    similarities = _unit(rows) @ parts.vectors.T
    over = similarities if population is None else _unit(population) @ parts.vectors.T
    tails = np.zeros(len(similarities))
    for j, weight in enumerate(parts.weights):
        tails += abs(weight) * tail(np.sign(weight) * standard(similarities[:, j], over[:, j]))
    return Composed(np.argsort(tails, kind="stable"), 1 - tails, tails)


def mean(rows: ArrayLike, parts: Parts) -> Composed:
    """Rank rows (n, d) by the weighted mean of the similarities themselves: the paper's baseline."""
    scores = _unit(rows) @ parts.vectors.T @ parts.weights
    return Composed(np.argsort(-scores, kind="stable"), scores, 1 - scores)


def standard(similarities: Floats, population: Floats) -> Floats:
    """Return similarities (n,) less the mean of a population's, over their deviation (ddof 1); 0 without one."""
    deviation = population.std(ddof=1) if len(population) > 1 else 0.0
    if deviation < LEAST_DEVIATION:
        return np.zeros_like(similarities)
    return (similarities - population.mean()) / deviation


def _unit(vectors: ArrayLike) -> Floats:
    wide = np.asarray(vectors, np.float64)
    return wide / np.linalg.norm(wide, axis=-1, keepdims=True)
