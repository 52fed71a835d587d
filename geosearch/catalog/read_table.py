"""Reader `table`: a CSV of names and places — a nadir (lat, lon) or a box (west, south, east, north)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from geosearch.catalog.batch import Batch
from geosearch.catalog.columns import dates, json_objects, numbers
from geosearch.catalog.crossing import Geometries
from geosearch.catalog.csv_rows import Block, CsvRows
from geosearch.catalog.files import FileFinder
from geosearch.catalog.footprints import boxes
from geosearch.catalog.options import Options
from geosearch.catalog.places import Wrong, latitudes, longitudes
from geosearch.catalog.table_rows import UNREADABLE_DATE, by_header, find_files, keep_as_written, without
from geosearch.errors import CatalogError
from geosearch.geometry import Floats

# What a column may be called, the first that is there wins; case does not matter.
USUAL = {
    "name": ("name", "id", "filename", "file_name", "file", "fn", "image"),
    "lat": ("lat", "latitude", "nadir_lat", "y"),
    "lon": ("lon", "lng", "long", "longitude", "nadir_lon", "x"),
    "west": ("west", "min_lon", "minlon", "xmin"),
    "south": ("south", "min_lat", "minlat", "ymin"),
    "east": ("east", "max_lon", "maxlon", "xmax"),
    "north": ("north", "max_lat", "maxlat", "ymax"),
    "captured_at": ("captured_at", "datetime", "date", "timestamp", "time", "acquired"),
    "uri": ("uri", "url", "href", "path", "filepath"),
}
BY_LINE = "@line"
_BOX = ("west", "south", "east", "north")


def match_columns(path: Path, header: list[str], named: Mapping[str, str]) -> dict[str, str]:
    """Return {our word: the table's column}. Raises CatalogError when a column is missing or unknown."""
    unknown = sorted(set(named) - set(USUAL))
    if unknown:
        raise CatalogError(f"a table has no part called {', '.join(unknown)}; its parts are {', '.join(USUAL)}")
    lost = sorted({c for k, c in named.items() if c not in header and not (k == "name" and c == BY_LINE)})
    if lost:
        raise CatalogError(f"{path} has no column {', '.join(lost)}; its columns are {', '.join(header)}")
    lower = {column.lower(): column for column in reversed(header)}
    found = dict(named)
    for part, usual in USUAL.items():
        column = next((lower[word] for word in usual if word in lower), None)
        if part not in found and column and column not in named.values():
            found[part] = column
    columns = f"its columns are {', '.join(header)}"
    if "name" not in found:
        raise CatalogError(
            f"{path} has no column for an image's name; {columns}. "
            f"Say which it is with --column name=COLUMN, or number the rows with --column name={BY_LINE}"
        )
    has_point, has_box = {"lat", "lon"} <= set(found), set(_BOX) <= set(found)
    if not has_point and not has_box:
        raise CatalogError(
            f"{path} has no columns for a place (lat and lon, or west, south, east and north); {columns}. "
            "Say which they are with --column lat=COLUMN --column lon=COLUMN"
        )
    used = {"name", "captured_at", "uri"} | ({"lat", "lon"} if has_point else set()) | (set(_BOX) if has_box else set())
    return {part: column for part, column in found.items() if part in used}


def read(source: Path, options: Options) -> Iterator[Batch]:
    """Yield the rows of a table; columns that have no other use become properties."""
    table = CsvRows(source)
    try:
        columns = match_columns(source, table.header, options.columns)
        finder = FileFinder(options.files)
        for block in table.blocks():
            yield _batch(table, block, columns, finder, options)
    finally:
        table.close()


def _batch(table: CsvRows, block: Block, columns: dict[str, str], finder: FileFinder, options: Options) -> Batch:
    rows, n = block.rows, len(block.rows)
    by_column = by_header(table.header, rows)
    wrong: Wrong = {}
    if columns["name"] == BY_LINE:
        names = [f"{table.path.stem}:{line}" for line in block.lines]
    else:
        names = [name.strip() for name in by_column[columns["name"]]]

    def column(part: str) -> Floats:
        values, faults = numbers(by_column[columns[part]])
        wrong.update({i: f"{part}: {fault}" for i, fault in faults.items() if i not in wrong})
        return values

    nadir = np.full((n, 2), np.nan)
    if "lat" in columns:
        lat, (lon, beyond) = column("lat"), longitudes(column("lon"), options)
        wrong = latitudes(lat) | beyond | wrong
        half = np.isnan(lat) != np.isnan(lon)
        wrong |= {int(i): "only one of latitude and longitude is given" for i in np.flatnonzero(half) if i not in wrong}
        nadir = np.column_stack([lat, lon])
    footprint: Geometries = np.full(n, None, dtype=object)
    if "west" in columns:
        sides = np.column_stack([column(side) for side in _BOX])
        given = ~np.isnan(sides).all(axis=1)
        for side in (0, 2):  # checked, not turned: 0 … 360 is the whole circle and must not become 0 … 0
            _, beyond = longitudes(sides[:, side], options, _BOX[side])
            wrong = beyond | wrong
        made, refused = boxes(*sides[given].T)
        footprint[given] = made
        wrong = {int(np.flatnonzero(given)[i]): reason for i, reason in refused.items()} | wrong
    nowhere = np.isnan(nadir).any(axis=1) & np.array([f is None for f in footprint], bool)
    wrong |= {int(i): "no place is given" for i in np.flatnonzero(nowhere) if i not in wrong}

    problems: list[tuple[str, ...]] = [()] * n
    captured: list[str | None] = [None] * n
    if "captured_at" in columns:
        captured, unreadable = dates(by_column[columns["captured_at"]])
        problems = [(UNREADABLE_DATE,) if bad else () for bad in unreadable]
    uri: list[str | None] = [None] * n
    content: list[bytes | None] = [None] * n
    if "uri" in columns or options.files:
        references = by_column[columns["uri"]] if "uri" in columns else [""] * n
        uri, content = find_files(references, names, finder, table.path.parent, wrong, problems)
    used = set(columns.values())
    properties = json_objects({h: values for h, values in by_column.items() if h and h not in used}, n)
    if "captured_at" in columns:
        keep_as_written(properties, columns["captured_at"], by_column[columns["captured_at"]], unreadable)
    whole = Batch(
        name=names,
        line=np.array(block.lines, np.int64),
        uri=uri,
        captured_at=captured,
        nadir=nadir,
        footprint=footprint,
        properties=properties,
        content_sha256=content,
        problems=problems,
        rejects=block.rejects,
        done=block.done,
    )
    return without(whole, wrong, [table.payload(row) for row in rows] if wrong else [])
