"""Files of places, read in blocks: CSV with a header, Parquet, and layers of points (GeoPackage, GeoJSON)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geosearch.catalog.columns import numbers
from geosearch.catalog.csv_rows import Block as CsvBlock
from geosearch.catalog.csv_rows import CsvRows
from geosearch.errors import InputError
from geosearch.geometry import Floats

LAT_NAMES, LON_NAMES = ("lat", "latitude", "y"), ("lon", "lng", "long", "longitude", "x")
ADDED = ("embedding", "problem")  # columns of the answer
BLOCK = 4096
_LAYERS = (".gpkg", ".geojson", ".json", ".fgb", ".shp")


class PlaceBlock(NamedTuple):
    """Rows of a file, in its order. columns: all of the file's; lat, lon (n,) degrees; problems: row → why it is no
    place (its lat and lon are then 0).
    """

    columns: pa.RecordBatch
    lat: Floats
    lon: Floats
    problems: dict[int, str]


@dataclass(frozen=True)
class PlacesFile:
    """An opened file: its columns, about how many rows (None: unknown), and its blocks. A context manager."""

    schema: pa.Schema
    rows: int | None
    blocks: Iterator[PlaceBlock]
    close: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_places(
    path: Path, lat: str | None = None, lon: str | None = None, block: int = BLOCK, layer: str | None = None
) -> PlacesFile:
    """Open a file of places in degrees (WGS 84). lat, lon: its columns, where they bear none of the usual names.

    CSV (comma, semicolon, tab or bar; its columns stay text), Parquet, or a layer of points. layer: which, where a file
    has several. Raises InputError when the file as a whole cannot be used; a row that is no place is a problem of that
    row.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that is there") from error
    if (lat is None) != (lon is None):
        raise InputError("name both columns, the latitude's and the longitude's, or neither: --lat COLUMN --lon COLUMN")
    is_layer = magic != b"PAR1" and path.suffix.lower() in _LAYERS
    if is_layer and lat is not None:
        raise InputError(f"{path}: the places of a layer are its points, not columns; leave out --lat and --lon")
    if layer is not None and not is_layer:
        raise InputError(f"{path}: has no layers; leave out --layer")
    if magic == b"PAR1":
        return _open_parquet(path, lat, lon, block)
    if is_layer:
        return _open_layer(path, block, layer)
    return _open_csv(path, lat, lon, block)


def checked(lat: Floats, lon: Floats, problems: dict[int, str]) -> tuple[Floats, Floats, dict[int, str]]:
    """Return places with 0 where they are none, and why, by row; what is known already stays."""
    problems = dict(problems)
    for what, values, limit in (("latitude", lat, 90), ("longitude", lon, 180)):
        for row in np.flatnonzero(~(np.abs(values) <= limit)).tolist():  # also true for NaN
            value = values[row]
            why = f"no {what}" if np.isnan(value) else f"{what} {value:.10g} is not within -{limit} … {limit}"
            if what == "latitude" and abs(value) <= 180 and abs(lon[row]) <= 90:
                why += "; are latitude and longitude swapped?"
            problems.setdefault(row, why)
    wrong = np.array(sorted(problems), np.int64)
    lat, lon = lat.copy(), lon.copy()
    lat[wrong] = lon[wrong] = 0.0
    return lat, lon, problems


def place_columns(path: Path, names: Sequence[str], lat: str | None, lon: str | None) -> tuple[str, str]:
    """Return the names of the latitude's and the longitude's column. Raises InputError where they cannot be told."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: has two columns named {', '.join(twice)}; rename one")
    taken = [name for name in ADDED if name in names]
    if taken:
        raise InputError(f"{path}: has a column {taken[0]!r}, which is the name of one of the answer's; rename it")
    found = []
    for what, given, usual in (("latitude", lat, LAT_NAMES), ("longitude", lon, LON_NAMES)):
        if given is not None and given not in names:
            raise InputError(f"{path}: has no column {given!r}; it has {', '.join(names)}")
        by_name = {name.strip().lower(): name for name in reversed(names)}
        column = given or next((by_name[name] for name in usual if name in by_name), None)
        if column is None:
            raise InputError(
                f"{path}: has no column for the {what} ({', '.join(usual)}); it has {', '.join(names)}. Name both: "
                "--lat COLUMN --lon COLUMN"
            )
        found.append(column)
    if found[0] == found[1]:
        raise InputError(f"{path}: latitude and longitude are both column {found[0]!r}; name two")
    return found[0], found[1]


def _open_csv(path: Path, lat: str | None, lon: str | None, block: int) -> PlacesFile:
    from geosearch.errors import CatalogError

    try:
        rows = CsvRows(path)
    except CatalogError as error:
        raise InputError(f"{error}. Give CSV with a header, Parquet, or a layer of points") from error
    try:
        where = place_columns(path, [name for name in rows.header if name], lat, lon)
    except InputError:
        rows.close()
        raise
    names = _named(rows.header)
    schema = pa.schema([(name, pa.string()) for name in names])
    blocks = (_csv_block(part, schema, where) for part in rows.blocks(block))
    return PlacesFile(schema, _lines(path) - 1, blocks, rows.close)


def _named(header: list[str]) -> list[str]:
    """Return a header in which columns without a name have one, which no other bears."""
    names = list(header)
    for i, name in enumerate(names):
        if not name:
            names[i] = next(n for n in (f"column_{k}" for k in range(i + 1, i + 2 + len(names))) if n not in names)
    return names


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))


def _csv_block(part: CsvBlock, schema: pa.Schema, where: tuple[str, str]) -> PlaceBlock:
    # Rows that cannot be read keep their place in the file, without their columns.
    merged: list[tuple[int, list[str] | None, str]] = [
        (line, row, "") for line, row in zip(part.lines, part.rows, strict=True)
    ]
    merged += [(reject.line or 0, None, f"line {reject.line}: {reject.reason}") for reject in part.rejects]
    merged.sort(key=lambda entry: entry[0])
    n, width = len(merged), len(schema.names)
    cells = [[row[i] if row else None for _, row, _ in merged] for i in range(width)]
    problems = {i: why for i, (_, _, why) in enumerate(merged) if why}
    found = []
    for name in where:
        values, wrong = numbers([cell or "" for cell in cells[schema.names.index(name)]])
        found.append(values)
        for row, why in wrong.items():
            problems.setdefault(row, f"{name}: {why}")
    columns = pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in cells], schema=schema)
    assert columns.num_rows == n
    return PlaceBlock(columns, *checked(found[0], found[1], problems))


def _open_parquet(path: Path, lat: str | None, lon: str | None, block: int) -> PlacesFile:
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow.remove_metadata()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}); is it whole?") from error
    try:
        where = place_columns(path, schema.names, lat, lon)
    except InputError:
        file.close()
        raise
    for name in where:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            file.close()
            raise InputError(f"{path}: column {name!r} is {kind}; degrees are numbers")
    return PlacesFile(schema, file.metadata.num_rows, _parquet_blocks(path, file, where, block), file.close)


def _parquet_blocks(path: Path, file: Any, where: tuple[str, str], block: int) -> Iterator[PlaceBlock]:
    done = 0
    batches = file.iter_batches(batch_size=block)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read after row {done} ({error}); is it whole?") from error
        if batch is None:
            return
        lat, lon = (
            np.array(batch.column(name).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
            for name in where
        )
        yield PlaceBlock(batch, *checked(lat, lon, {}))
        done += batch.num_rows


def _open_layer(path: Path, block: int, layer: str | None) -> PlacesFile:
    """Open a layer of points in any reference system; its attributes are the columns."""
    import pyogrio
    import pyogrio.errors

    try:
        layer = _layer(path, [(str(name), kind) for name, kind in pyogrio.list_layers(path)], layer)
        facts = pyogrio.read_info(path, layer=layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        why = str(error).split(";")[0]  # what follows is advice on GDAL's own tools
        raise InputError(f"{path}: GDAL cannot read it ({why}); give CSV, Parquet or a layer of points") from error
    with pyogrio.open_arrow(path, layer=layer, batch_size=1, use_pyarrow=True) as (about, reader):
        geometry = about["geometry_name"] or "wkb_geometry"
        schema = pa.schema([field for field in reader.schema if field.name != geometry])
    taken = [name for name in ADDED if name in schema.names]
    if taken:
        raise InputError(f"{path}: has an attribute {taken[0]!r}, the name of a column of the answer; rename it")
    rows = facts["features"] if facts["features"] >= 0 else None
    blocks = _layer_blocks(path, layer, geometry, schema, facts["crs"], block)
    return PlacesFile(schema, rows, blocks, blocks.close)


def _layer(path: Path, layers: list[tuple[str, str | None]], wanted: str | None) -> str:
    """Return the name of the layer to be read, out of (name, kind of geometry). Raises InputError."""
    placed = [name for name, kind in layers if kind is not None]
    if wanted is not None and wanted not in placed:
        raise InputError(f"{path}: has no layer {wanted!r} with a geometry; it has {', '.join(placed) or 'none'}")
    if not placed:
        raise InputError(
            f"{path}: has no geometry; export it as CSV with columns lat and lon, or give a layer of points"
        )
    if wanted is None and len(placed) > 1:
        raise InputError(f"{path}: has several layers: {', '.join(placed)}; choose one: --layer {placed[0]}")
    return wanted or placed[0]


def _layer_blocks(
    path: Path, layer: str, geometry: str, schema: pa.Schema, crs: str | None, block: int
) -> Generator[PlaceBlock, None, None]:
    import pyogrio
    import shapely
    from pyproj import Transformer

    turned = None if crs in (None, "EPSG:4326", "OGC:CRS84") else Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    with pyogrio.open_arrow(path, layer=layer, batch_size=block, use_pyarrow=True) as (_, reader):
        for batch in reader:
            shapes = shapely.from_wkb(batch.column(geometry).to_numpy(zero_copy_only=False), on_invalid="ignore")
            # Many programs write every layer of points as one of multipoints, of one point each.
            single = (shapely.get_type_id(shapes) == 4) & (shapely.get_num_geometries(shapes) == 1)
            shapes = np.where(single, shapely.get_geometry(shapes, 0), shapes)
            points = (shapely.get_type_id(shapes) == 0) & ~shapely.is_empty(shapes)
            lon, lat = shapely.get_x(shapes), shapely.get_y(shapes)
            if turned is not None:
                lon, lat = turned.transform(lon, lat)
            problems = {int(row): _no_point(shapes[row]) for row in np.flatnonzero(~points)}
            yield PlaceBlock(batch.select(schema.names), *checked(np.array(lat), np.array(lon), problems))


def _no_point(shape: Any) -> str:
    if shape is None or shape.is_empty:
        return "the feature has no geometry"
    return f"the feature is no point but a {shape.geom_type}; take its centroid"
