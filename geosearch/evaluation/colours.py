"""The colour histogram as an encoder: a baseline that knows no shapes, where a model is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.encoders.base import ModelInfo, Vectors, check_readable
from geosearch.encoders.pictures import open_image, to_rgb
from geosearch.evaluation.histogram import DIMENSION, colour_histogram
from geosearch.item import Item

NAME = "colours"
PIXELS = 64


class ColourEncoder:
    """Pictures → `colour_histogram` of PIXELS × PIXELS; the dot product is the Bhattacharyya coefficient."""

    info = ModelInfo(
        NAME, NAME, "1", "-", DIMENSION, "cosine", frozenset({"image"}), {"pixels": PIXELS, "bins": [8, 8, 8]}
    )

    def prepare(self, item: Item) -> NDArray[np.uint8]:
        """Return one picture (s, s, 3). Raises InputError, ModelError."""
        check_readable(self.info, item)
        image = item.image
        assert image is not None
        picture = open_image(image) if isinstance(image, str | Path) else to_rgb(image)
        return np.asarray(picture.resize((PIXELS, PIXELS), Image.Resampling.BOX))

    def encode_prepared(self, prepared: Sequence[NDArray[np.uint8]]) -> Vectors:
        """Return unit vectors (n, DIMENSION)."""
        return colour_histogram(np.stack(prepared)) if prepared else np.empty((0, DIMENSION), np.float32)

    def encode(self, items: Sequence[Item]) -> Vectors:
        """Return unit vectors (n, DIMENSION) of items."""
        return self.encode_prepared([self.prepare(item) for item in items])
