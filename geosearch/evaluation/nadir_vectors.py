"""Vectors of images in parts, image and nadir: encoded from files and kept in blocks, or taken from a space."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.encoders.base import Encoder
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_ways import Block
from geosearch.geometry import Floats

Progress = Callable[[int, int], None]
ANGLES = (0, 90, 180, 270)  # degrees, anticlockwise


class VectorSource(Protocol):
    """Where vectors come from. scale s, null (e,): of a model that reads nadirs, 0 and None of another."""

    scale: float
    null: NDArray[np.float32] | None

    def blocks(self, images: Images, place: tuple[Floats, Floats], angles: tuple[int, ...] = (0,)) -> Iterator[Block]:
        """Yield all images in blocks, in their order. place: (lat, lon), each (n,), that they are encoded with."""
        ...


class FromModel:
    """Encodes the images' files, in blocks of 1 024 that are kept in a folder: an interrupted run goes on there."""

    def __init__(self, encoder: Encoder, cache: Path, progress: Progress | None = None) -> None:
        """cache: a folder; a block of it is used again where model, files, places and rotation are the same."""
        raise NotImplementedError


class FromSpace:
    """Takes the vectors of a space; what it lacks is not there. Without rotations."""

    def __init__(self, conn: psycopg.Connection[Any], space: str) -> None:
        raise NotImplementedError
