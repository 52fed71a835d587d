"""Reader `stac`: STAC items on disk — one, a collection of them, a catalog that links to them, or a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import shapely
import shapely.geometry

from geosearch.catalog.batch import Batch, Record, Reject, collect, shortened
from geosearch.catalog.files import MISSING_FILE, FileFinder, walk
from geosearch.catalog.footprints import Footprint, box, polygon
from geosearch.catalog.options import Options
from geosearch.catalog.problems import SELF_CROSSING
from geosearch.catalog.table_rows import UNREADABLE_DATE
from geosearch.errors import CatalogError, InputError

Item = dict[str, Any]
# Which asset is the image, the first that fits: by its key, then by its role.
ASSET_KEYS = ("visual", "image", "rendered_preview")
ASSET_ROLES = ("visual", "overview", "thumbnail", "data")


def read(source: Path, options: Options) -> Iterator[Batch]:
    """Yield items named by their id."""
    found = _folder(source) if source.is_dir() else _file(source, set(), top=True)
    finder = FileFinder(options.files)
    records = (one if isinstance(one, Reject) else _record(one, at, finder, options) for one, at in found)
    yield from collect(records, None)


def _folder(source: Path) -> Iterator[tuple[Item | Reject, Path]]:
    for root in ("catalog.json", "collection.json"):
        if (source / root).is_file():
            yield from _file(source / root, set(), top=True)
            return
    paths = [path for path in walk(source) if path.suffix.lower() in (".json", ".geojson")]
    if not paths:
        raise CatalogError(f"{source} holds no .json file")
    for path in paths:
        # Catalogs beside the items would lead to them a second time.
        yield from ((one, at) for one, at in _file(path, set(), follow=False))


def _file(path: Path, met: set[Path], top: bool = False, follow: bool = True) -> Iterator[tuple[Item | Reject, Path]]:
    """Yield what a file holds or links to; `met` ends circles of links."""
    path = Path(os.path.normpath(path))
    if path in met:
        return
    met.add(path)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "is empty" if path.is_file() and not path.stat().st_size else f"is not readable as JSON: {error}"
        if top:
            raise CatalogError(f"{path} {reason}") from error
        yield Reject(f"the file {reason}", name=path.name, payload=str(path)), path
        return
    kind = content.get("type") if isinstance(content, dict) else None
    if kind == "Feature":
        yield content, path
    elif kind == "FeatureCollection" and isinstance(content.get("features"), list):
        for number, item in enumerate(content["features"], 1):
            good = isinstance(item, dict)
            yield (item if good else Reject("not a STAC item", number, payload=shortened(json.dumps(item)))), path
    elif kind in ("Catalog", "Collection"):
        if follow:
            yield from _links(content, path, met)
    elif top:
        raise CatalogError(f"{path} is no STAC item, item collection, collection or catalog (its type is {kind!r})")
    else:
        yield Reject(f"not STAC: its type is {kind!r}", name=path.name, payload=str(path)), path


def _links(content: Item, path: Path, met: set[Path]) -> Iterator[tuple[Item | Reject, Path]]:
    links = content.get("links")
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict) or link.get("rel") not in ("item", "items", "child"):
            continue
        href = str(link.get("href", ""))
        if "://" in href and not href.startswith("file://"):
            yield Reject("the link leads away from this disk; fetch it first", name=href, payload=str(path)), path
            continue
        yield from _file(path.parent / (unquote(urlsplit(href).path) if href.startswith("file://") else href), met)


def _record(item: Item, path: Path, finder: FileFinder, options: Options) -> Record | Reject:
    name = item.get("id")
    if not isinstance(name, str) or not name:
        return Reject("the item has no id", payload=shortened(json.dumps(item)))
    try:
        nadir, shape = _place(item)
        properties = item.get("properties") or {}
        if not isinstance(properties, dict):
            raise InputError("the item's properties are no JSON object")
        captured, bad_date = _captured(properties)
        href = _href(item, options.asset)
    except InputError as error:
        return Reject(str(error), name=name, payload=str(path))
    if shape.geometry is None and nadir is None:
        return Reject("the item's geometry has no area", name=name, payload=str(path))
    uri, content, missing = finder.find(href, path.parent, name)
    doubts = ((SELF_CROSSING, shape.self_crossing), (UNREADABLE_DATE, bad_date), (MISSING_FILE, missing))
    if item.get("collection"):
        properties = {"collection": item["collection"], **properties}
    return Record(
        name=name,
        uri=uri,
        captured_at=captured,
        nadir=nadir,
        footprint=shape.geometry,
        properties=properties,
        content_sha256=content,
        problems=tuple(what for what, so in doubts if so),
    )


def _place(item: Item) -> tuple[tuple[float, float] | None, Footprint]:
    bbox = _bbox(item)
    geometry = item.get("geometry")
    if geometry is None:
        if bbox is None:
            raise InputError("the item has neither geometry nor bbox")
        return None, Footprint(box(*bbox))
    try:
        with np.errstate(invalid="ignore"):  # NaN is told below, in words
            shape: Any = shapely.geometry.shape(geometry)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, shapely.errors.ShapelyError) as error:
        raise InputError(f"the item's geometry is not readable: {error}") from error
    if shape.geom_type == "Point" and not shape.is_empty:
        if not (abs(shape.y) <= 90 and abs(shape.x) <= 180):
            raise InputError(f"the point {shape.y:g}, {shape.x:g} is outside -90 … 90, -180 … 180")
        return (shape.y, shape.x), Footprint(None)
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        raise InputError(f"a {shape.geom_type} is no footprint: a Polygon or MultiPolygon is needed")
    # A rectangle that is its own bbox is really as wide as that says, however wide; anything else that jumps by
    # more than 180° passes ±180, which writers of STAC often do without cutting.
    wide = False
    if bbox is not None and bbox[2] - bbox[0] > 180:
        with suppress(shapely.errors.ShapelyError):  # outlines that cannot be compared are no rectangles
            wide = shape.equals(shapely.box(*bbox))
    return None, polygon(shape, crossing=not wide)


def _bbox(item: Item) -> tuple[float, float, float, float] | None:
    values = item.get("bbox")
    if values is None:
        return None
    if not isinstance(values, list) or len(values) not in (4, 6) or not all(isinstance(v, int | float) for v in values):
        raise InputError(f"the item's bbox {values!r} is not 4 or 6 numbers")
    west, south, *_ = values
    east, north = (values[2], values[3]) if len(values) == 4 else (values[3], values[4])
    return float(west), float(south), float(east), float(north)


def _captured(properties: Item) -> tuple[datetime | None, bool]:
    text = properties.get("datetime") or properties.get("start_datetime")
    if text is None:
        return None, False
    try:
        return datetime.fromisoformat(str(text)), False
    except ValueError:
        return None, True


def _href(item: Item, wanted: str | None) -> str | None:
    assets = item.get("assets")
    known = (
        {k: a for k, a in assets.items() if isinstance(a, dict) and a.get("href")} if isinstance(assets, dict) else {}
    )
    if wanted is not None:
        if wanted not in known:
            raise InputError(f"the item has no asset {wanted!r}; it has {', '.join(known) or 'none'}")
        return str(known[wanted]["href"])
    for key in ASSET_KEYS:
        if key in known:
            return str(known[key]["href"])
    for role in ASSET_ROLES:
        for asset in known.values():
            roles = asset.get("roles")
            if isinstance(roles, list) and role in roles and str(asset.get("type", "image/")).startswith("image/"):
                return str(asset["href"])
    return None
