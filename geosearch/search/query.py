"""Query: what a user asks, checked before anything is loaded or connected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from numbers import Real
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.item import Place

if TYPE_CHECKING:
    from PIL.Image import Image

WAYS = ("image", "text", "like", "vector")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What narrows any question, how many answers it wants and how they are looked for. Raises InputError.

    near: (latitude, longitude) in degrees; answers lie within radius_km of it. area: a GeoJSON geometry instead;
    answers may show a part of it. captured_from, captured_to: taken from the one until before the other; an aware time,
    or one in UTC. properties: what the image's properties hold, such as {"camera": "D5"}. k: how many answers at most.
    """

    STRATEGIES: ClassVar[tuple[str, ...]] = ("auto", "exact", "hnsw")

    near: Place | None = None
    radius_km: float = 2500.0
    k: int = 10
    archive: str | None = None
    space: str | None = None
    strategy: str = "auto"
    area: dict[str, Any] | None = None
    captured_from: datetime | None = None
    captured_to: datetime | None = None
    properties: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("archive", "space", "strategy"):
            check_text(name, getattr(self, name))
        if isinstance(self.radius_km, bool) or not isinstance(self.radius_km, Real):
            raise InputError(f"the radius is a number of kilometres, not {self.radius_km!r}")
        # Not a comparison alone: NaN passes neither way.
        if not 0 <= self.radius_km < 1e300:
            raise InputError(f"the radius must be a number of kilometres from 0 up, not {self.radius_km}")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k < 2**31:
            raise InputError(f"k, the number of answers, must be a whole number from 1 up, not {self.k!r}")
        check_choice("strategy", self.strategy, self.STRATEGIES)
        if self.area is not None and self.near is not None:
            raise InputError("a search is near a place or in an area, not both")
        if self.captured_from and self.captured_to and self.captured_from >= self.captured_to:
            raise InputError(f"no time lies from {self.captured_from} until before {self.captured_to}")


@dataclass(frozen=True)
class Query(Filters):
    """One question to an archive: exactly one of image, text, like and vector; the rest narrows the answer.

    image: a file's path or a picture already decoded. text: a description. like: a catalogued image, by its name,
    by "archive/name" or by its id. vector: (d,) numbers of the space's dimension, normalised here.
    Raises InputError for anything else.
    """

    image: Path | Image | None = None
    text: str | None = None
    like: str | int | None = None
    vector: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        given = [way for way in WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            what = "none was" if not given else " and ".join(given) + " were"
            raise InputError(f"a search needs exactly one of image, text, like and vector; {what} given")
        check_text("like", self.like, numbers=True)
        if self.text is not None:
            check_words("text to search for", self.text)
        if self.image is not None:
            check_picture(self.image)
        super().__post_init__()

    @classmethod
    def of(
        cls,
        *,
        image: str | Path | Image | None = None,
        vector: ArrayLike | None = None,
        like: str | int | None = None,
        **rest: Any,
    ) -> Query:
        """Make a query from what a person types: paths are text, vectors lists; the rest as `filters` takes it."""
        return cls(
            image=Path(image) if isinstance(image, str) else image,
            vector=None if vector is None else unit_vector(vector),
            like=plain(like),
            **filters(**rest),
        )


def filters(
    *,
    near: Place | tuple[float, float] | None = None,
    k: int = 10,
    area: str | Mapping[str, Any] | None = None,
    captured_from: str | date | None = None,
    captured_to: str | date | None = None,
    properties: Mapping[str, Any] | None = None,
    **rest: Any,
) -> dict[str, Any]:
    """Return fields of Filters from what a person types; the rest is passed on. Raises InputError.

    Places are (latitude, longitude), areas GeoJSON (text or decoded, also one feature), times ISO 8601 (a day alone
    begins at midnight UTC).
    """
    return {
        "near": None if near is None else place(near),
        "k": plain(k),
        "area": None if area is None else geometry(area),
        "captured_from": None if captured_from is None else moment(captured_from),
        "captured_to": None if captured_to is None else moment(captured_to),
        "properties": None if properties is None else _json_object(properties),
        **rest,
    }


def check_picture(image: object) -> None:
    """Raise InputError for what is neither the path of a file nor a picture already decoded."""
    if isinstance(image, Path):
        if not image.is_file():
            raise InputError(f"{image}: there is no such image file")
    elif not hasattr(image, "convert"):
        raise InputError(f"image is a path or a Pillow picture, not {type(image).__name__}")
    elif 0 in getattr(image, "size", ()):
        raise InputError("the picture is empty: it has no pixels")


def check_words(what: str, text: object) -> None:
    """Raise InputError for what is not some words."""
    if not isinstance(text, str):
        raise InputError(f"the {what} is text, not {type(text).__name__}")
    check_text("text", text)
    if not text.strip():
        raise InputError(f"the {what} is empty")


def check_choice(what: str, name: str, among: Sequence[str]) -> None:
    """Raise InputError for a name that is none of these."""
    if name not in among:
        raise InputError(f"there is no {what} {name!r}; there are: {', '.join(among)}")


def check_text(name: str, value: object, numbers: bool = False) -> None:
    """Raise InputError for what is not text that the database can hold; None passes, and an id where numbers may."""
    if value is None or (numbers and isinstance(value, int) and not isinstance(value, bool)):
        return
    if not isinstance(value, str):
        raise InputError(f"{name} is text, not {type(value).__name__}")
    if "\0" in value:
        raise InputError(f"{name} holds a null character; leave it out")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{name} holds bytes that are not UTF-8, or half a character: {value!r}")


def plain(value: Any) -> Any:
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
    except (TypeError, ValueError, OverflowError) as error:
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


def geometry(area: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON geometry of a geometry, a feature, or a collection of one feature; InputError otherwise."""
    try:
        shape = json.loads(area) if isinstance(area, str) else dict(area)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the area is not GeoJSON: {error}") from error
    if isinstance(shape, dict) and shape.get("type") == "FeatureCollection":
        features = shape.get("features") or []
        if len(features) != 1:
            raise InputError(f"the area must be one feature; the collection has {len(features)}")
        shape = features[0]
    if isinstance(shape, dict) and shape.get("type") == "Feature":
        shape = shape.get("geometry")
    if not isinstance(shape, dict) or shape.get("type") not in ("Polygon", "MultiPolygon"):
        what = shape.get("type") if isinstance(shape, dict) else shape
        raise InputError(f"an area is a GeoJSON Polygon or MultiPolygon in longitude and latitude, not {what!r}")
    from shapely import errors
    from shapely.geometry import shape as to_shape

    try:
        bounds = to_shape(shape).bounds
    except (KeyError, TypeError, ValueError, IndexError, errors.ShapelyError) as error:
        raise InputError(f"the area is no proper {shape['type']}: {error}") from error
    if len(bounds) != 4 or not (-180 <= bounds[0] <= bounds[2] <= 180 and -90 <= bounds[1] <= bounds[3] <= 90):
        raise InputError(f"the area reaches beyond longitude ±180 or latitude ±90, or is empty: {bounds}")
    if ground(shape) is None:
        raise InputError("the area is a line or a point; draw one that holds some ground")
    return {"type": shape["type"], "coordinates": shape["coordinates"]}


def ground(area: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a GeoJSON area as PostGIS means it, where edges are great circles; None where there is no area.

    GeoJSON's edges are straight in longitude and latitude and may be wide: as for footprints, they are densified, and
    wide pieces are cut. Raises InputError.
    """
    from shapely.geometry import mapping, shape

    from geosearch.catalog.footprints import polygon

    outline = shape(dict(area))
    # As in the catalogue: a jump of more than 180 degrees passes ±180, but a rectangle is meant as it is.
    made = polygon(outline, crossing=not outline.equals(outline.envelope)).geometry
    return None if made is None else dict(mapping(made))


def moment(when: str | date) -> datetime:
    """Return an aware time of a date, a time, or ISO 8601 text; without a zone it is UTC. InputError otherwise."""
    try:
        value = datetime.fromisoformat(when) if isinstance(when, str) else when
    except ValueError as error:
        raise InputError(f"{when!r} is no time: write 2024-06-30 or 2024-06-30T12:00:00Z") from error
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _json_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dict(json.loads(json.dumps(dict(properties), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise InputError(f"properties are names with JSON values: {error}") from error


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
