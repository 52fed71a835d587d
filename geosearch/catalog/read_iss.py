"""Reader `iss`: the table of astronaut photographs with four footprint corners, as NASA's photo database exports it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geosearch.catalog.batch import Batch
from geosearch.catalog.columns import dates, json_objects, numbers
from geosearch.catalog.corners import corners
from geosearch.catalog.crossing import Geometries
from geosearch.catalog.csv_rows import Block, CsvRows
from geosearch.catalog.files import FileFinder
from geosearch.catalog.options import Options
from geosearch.catalog.places import Wrong, latitudes, longitudes
from geosearch.catalog.problems import NO_AREA, SELF_CROSSING
from geosearch.catalog.table_rows import UNREADABLE_DATE, by_header, find_files, keep_as_written, without
from geosearch.errors import CatalogError
from geosearch.geometry import Floats

CORNERS = ("LL", "UL", "UR", "LR")
CORNER_COLUMNS = tuple(f"{corner}_{axis}" for corner in CORNERS for axis in ("LAT", "LON"))
NAME_COLUMNS = ("MISSION", "ROLL", "FRAME")
Flags = NDArray[np.bool_]
NEEDED = (*CORNER_COLUMNS, *NAME_COLUMNS)


def read(source: Path, options: Options) -> Iterator[Batch]:
    """Yield photographs named MISSION-ROLL-FRAME; columns without another use become properties."""
    table = CsvRows(source)
    try:
        missing = [column for column in NEEDED if column not in table.header]
        if missing:
            raise CatalogError(
                f"{source} is no table of ISS photographs: it lacks {', '.join(missing)}. "
                "A table of names and places alone is read with --reader table"
            )
        finder = FileFinder(options.files)
        for block in table.blocks():
            yield _batch(table, block, finder, options)
    finally:
        table.close()


def _batch(table: CsvRows, block: Block, finder: FileFinder, options: Options) -> Batch:
    rows, n = block.rows, len(block.rows)
    columns = by_header(table.header, rows)
    wrong: Wrong = {}
    names = [
        "-".join(part.strip() for part in parts) for parts in zip(*(columns[c] for c in NAME_COLUMNS), strict=True)
    ]
    unnamed = [i for i, parts in enumerate(zip(*(columns[c] for c in NAME_COLUMNS), strict=True)) if not all(parts)]
    wrong |= dict.fromkeys(unnamed, "MISSION, ROLL or FRAME is empty, so the photograph has no name")

    def place(lat: str, lon: str) -> Floats:
        """Return (n, 2) latitude and longitude, noting what is wrong with them."""
        found = []
        for column in (lat, lon):
            values, faults = numbers(columns[column])
            wrong.update({i: f"{column}: {fault}" for i, fault in faults.items() if i not in wrong})
            found.append(values)
        wrong.update({i: fault for i, fault in latitudes(found[0], lat).items() if i not in wrong})
        found[1], beyond = longitudes(found[1], options, lon)
        wrong.update({i: fault for i, fault in beyond.items() if i not in wrong})
        return np.column_stack(found)

    quads = np.stack([place(f"{c}_LAT", f"{c}_LON") for c in CORNERS], axis=1)
    nadir = np.full((n, 2), np.nan)
    if {"NADIR_LAT", "NADIR_LON"} <= set(columns):
        nadir = place("NADIR_LAT", "NADIR_LON")
    absent = np.isnan(quads).any(axis=(1, 2))
    partial = absent & ~np.isnan(quads).all(axis=(1, 2))
    half = np.isnan(nadir).any(axis=1) & ~np.isnan(nadir).all(axis=1)
    wrong |= {int(i): "a footprint corner is missing" for i in np.flatnonzero(partial) if i not in wrong}
    wrong |= {int(i): "only one of NADIR_LAT and NADIR_LON is given" for i in np.flatnonzero(half) if i not in wrong}
    usable: Flags = np.logical_not(absent)
    usable[list(wrong)] = False
    footprint: Geometries = np.full(n, None, dtype=object)
    crossed = np.zeros(n, bool)
    footprint[usable], crossed[usable] = corners(quads[usable])
    hollow: Flags = usable & np.array([shape is None for shape in footprint], bool)
    nowhere = np.isnan(nadir).any(axis=1) & np.array([shape is None for shape in footprint], bool)
    wrong |= {
        int(i): "the footprint has no area and no nadir is given" if hollow[i] else "no footprint and no nadir is given"
        for i in np.flatnonzero(nowhere)
        if i not in wrong
    }

    captured, unreadable = dates(columns.get("YYYYMMDD", ("",) * n))
    problems = _problems(crossed, hollow, unreadable)
    uri, content = find_files(columns.get("URL", ("",) * n), names, finder, table.path.parent, wrong, problems)
    used = {*CORNER_COLUMNS, "NADIR_LAT", "NADIR_LON", "URL", "YYYYMMDD"}
    properties = json_objects({h.lower(): values for h, values in columns.items() if h and h not in used}, n)
    keep_as_written(properties, "yyyymmdd", columns.get("YYYYMMDD", ()), unreadable)
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


def _problems(crossed: Flags, hollow: Flags, unreadable: Flags) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()] * len(crossed)
    for what, rows in ((SELF_CROSSING, crossed), (NO_AREA, hollow), (UNREADABLE_DATE, unreadable)):
        for i in np.flatnonzero(rows):
            found[i] += (what,)
    return found
