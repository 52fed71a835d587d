"""What a composed question is made of: unit vectors with weights, of which negative ones mean "without"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from geosearch.compose.unit import unit_rows
from geosearch.errors import InputError
from geosearch.geometry import Floats

GREATEST = 1e100  # of a weight: their sum is finite


class Parts(NamedTuple):
    """vectors: (j, d) float64 of unit length. weights: (j,) float64, none 0, whose absolute values sum to 1."""

    vectors: Floats
    weights: Floats

    @classmethod
    def of(cls, vectors: ArrayLike, weights: ArrayLike) -> Self:
        """Return the parts of vectors (j, d) of any length; those of weight 0 are left out. Raises InputError."""
        rows, shares = np.atleast_2d(np.asarray(vectors, np.float64)), np.atleast_1d(np.asarray(weights, np.float64))
        if rows.ndim != 2 or shares.shape != (len(rows),):
            raise InputError(f"{rows.shape} vectors and {shares.shape} weights do not belong together")
        if not (np.abs(shares) <= GREATEST).all() or not shares.any():
            raise InputError(
                f"weights are finite numbers up to {GREATEST:g}, at least one of them not 0, not {shares.tolist()}"
            )
        rows, shares = rows[shares != 0], shares[shares != 0]
        return cls(unit_rows(rows, "vector"), shares / np.abs(shares).sum())


def shares(images: int, texts: int, without: int, lam: float, weights: Sequence[float] | None = None) -> list[float]:
    """Return the signed weights of images, texts and texts that are not wanted, in this order.

    lam, from 0 to 1, is shared out evenly among all texts, 1 − lam among the images; where one kind is missing the
    other has all. weights: instead, one positive number each; what is not wanted becomes negative. Raises InputError.
    """
    total = images + texts + without
    if not total:
        raise InputError("a composed question needs an image or a text")
    if weights is None:
        if not 0 <= lam <= 1:  # NaN is refused as well
            raise InputError(f"lambda is the weight of the text, from 0 (image alone) to 1 (text alone), not {lam}")
        said = texts + without
        text = 0.0 if not said else 1.0 if not images else lam
        weights = [(1 - text) / max(1, images)] * images + [text / max(1, said)] * said
    elif len(weights) != total or not all(0 < weight <= GREATEST for weight in weights):
        raise InputError(
            f"{total} images and texts need {total} positive weights, none above {GREATEST:g}, not {list(weights)}"
        )
    return [*weights[: images + texts], *(-weight for weight in weights[images + texts :])]
