"""What `geosearch range map` draws: a bank's embeddings, or a location encoder's own vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats
from geosearch.range.options import Retrieval
from geosearch.range.queries import place_encoder

Encode = Callable[[Floats, Floats], NDArray[Any]]


def encode_bank(name: str, options: Retrieval, device: str = "cpu") -> Encode:
    """Return the function (lat, lon) → embeddings of a bank of the default database."""
    from geosearch.database.connection import connect
    from geosearch.range.soft import SoftRetrieval
    from geosearch.range.store import read_bank

    with connect() as conn:
        retrieval = SoftRetrieval(read_bank(conn, name), options, device)
    return lambda lat, lon: retrieval.embed(lat, lon)


def encode_encoder(name: str) -> Encode:
    """Return the function (lat, lon) → vectors of a location encoder."""
    encoder = place_encoder(name)
    return lambda lat, lon: encoder.encode_places(lat, lon)


def watched(encode: Encode, progress: Callable[[int, int | None], None], of: int | None) -> Encode:
    """Return the same function, which also calls progress(places done, of) after each call."""
    done = 0

    def call(lat: Floats, lon: Floats) -> NDArray[Any]:
        nonlocal done
        made = encode(lat, lon)
        done += len(lat)
        progress(done, of and max(of, done))
        return made

    return call


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Return (south, west, north, east) of "S,W,N,E" in degrees. Raises InputError."""
    try:
        south, west, north, east = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"a box is SOUTH,WEST,NORTH,EAST in degrees, such as -10,-20,30,40, not {text!r}") from error
    if not -90 <= south < north <= 90 or not -180 <= west <= 180 or not -180 <= east <= 180 or west == east:
        raise InputError(f"no box lies from {south}, {west} to {north}, {east}: it is SOUTH,WEST,NORTH,EAST in degrees")
    return south, west, north, east
