"""The mathematics of composed re-ranking: similarities of all rows in, the best by WeiCom's score out. No storage.

Mean and deviation are those of the similarities themselves, so all are products in float64; there is nothing for
float32 to propose. The bound of `geosearch.compose.bound` says which rows are worth their error functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.compose.bound import least_combined
from geosearch.compose.normal import tail
from geosearch.compose.reference import LEAST_DEVIATION
from geosearch.geometry import Floats
from geosearch.search.scoring import DIGITS

if TYPE_CHECKING:
    import torch

_WIDE_BYTES = {"cpu": 3 << 20, "cuda": 256 << 20}  # rows in float64 at a time: on a CPU they stay in the cache
# Beyond it Q is too small for float64, so that a tail of 0 does not say how much further up a row lies.
_HIGHEST = 37.0


class Tails(NamedTuple):
    """The m best: their rows (m,), tails (m,), and standard scores (m, j), positive where a part is met."""

    rows: NDArray[np.int64]
    tails: Floats
    standard: Floats


def similarities(parts: torch.Tensor, rows: torch.Tensor) -> Floats:
    """Return the cosines (b, j) in float64 of parts (j, d) float64 and rows (b, d) float32, all of unit length."""
    import torch

    step = max(1, _WIDE_BYTES[rows.device.type] // (8 * rows.shape[1]))
    products = [rows[at : at + step].double() @ parts.T for at in range(0, len(rows), step)]
    return np.asarray(torch.cat(products).cpu()).round(DIGITS)


def moments(population: Floats) -> tuple[Floats, Floats]:
    """Return mean and deviation (ddof 1), (j,) each, of similarities (m, j); 0 where there are too few for one."""
    if not len(population):
        return np.zeros(population.shape[1]), np.zeros(population.shape[1])
    # By column, so that the sums run over numbers that lie side by side, pairwise.
    columns = np.ascontiguousarray(population.T)
    return columns.mean(axis=1), columns.std(axis=1, ddof=1) if len(population) > 1 else np.zeros(len(columns))


def best_tails(
    found: Floats, weights: Floats, means: Floats, deviations: Floats, image_ids: NDArray[np.int64], k: int
) -> Tails:
    """Return the k rows with the smallest Σ |w_j| Q(±z_j), equal ones by image id.

    found: similarities (n, j). weights: (j,), signed, with Σ |w_j| = 1. means, deviations (j,): of the population.
    A part whose deviation is below LEAST_DEVIATION says nothing: its z is 0. The reference is
    `geosearch.compose.reference.compose_parts`.
    """
    spread = np.where(deviations < LEAST_DEVIATION, np.inf, deviations)
    standard = np.sign(weights) * ((found - means) / spread)
    shares, k = np.abs(weights), min(k, len(found))
    rows = np.arange(len(found))
    if 0 < k < len(found):
        combined = standard @ shares
        # Any k rows will do for the bound; these are good ones.
        some = np.argpartition(-combined, k - 1)[:k]
        worst = float(_tails(standard[some], shares).max())
        least = min(least_combined(worst, shares.tolist(), float(standard.min())), _HIGHEST)
        rows = np.flatnonzero(combined >= least - 1e-9 * (1 + abs(least)))
    tails = _tails(standard[rows], shares)
    order = np.lexsort((image_ids[rows], tails))[:k]
    return Tails(rows[order], tails[order], standard[rows[order]])


def _tails(standard: Floats, shares: Floats) -> Floats:
    total = np.zeros(len(standard))
    for column, share in zip(standard.T, shares.tolist(), strict=True):
        total += share * tail(column)
    return total
