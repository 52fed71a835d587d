"""A batch of prepared images → vectors, with a reason for each that has none; and whether an encoder fits a space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from geosearch.database.spaces import Space
from geosearch.encoders.base import Encoder, Vectors
from geosearch.errors import InputError, ModelError

BROKEN = 8  # so many pictures without a vector, and none with: it is not the pictures


def encode_each(encoder: Encoder, prepared: Sequence[Any]) -> tuple[Vectors, dict[int, str]]:
    """Return the vectors (n - failed, d) of a batch and, by position, why others have none."""
    if not prepared:
        return np.empty((0, encoder.info.dimension), np.float32), {}
    try:
        return encoder.encode_prepared(prepared), {}
    except ModelError as error:
        if len(prepared) == 1:
            return np.empty((0, encoder.info.dimension), np.float32), {0: str(error)}
    # One picture may bring a network to infinity; a model that fails on many at once is broken.
    vectors, failed = [], {}
    for i, one in enumerate(prepared):
        try:
            vectors.append(encoder.encode_prepared([one])[0])
        except ModelError as error:
            failed[i] = str(error)
            last = error
    if not vectors and len(failed) >= BROKEN:
        raise last
    return np.reshape(vectors, (-1, encoder.info.dimension)).astype(np.float32), failed


def check_encoder(encoder: Encoder, space: Space) -> None:
    """Raise ModelError or InputError unless the encoder makes the vectors of images that the space holds."""
    if "image" not in encoder.info.reads:
        raise ModelError(f"{encoder.info.name} does not read images; space {space.name} needs vectors of images")
    if encoder.info.dimension != space.dimension:
        raise InputError(
            f"{encoder.info.name} makes vectors of {encoder.info.dimension} dimensions, space {space.name} has "
            f"{space.dimension}"
        )
