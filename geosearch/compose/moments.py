"""Mean and covariance of a database's vectors: from them, those of any query's similarities, without a scan.

With x a row of unit length, s = q·x has mean q·μ and variance q C qᵀ over the rows, exactly (ddof 1 in both).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.compose.unit import unit_rows
from geosearch.errors import InputError
from geosearch.geometry import Floats


@dataclass(frozen=True)
class Moments:
    """count of rows, their mean (d,), and scatter (d, d): the sum of (x − μ)(x − μ)ᵀ; float64."""

    count: int
    mean: Floats
    scatter: Floats

    @classmethod
    def none(cls, dimension: int) -> Self:
        """Return the moments of no rows."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @classmethod
    def of(cls, rows: ArrayLike) -> Self:
        """Return the moments of rows (n, d), which are brought to unit length, as similarities are cosines."""
        wide = np.asarray(rows, np.float64)
        if wide.ndim != 2:
            raise InputError(f"rows have 2 axes, not the shape {wide.shape}")
        if not len(wide):
            return cls.none(wide.shape[1])
        wide = unit_rows(wide, "row", ": its vector")
        mean = wide.mean(0)
        around = wide - mean
        return cls(len(wide), mean, around.T @ around)

    @classmethod
    def of_batches(cls, batches: Iterable[NDArray[np.floating]], dimension: int) -> Self:
        """Return the moments of all rows of batches, each (n, d)."""
        total = cls.none(dimension)
        for batch in batches:
            total = total + cls.of(batch)
        return total

    def __add__(self, other: Self) -> Self:
        """Return the moments of both sets of rows together (Chan, Golub and LeVeque 1979, eq. 2.1)."""
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        scatter = self.scatter + other.scatter + np.outer(apart, apart) * (self.count * other.count / count)
        return type(self)(count, mean, scatter)

    def axes(self) -> Floats:
        """Return the principal axes (r, d), the longest first: eigenvectors of the covariance times √eigenvalue.

        The variance of a query's similarities is the sum of its squared products with them. r is at most count − 1 and
        d: axes along which nothing varies, but for what rounding leaves, are dropped; none for fewer than two rows.
        """
        if self.count < 2:
            return np.empty((0, len(self.mean)))
        values, vectors = np.linalg.eigh(self.scatter / (self.count - 1))
        # The eigenvalues of a symmetric matrix are exact to this much of the largest one.
        nothing = len(values) * np.finfo(np.float64).eps * values[-1]
        kept = np.flatnonzero(values > max(nothing, np.finfo(np.float64).tiny))[::-1]
        return np.ascontiguousarray((vectors[:, kept] * np.sqrt(values[kept])).T)

    def of_similarities(self, query: ArrayLike) -> tuple[float, float]:
        """Return mean and standard deviation (ddof 1) of the cosines of a query (d,) with all rows; 0 for one row."""
        q = np.asarray(query, np.float64)
        q = q / np.linalg.norm(q)
        variance = float(q @ self.scatter @ q) / max(1, self.count - 1)
        return float(q @ self.mean), float(np.sqrt(max(0.0, variance)))
