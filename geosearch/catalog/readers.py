"""The readers by name, and the recognition of the one that a source needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from geosearch.catalog.batch import Batch
from geosearch.catalog.files import walk
from geosearch.catalog.options import Options
from geosearch.errors import CatalogError, InputError, UnknownNameError

Read = Callable[[Path, Options], Iterator[Batch]]


@dataclass(frozen=True)
class Reader:
    """A kind of source: what it reads, which files, and the options that it understands."""

    name: str
    reads: str
    suffixes: frozenset[str]
    options: frozenset[str]

    @property
    def read(self) -> Read:
        """The function that yields a source's batches; its libraries are imported now."""
        found: Read = import_module(f"geosearch.catalog.read_{self.name}").read
        return found


def _reader(name: str, reads: str, suffixes: str, options: str) -> Reader:
    return Reader(name, reads, frozenset(suffixes.split()), frozenset(options.split()))


# In order of preference where a folder holds several kinds: a GeoTIFF knows its footprint, a STAC item says it,
# a photograph knows at most a point.
READERS = {
    reader.name: reader
    for reader in (
        _reader("geotiff", "folder of GeoTIFFs or COGs, or one of them", ".tif .tiff", ""),
        _reader(
            "stac", "STAC item, collection or catalog on disk, or a folder of items", ".json .geojson", "files asset"
        ),
        _reader("photo", "folder of JPEGs or PNGs with GPS positions in EXIF", ".jpg .jpeg .png", "reach_km placeless"),
        _reader("vector", "GeoJSON or GeoPackage", ".geojson .json .gpkg", "columns files layer reach_km"),
        _reader("iss", "CSV of ISS photographs with footprint corners", ".csv .tsv .txt", "longitudes reach_km files"),
        _reader("table", "CSV of names and places", ".csv .tsv .txt", "columns longitudes reach_km files"),
    )
}


def get_reader(name: str) -> Reader:
    """Return a reader by name. Raises UnknownNameError."""
    if name not in READERS:
        raise UnknownNameError("reader", name, sorted(READERS))
    return READERS[name]


def choose(source: Path, name: str | None, options: Options) -> Reader:
    """Return the reader that is named or that the source shows; options foreign to it raise InputError."""
    if not source.exists():
        raise CatalogError(f"{source} does not exist")
    reader = get_reader(name) if name else get_reader(recognise(source))
    foreign = sorted(options.given() - reader.options)
    if foreign:
        takes = ", ".join(sorted(reader.options)) or "none"
        raise InputError(f"reader {reader.name} takes no option {', '.join(foreign)}; its options: {takes}")
    return reader


def recognise(source: Path) -> str:
    """Return the name of the reader that a source needs. Raises CatalogError when none fits."""
    if source.is_file():
        found = _of_file(source)
        if found:
            return found
        raise CatalogError(f"{source} is of no kind that is known by its content; name one with --reader ({_names()})")
    kinds = set()
    for path in walk(source):
        if path.name in ("catalog.json", "collection.json") and path.parent == source:
            return "stac"
        kinds |= {reader.name for reader in READERS.values() if path.suffix.lower() in reader.suffixes}
    # A folder of tables or of GeoJSON files is no source: they are catalogued one by one.
    for name in ("geotiff", "stac", "photo"):
        if name in kinds:
            return name
    raise CatalogError(
        f"{source} holds no GeoTIFF, no STAC item, no JPEG and no PNG"
        + ("; name one of its tables" if kinds else "")
        + f" (readers: {_names()})"
    )


def left_aside(source: Path, reader: Reader) -> dict[str, int]:
    """Return how many files of a folder, by suffix, another reader could have read and this one does not."""
    if source.is_file():
        return {}
    others = frozenset[str]().union(*(r.suffixes for r in READERS.values())) - reader.suffixes
    counts: dict[str, int] = {}
    for path in walk(source):
        suffix = path.suffix.lower()
        if suffix in others:
            counts[suffix] = counts.get(suffix, 0) + 1
    return counts


def _of_file(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix in READERS["table"].suffixes:
        from geosearch.catalog.csv_rows import CsvRows
        from geosearch.catalog.read_iss import CORNER_COLUMNS

        rows = CsvRows(path)
        rows.close()
        # Half of the corner columns are enough to know what it is meant to be; the reader names those that lack.
        return "iss" if len(set(CORNER_COLUMNS) & set(rows.header)) >= 4 else "table"
    if suffix in READERS["vector"].suffixes and suffix != ".gpkg":
        return "stac" if _is_stac(path) else "vector"
    return next((name for name in ("geotiff", "photo", "vector") if suffix in READERS[name].suffixes), None)


def _is_stac(path: Path) -> bool:
    # A STAC object says its version near the beginning; a large GeoJSON file is not parsed to find that out.
    try:
        with path.open("rb") as file:
            start = file.read(65_536)
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
    if not start.strip():
        raise CatalogError(f"{path} is empty")
    if b'"stac_version"' in start:
        return True
    if path.stat().st_size > 16 << 20:
        return False
    try:
        found: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    items = found.get("features") if isinstance(found, dict) else None
    first = items[0] if isinstance(items, list) and items else found
    return isinstance(first, dict) and "stac_version" in first


def _names() -> str:
    return ", ".join(sorted(READERS))
