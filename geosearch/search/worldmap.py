"""Small maps as inline SVG: land, circle, places and footprints. They need no network and follow light and dark."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.geometry import EARTH_RADIUS_M, Floats, lat_lon, unit_vectors
from geosearch.search.projection import Disc, Projection, World
from geosearch.search.shape import Shape, middle, rings

HALF_WAY_M = np.pi * EARTH_RADIUS_M
_UNITS = 500.0  # half the width of the drawing


@dataclass(frozen=True)
class Mark:
    """Something on a map: a GeoJSON geometry in degrees; kind chooses its look; title is read by pointer and reader."""

    shape: Shape
    kind: Literal["hit", "miss", "plain", "truth", "nadir"] = "plain"
    label: str = ""
    title: str = ""


def circle_map(lat: float, lon: float, radius_m: float, marks: Sequence[Mark] = (), picture: str | None = None) -> str:
    """Return an SVG of a place, its circle and what surrounds it. picture: a data URI in place of the plain land."""
    disc = surroundings(lat, lon, radius_m)
    # A circle that reaches the antipode is the whole disc: nothing to draw.
    ring = ""
    if radius_m < HALF_WAY_M:
        ring = f'<circle class="ring" r="{_UNITS * radius_m / disc.radius_m:.1f}"/>'
    return _svg(disc, [*marks, Mark({"type": "Point", "coordinates": [lon, lat]}, "nadir")], ring, picture)


def world_map(marks: Sequence[Mark] = (), picture: str | None = None) -> str:
    """Return an SVG of the whole Earth."""
    return _svg(World(), marks, "", picture)


def surroundings(lat: float, lon: float, radius_m: float) -> Disc:
    """Return the disc on which a circle is drawn: a quarter wider than the circle, and never tiny."""
    return Disc(lat, lon, float(min(max(radius_m * 1.25, 250_000.0), HALF_WAY_M)))


def ground(projection: Projection, width: int) -> tuple[Floats, Floats]:
    """Return (lat, lon), each (height, width), below the pixels of a picture of the map; NaN outside it."""
    height = round(width * projection.height)
    x = (np.arange(width) + 0.5) * 2 / width - 1
    y = projection.height - (np.arange(height) + 0.5) * 2 * projection.height / height
    return projection.backward(x[None, :], y[:, None])


def _svg(projection: Projection, marks: Sequence[Mark], extra: str, picture: str | None) -> str:
    w, h = _UNITS, _UNITS * projection.height
    edge = _edge(projection)
    key = f"m{crc32(repr((projection, picture)).encode()):x}"  # ids are shared by a page; equal maps may share one
    box = f'x="{-w:.0f}" y="{-h:.0f}" width="{2 * w:.0f}" height="{2 * h:.0f}"'
    if picture is None:
        land = (
            f'<mask id="{key}l"><image href="{_land_uri(projection)}" {box} preserveAspectRatio="none"/></mask>'
            f'<rect class="land" {box} mask="url(#{key}l)"/>'
        )
    else:
        land = f'<image href="{escape(picture, quote=True)}" {box} preserveAspectRatio="none"/>'
    drawn = "".join(_mark(projection, mark) for mark in marks)
    kind = "map pictured" if picture else "map"
    view = f"{-w - 6:.0f} {-h - 6:.0f} {2 * w + 12:.0f} {2 * h + 12:.0f}"
    return (
        f'<svg class="{kind}" viewBox="{view}" role="img" aria-label="map">'
        f'<clipPath id="{key}c"><path d="{edge}"/></clipPath><path class="sea" d="{edge}"/>'
        f'<g clip-path="url(#{key}c)">{land}{_graticule(projection)}{extra}{drawn}</g>'
        f'<path class="edge" d="{edge}"/></svg>'
    )


def _edge(projection: Projection) -> str:
    if isinstance(projection, Disc):
        r, d = round(_UNITS), round(2 * _UNITS)
        return f"M{-r} 0a{r} {r} 0 1 1 {d} 0a{r} {r} 0 1 1 {-d} 0z"
    lat = np.linspace(-90, 90, 61)
    x, y = projection.forward(np.r_[lat, lat[::-1]], np.r_[np.full(61, 180.0), np.full(61, -180.0)])
    return _path(x, y) + "z"


def _graticule(projection: Projection) -> str:
    step = 30 if isinstance(projection, World) or projection.radius_m > 4e6 else 10
    lines: list[str] = []
    along = np.linspace(-180, 180, 181)
    for lat in range(-90 + step, 90, step):
        lines += _pieces(projection, np.full(181, float(lat)), along)
    for lon in range(-180, 180, step):
        lines += _pieces(projection, np.linspace(-90 + step, 90 - step, 61), np.full(61, float(lon)))
    return f'<path class="graticule" d="{"".join(lines)}"/>'


def _pieces(projection: Projection, lat: Floats, lon: Floats) -> Iterator[str]:
    """Yield the parts of a line that lie on the map; a jump across its edge parts them."""
    x, y = projection.forward(lat, lon)
    inside = (np.hypot(x, y) < 1.1) if isinstance(projection, Disc) else np.ones(len(x), bool)
    jump = np.r_[False, np.hypot(np.diff(x), np.diff(y)) > 0.5]
    start = None
    for i in range(len(x) + 1):
        ends = i == len(x) or not inside[i] or jump[i]
        if ends and start is not None:
            if i - start > 1:
                yield _path(x[start:i], y[start:i])
            start = None
        if i < len(x) and inside[i] and start is None:
            start = i


def _mark(projection: Projection, mark: Mark) -> str:
    title = f"<title>{escape(mark.title)}</title>" if mark.title else ""
    centre = middle(mark.shape)
    if centre is None:
        return ""
    x, y = (float(value) for value in projection.forward(*centre))
    if isinstance(projection, Disc) and np.hypot(x, y) > 1.02:
        return ""
    shapes = "".join(_ring(projection, ring) for ring in rings(mark.shape))
    if mark.shape["type"] == "Point":
        shapes = _dot(x, y)
    elif isinstance(projection, World):
        # On a map of the whole Earth a footprint is a speck: a dot shows where it is.
        shapes += _dot(x, y)
    label = ""
    if mark.label:
        # Beside the dot of a world map, inside the footprint of a nearer one.
        place = 'dx="9" dy="-.3em" class="aside"' if isinstance(projection, World) else 'dy=".35em"'
        label = f'<text x="{x * _UNITS:.1f}" y="{-y * _UNITS:.1f}" {place}>{escape(mark.label)}</text>'
    return f'<g class="mark {mark.kind}">{title}{shapes}{label}</g>'


def _dot(x: float, y: float) -> str:
    # A stroke without length and with round ends: its width does not shrink with the map, as a circle's would.
    at = f"M{x * _UNITS:.1f} {-y * _UNITS:.1f}h0"
    return f'<path class="halo" d="{at}"/><path class="dot" d="{at}"/>'


def _ring(projection: Projection, ring: Floats) -> str:
    """Return the path of a polygon's ring, its sides bent as great circles are; nothing where it crosses the edge."""
    corners = unit_vectors(ring[:, 1], ring[:, 0])
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None]
    sides = [a * (1 - steps) + b * steps for a, b in pairwise(corners)]
    x, y = projection.forward(*lat_lon(np.concatenate([*sides, corners[-1:]])))
    if np.any(np.hypot(np.diff(x), np.diff(y)) > 0.5) or (isinstance(projection, Disc) and np.all(np.hypot(x, y) > 1)):
        return ""
    return f'<path d="{_path(x, y)}z"/>'


def _path(x: Floats, y: Floats) -> str:
    points = [f"{a * _UNITS:.1f} {-b * _UNITS:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(points)


@cache
def _land() -> NDArray[np.uint8]:
    """Return the share of land (720, 1440), 0 … 255: row 0 lies at 90 N, column 0 at 180 W."""
    with files("geosearch.search").joinpath("land.png").open("rb") as file, Image.open(file) as picture:
        return np.asarray(picture.convert("L"))


@lru_cache(maxsize=64)
def _land_uri(projection: Projection) -> str:
    land = _land()
    # Drawn at twice the size and reduced: coasts without stairs.
    lat, lon = ground(projection, 1280 if isinstance(projection, World) else 880)
    known = ~np.isnan(lat)
    rows = np.clip((90 - np.where(known, lat, 0)) * 4 - 0.5, 0, land.shape[0] - 1)
    columns = (np.where(known, lon, 0) + 180) * 4 - 0.5
    r0, c0 = np.floor(rows).astype(int), np.floor(columns).astype(int)
    wr, wc = rows - r0, columns - c0
    r1, left, right = np.minimum(r0 + 1, land.shape[0] - 1), c0 % land.shape[1], (c0 + 1) % land.shape[1]
    value = (land[r0, left] * (1 - wc) + land[r0, right] * wc) * (1 - wr)
    value += (land[r1, left] * (1 - wc) + land[r1, right] * wc) * wr
    grey = Image.fromarray(np.where(known, value, 0).astype(np.uint8))
    grey = grey.point([min(255, max(0, round((v - 90) * 3.4))) // 17 * 17 for v in range(256)])
    return png_uri(grey.resize((grey.width // 2, grey.height // 2), Image.Resampling.BOX))


def png_uri(picture: Image.Image) -> str:
    """Return a picture as a data URI (PNG)."""
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode("ascii")
