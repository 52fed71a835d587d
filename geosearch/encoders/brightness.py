"""Bands of any range → 8 bits, for pictures and rasters alike. Part of a space's identity: see pictures.RULES."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stretch(bands: NDArray[np.float32], valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Return bands (n, height, width) of any range as 0 … 255, by their common 2nd and 98th percentiles.

    One stretch for all bands keeps the colours' balance. Pixels that are not valid (height, width) or not finite
    become 0 and do not count. A flat picture becomes middle grey.
    """
    good: NDArray[np.bool_] = np.asarray(np.isfinite(bands).all(axis=0))
    if valid is not None:
        good = good & valid
    if not good.any():
        return np.zeros(bands.shape, np.uint8)
    low, high = np.percentile(bands[:, good], (2.0, 98.0))
    if high <= low:
        return np.where(good, 128, 0).astype(np.uint8)[None].repeat(len(bands), axis=0)
    return linear(bands, float(low), float(high), good)


def linear(
    bands: NDArray[np.float32], low: float, high: float, valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Return bands (n, height, width) with low … high mapped to 0 … 255, cut at both ends; invalid pixels become 0."""
    scaled = np.nan_to_num((bands - low) * (255.0 / (high - low)), nan=0.0)
    if valid is not None:
        scaled = np.where(valid, scaled, 0.0)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
