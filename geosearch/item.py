"""Item: what can be embedded — image, text, place, in any mix."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geosearch.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Place:
    """A point on the Earth in degrees; latitude first, as people say it."""

    lat: float
    lon: float

    def __post_init__(self) -> None:
        if not -90 <= self.lat <= 90:  # also false for NaN
            raise InputError(f"latitude {self.lat} is not within -90 … 90")
        if not -180 <= self.lon <= 180:
            raise InputError(f"longitude {self.lon} is not within -180 … 180")


@dataclass(frozen=True)
class Item:
    """One thing to embed. Give an encoder what it reads; it refuses what it does not.

    image: a path, or a picture already decoded. text: any string. place: where the image was taken from (its nadir).
    """

    image: Path | Image | None = None
    text: str | None = None
    place: Place | None = field(default=None)

    def __post_init__(self) -> None:
        if self.image is None and self.text is None and self.place is None:
            raise InputError("an item needs an image, a text or a place")

    @property
    def kinds(self) -> frozenset[str]:
        """The parts that are there: a subset of {"image", "text", "place"}."""
        return frozenset(k for k in ("image", "text", "place") if getattr(self, k) is not None)
