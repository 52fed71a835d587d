"""Vectors of any length made unit vectors, so that their products are cosines."""

from __future__ import annotations

import numpy as np

from geosearch.errors import InputError
from geosearch.geometry import Floats


def unit_rows(rows: Floats, before: str, after: str = "") -> Floats:
    """Return rows (n, d), float64, each scaled to length 1.

    before, after: what an error says round the number of a row. Raises InputError for one that has no direction.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = np.flatnonzero(~(np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)))
    if len(wrong):
        raise InputError(f"{before} {wrong[0]}{after} is zero or not finite and has no direction")
    return rows / lengths
