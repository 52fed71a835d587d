"""Which tiles are right for a photograph, and which lie near its nadir: PostGIS decides both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.evaluation.nadir_data import Images
from geosearch.geometry import PHOTO_REACH_M

LEAST_M2 = 1.0  # footprints that only touch have an intersection of rounding's size
GUARD = 0.0057  # distances on the spheroid are 0.9944 to 1.0045 times those on the sphere


def relevant(
    conn: psycopg.Connection[Any],
    photos: Images,
    tiles: Images,
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.int64]]:
    """Return, for each photograph, the rows of the tiles that its footprint shares an area with, ascending.

    Over all tiles, whether they have a vector or not. None where either has no footprint. An image is not relevant for
    itself. Right at ±180 and over the poles: ST_Intersects and ST_Intersection of geography.
    """
    raise NotImplementedError


def near(
    conn: psycopg.Connection[Any], photos: Images, tiles: Images, radius_m: float = PHOTO_REACH_M
) -> Callable[[slice], list[NDArray[np.int64]]]:
    """Return what gives, for some of the photographs, the rows of the tiles within a radius of their nadirs, ascending.

    A tile is in where ST_DWithin says so of its footprint, on the spheroid; where it has none, of its nadir, at the
    radius and its reach. The filter of `geosearch.search`. A photograph without a nadir has an empty list.
    """
    raise NotImplementedError
