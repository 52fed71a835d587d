"""The options that narrow a question, for all commands that ask one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import WRONG_USAGE, fail

NearOption = Annotated[
    str | None,
    typer.Option(
        help="Only images that may show something near this place, in degrees: -3,-60. For a nadir-aware model also "
        "where the picture was taken from.",
        metavar="LAT,LON",
    ),
]
RadiusOption = Annotated[
    float | None, typer.Option(help="How near to that place; 2500 when it is not given.", metavar="KM")
]
AreaOption = Annotated[
    Path | None,
    typer.Option(help="Only images that may show a part of this polygon: a GeoJSON file.", metavar="FILE"),
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Only images taken from this day or time on (UTC).", metavar="TIME")
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Only images taken before this day or time (UTC).", metavar="TIME")
]
PropertyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--property", help="Only images with this property: camera=D5. May be repeated.", metavar="NAME=VALUE"
    ),
]
CountOption = Annotated[int, typer.Option("-k", help="How many answers.")]
ArchiveOption = Annotated[str | None, typer.Option(help="Only images of this archive.")]
SpaceOption = Annotated[str | None, typer.Option(help="The space to search in, where there are several.")]


def filters(
    near: str | None,
    radius_km: float | None,
    area: Path | None,
    captured_from: str | None,
    captured_to: str | None,
    property_: list[str] | None,
    **rest: Any,
) -> dict[str, Any]:
    """Return arguments of Query.of and Composition.of. Raises InputError for what is no place or property."""
    from geosearch.search.query import parse_place

    return {
        "near": parse_place(near) if near is not None else None,
        "radius_km": 2500.0 if radius_km is None else radius_km,
        "area": area.read_text("utf-8-sig") if area is not None else None,
        "captured_from": captured_from,
        "captured_to": captured_to,
        "properties": _properties(property_),
        **rest,
    }


def check_radius(radius_km: float | None, near: str | None) -> None:
    """End with status 2 where a radius has no place."""
    if radius_km is not None and near is None:
        raise fail("--radius-km needs --near: the middle of the circle", WRONG_USAGE)


def _properties(pairs: list[str] | None) -> dict[str, Any] | None:
    """Return {name: value} of "name=value"; a value that is JSON (a number, true) is meant as such."""
    from json import loads

    from geosearch.errors import InputError

    found: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"--property takes NAME=VALUE, not {pair!r}")
        try:
            found[name] = loads(value)
        except ValueError:
            found[name] = value
    return found or None
