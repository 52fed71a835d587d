"""Query: what a user asks, checked before anything is loaded or connected."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.item import Place

if TYPE_CHECKING:
    from PIL.Image import Image

STRATEGIES = ("auto", "exact")
WAYS = ("image", "text", "like", "vector")


@dataclass(frozen=True)
class Query:
    """One question to an archive: exactly one of image, text, like and vector; the rest narrows the answer.

    image: a file's path or a picture already decoded. text: a description. like: a catalogued image, by its name,
    by "archive/name" or by its id. vector: (d,) numbers of the space's dimension, normalised here.
    near: (latitude, longitude) in degrees; answers lie within radius_km of it. k: how many answers at most.
    Raises InputError for anything else.
    """

    image: Path | Image | None = None
    text: str | None = None
    like: str | int | None = None
    vector: NDArray[np.float32] | None = None
    near: Place | None = None
    radius_km: float = 2500.0
    k: int = 10
    archive: str | None = None
    space: str | None = None
    strategy: str = "auto"

    def __post_init__(self) -> None:
        given = [way for way in WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            what = "none was" if not given else " and ".join(given) + " were"
            raise InputError(f"a search needs exactly one of image, text, like and vector; {what} given")
        for name in ("text", "like", "archive", "space", "strategy"):
            _check_text(name, getattr(self, name), numbers=name == "like")
        if self.image is not None and not isinstance(self.image, Path) and not hasattr(self.image, "convert"):
            raise InputError(f"image is a path or a Pillow picture, not {type(self.image).__name__}")
        if self.text is not None and not self.text.strip():
            raise InputError("the text to search for is empty")
        if isinstance(self.image, Path) and not self.image.is_file():
            raise InputError(f"{self.image}: there is no such image file")
        # Not a comparison alone: NaN passes neither way.
        if not math.isfinite(self.radius_km) or self.radius_km < 0:
            raise InputError(f"the radius must be a number of kilometres from 0 up, not {self.radius_km}")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k < 2**31:
            raise InputError(f"k, the number of answers, must be a whole number from 1 up, not {self.k!r}")
        if self.strategy not in STRATEGIES:
            raise InputError(f"there is no strategy {self.strategy!r}; there are: {', '.join(STRATEGIES)}")

    @classmethod
    def of(
        cls,
        *,
        image: str | Path | Image | None = None,
        vector: ArrayLike | None = None,
        near: Place | tuple[float, float] | None = None,
        like: str | int | None = None,
        k: int = 10,
        **rest: Any,
    ) -> Query:
        """Make a query from what a person types: paths as text, places as (latitude, longitude), vectors as lists."""
        return cls(
            like=_plain(like),
            k=_plain(k),
            image=Path(image) if isinstance(image, str) else image,
            vector=None if vector is None else unit_vector(vector),
            near=None if near is None else place(near),
            **rest,
        )


def _check_text(name: str, value: object, numbers: bool = False) -> None:
    if value is None or (numbers and isinstance(value, int)):
        return
    if not isinstance(value, str):
        raise InputError(f"{name} is text, not {type(value).__name__}")
    if "\0" in value:
        raise InputError(f"{name} holds a null character; leave it out")


def _plain(value: Any) -> Any:
    """Return whole numbers of NumPy and others as Python's; anything else as it is."""
    try:
        return value if isinstance(value, bool) else index(value)
    except TypeError:
        return value


def place(near: Place | tuple[float, float]) -> Place:
    """Return a Place of (latitude, longitude) in degrees; InputError where it is none."""
    if isinstance(near, Place):
        return near
    try:
        lat, lon = (float(value) for value in near)
    except (TypeError, ValueError) as error:
        raise InputError(f"a place is (latitude, longitude) in degrees, not {near!r}") from error
    return Place(lat, lon)


def parse_place(text: str) -> Place:
    """Return a Place of "LAT,LON" in degrees, for example "-3,-60" or "48.2, 16.4"; InputError where it is none."""
    parts = text.replace(";", ",").split(",")
    try:
        lat, lon = (float(part) for part in parts)
    except ValueError as error:
        raise InputError(
            f"{text!r} is no place: give latitude and longitude in degrees, with a comma between them, such as -3,-60"
        ) from error
    return Place(lat, lon)


def unit_vector(values: ArrayLike) -> NDArray[np.float32]:
    """Return values (d,) scaled to length 1, as float32; InputError when they have no direction."""
    try:
        vector = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the vector is not made of numbers: {error}") from error
    if vector.ndim != 1 or not vector.size:
        raise InputError(f"a vector has one axis, not shape {vector.shape}")
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length) or length == 0:
        raise InputError("the vector has no direction: its length is 0 or not finite")
    return (vector / length).astype(np.float32)
