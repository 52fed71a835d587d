"""Reader `vector`: GeoJSON and GeoPackage through GDAL, streamed as Arrow batches; any CRS."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyogrio
import pyogrio.errors
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geosearch.catalog.batch import Batch, Record, Reject, from_records, shortened, utc
from geosearch.catalog.files import MISSING_FILE, FileFinder
from geosearch.catalog.footprints import STEP_DEG, Footprint, polygon
from geosearch.catalog.options import Options
from geosearch.catalog.problems import SELF_CROSSING
from geosearch.catalog.table_rows import UNREADABLE_DATE
from geosearch.errors import CatalogError, InputError

BATCH_ROWS = 2000
_GDAL_ERRORS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.CRSError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.FieldError,
    pyogrio.errors.GeometryError,
)
USUAL = {
    "name": ("name", "id", "filename", "file", "title"),
    "captured_at": ("captured_at", "datetime", "date", "timestamp", "time", "acquired"),
    "uri": ("uri", "url", "href", "path", "location"),
    "lat": ("nadir_lat",),
    "lon": ("nadir_lon",),
}
_NADIR = ("lat", "lon")


@dataclass(frozen=True)
class _Layer:
    """What every feature of the layer is read with; `turned` is None where coordinates are degrees already."""

    columns: dict[str, str]
    geometry: str
    fid: str
    turned: Transformer | None
    finder: FileFinder
    folder: Path


def read(source: Path, options: Options) -> Iterator[Batch]:
    """Yield features: polygons as footprints, points as nadirs; attributes without another use become properties.

    A polygon's attributes nadir_lat and nadir_lon, degrees in whatever CRS, are its nadir.
    """
    if source.is_dir():
        raise CatalogError(f"{source} is a folder; reader vector reads one GeoJSON or GeoPackage file")
    if source.is_file() and not source.stat().st_size:
        raise CatalogError(f"{source} is empty")
    try:
        layer = options.layer or _only_layer(source)
        arrow = pyogrio.open_arrow(source, layer=layer, batch_size=BATCH_ROWS, return_fids=True, use_pyarrow=True)
        with arrow as (meta, reader):
            this = _Layer(
                columns=match_columns(source, list(meta["fields"]), options.columns),
                geometry=meta["geometry_name"] or "wkb_geometry",
                fid=meta.get("fid_column") or "OGC_FID",
                turned=_to_degrees(source, meta["crs"]),
                finder=FileFinder(options.files),
                folder=source.parent,
            )
            total = int(pyogrio.read_info(source, layer=layer)["features"])
            number = 0
            for part in reader:
                batch = _batch(pa.Table.from_batches([part]), this, number)
                number += part.num_rows
                batch.done = min(1.0, number / total) if total > 0 else None
                yield batch
    except _GDAL_ERRORS as error:
        raise CatalogError(f"{source} cannot be read: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise CatalogError(f"{source} stops being readable: {error}. What came before is catalogued") from error


def match_columns(source: Path, fields: list[str], named: Mapping[str, str]) -> dict[str, str]:
    """Return {our word: the layer's attribute}. Raises CatalogError for unknown ones."""
    unknown = sorted(set(named) - set(USUAL))
    if unknown:
        raise CatalogError(f"a feature has no part called {', '.join(unknown)}; its parts are {', '.join(USUAL)}")
    lost = sorted(set(named.values()) - set(fields))
    if lost:
        raise CatalogError(f"{source} has no attribute {', '.join(lost)}; its attributes are {', '.join(fields)}")
    lower = {field.lower(): field for field in reversed(fields)}
    found = dict(named)
    for part, usual in USUAL.items():
        field = next((lower[word] for word in usual if word in lower), None)
        if part not in found and field and field not in named.values():
            found[part] = field
    if "name" not in found:
        raise CatalogError(
            f"{source} has no attribute for an image's name; its attributes are {', '.join(fields)}. "
            "Say which it is with --column name=ATTRIBUTE"
        )
    return found


def _only_layer(source: Path) -> str:
    layers = [(str(name), kind) for name, kind in pyogrio.list_layers(source)]
    placed = [name for name, kind in layers if kind is not None]
    if len(placed) == 1:
        return placed[0]
    if not placed:
        raise CatalogError(f"{source} has no layer with geometry")
    raise CatalogError(f"{source} has several layers: {', '.join(placed)}; name one with --layer")


def _to_degrees(source: Path, crs: str | None) -> Transformer | None:
    if not crs:
        raise CatalogError(f"{source} does not say its CRS; give it one (ogr2ogr -a_srs) and try again")
    try:
        given = CRS.from_user_input(crs)
        # OGC:CRS84 is EPSG:4326 with longitude first, as GDAL hands geometry on either way.
        if given.to_epsg() == 4326 or given.to_authority() == ("OGC", "CRS84"):
            return None
        return Transformer.from_crs(given, "EPSG:4326", always_xy=True)
    except CRSError as error:
        raise CatalogError(f"{source} has a CRS that is not known: {error}") from error


def _batch(table: pa.Table, layer: _Layer, before: int) -> Batch:
    with np.errstate(invalid="ignore"):  # NaN is told row by row, in words
        shapes = shapely.from_wkb(table.column(layer.geometry).to_numpy(), on_invalid="ignore")
    rows = table.drop_columns([layer.geometry]).to_pylist()
    records: list[Record] = []
    rejects: list[Reject] = []
    for number, (shape, row) in enumerate(zip(shapes, rows, strict=True), before + 1):
        row.pop(layer.fid, None)
        try:
            records.append(_record(shape, row, number, layer))
        except InputError as error:
            name = row.get(layer.columns.get("name", ""))
            payload = shortened(json.dumps(row, ensure_ascii=False, default=str))
            rejects.append(Reject(str(error), number, None if name is None else str(name), payload))
    return from_records(records, rejects)


def _record(shape: Any, row: dict[str, Any], number: int, layer: _Layer) -> Record:
    columns = layer.columns
    name = row.get(columns["name"])
    if name is None or str(name) == "":
        raise InputError("the feature has no name")
    if shape is None or shape.is_empty:
        raise InputError("the feature has no geometry, or one that cannot be read")
    nadir, footprint = None, Footprint(None)
    if shape.geom_type == "Point":
        nadir = _point(shape, layer.turned)
    elif shape.geom_type in ("Polygon", "MultiPolygon"):
        footprint = polygon(_degrees(shape, layer.turned))
        nadir = _nadir(row, columns)
        if footprint.geometry is None:
            raise InputError("the feature's polygon has no area")
    else:
        raise InputError(f"a {shape.geom_type} is no place: a Point, Polygon or MultiPolygon is needed")
    problems = [SELF_CROSSING] if footprint.self_crossing else []
    captured = _moment(row.get(columns.get("captured_at", "")), problems)
    reference = row.get(columns.get("uri", ""))
    uri, content, missing = layer.finder.find(None if reference is None else str(reference), layer.folder, str(name))
    used = set(columns.values()) - ({columns["captured_at"]} if UNREADABLE_DATE in problems else set())
    if shape.geom_type == "Point":
        used -= {columns[part] for part in _NADIR if part in columns}
    return Record(
        name=str(name),
        line=number,
        uri=uri,
        captured_at=captured,
        nadir=nadir,
        footprint=footprint.geometry,
        properties={key: value for key, value in row.items() if key not in used and value is not None},
        content_sha256=content,
        problems=(*problems, MISSING_FILE) if missing else tuple(problems),
    )


def _nadir(row: dict[str, Any], columns: dict[str, str]) -> tuple[float, float] | None:
    given = [row.get(columns.get(part, "")) for part in _NADIR]
    if given == [None, None]:
        return None
    if None in given:
        raise InputError("only one of the nadir's latitude and longitude is given")
    try:
        lat, lon = (float(value) for value in given if value is not None)
    except (TypeError, ValueError):
        raise InputError(f"the nadir {given[0]!r}, {given[1]!r} is no pair of numbers") from None
    return _inside(lat, lon, "nadir")


def _degrees(shape: Any, turned: Transformer | None) -> Any:
    if turned is None:
        return shape
    # Straight in the layer's own CRS: densify there, then turn.
    west, south, east, north = shape.bounds
    step = max(east - west, north - south) / 64 if turned.source_crs and turned.source_crs.is_projected else STEP_DEG
    dense = shapely.segmentize(shape, step) if step > 0 else shape
    return shapely.transform(dense, lambda xy: np.column_stack(turned.transform(xy[:, 0], xy[:, 1])))


def _point(shape: Any, turned: Transformer | None) -> tuple[float, float]:
    lon, lat = turned.transform(shape.x, shape.y) if turned else (shape.x, shape.y)
    return _inside(float(lat), float(lon), "point")


def _inside(lat: float, lon: float, what: str) -> tuple[float, float]:
    if not abs(lat) <= 90 or not abs(lon) <= 180:
        raise InputError(f"the {what} {lat:g}, {lon:g} is outside -90 … 90, -180 … 180")
    return lat, lon


def _moment(value: Any, problems: list[str]) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return utc(value)
    if isinstance(value, date):
        return utc(datetime(value.year, value.month, value.day))
    try:
        return utc(datetime.fromisoformat(str(value)))
    except ValueError:
        problems.append(UNREADABLE_DATE)
        return None
