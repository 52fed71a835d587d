"""PatternCom's labels: which image shows which value of which attribute (Psomas et al., arXiv 2405.15587).

PatternNet has 30 400 pictures of 38 classes, named as `swimmingpool001.jpg`. The published labels are a file an
attribute (`shape.csv`), without a header, with a picture's file name, the attribute and the value a row. Files of one's
own have a header with the columns path, class, attribute and value; a folder may do without, where its pictures lie in
CLASS/ATTRIBUTE/VALUE/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from geosearch.catalog.csv_rows import CsvRows
from geosearch.catalog.files import name_below, with_suffix
from geosearch.errors import CatalogError, InputError
from geosearch.evaluation.labels import Label, Labels, collect

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".gif"})
COLUMNS = ("path", "class", "attribute", "value")

# What the published evaluation takes for one class: for any attribute when it judges an answer …
MERGED = {
    "denseresidential": "residential", "sparseresidential": "residential",
    "closedroad": "road", "intersection": "road",
    "bridge": "roadpass", "overpass": "roadpass",
    "ferryterminal": "pier", "harbor": "pier",
    "parkinglot": "parking", "parkingspace": "parking",
}  # fmt: skip
# … but when it asks for another value within the class, only for the attribute that the merger is made for.
ASKED = {
    "density": {"residential"},
    "shape": {"road"},
    "context": {"roadpass"},
    "existence": {"pier", "parking"},
}


def read_labels(images: Path, tables: Sequence[Path] = ()) -> Labels:
    """Return all pictures below a folder, in one order on every machine, with their labels.

    tables: CSV files, or folders of them; without any, the folders that the pictures lie in are the labels. Raises
    InputError, naming file and line, for a table of another layout, a label of a picture that is not there, a label
    given twice with different values, and a picture with two classes.
    """
    if not images.is_dir():
        raise InputError(f"{images}: is no folder; give the folder that holds the pictures")
    try:
        paths = with_suffix(images, PICTURES)
    except CatalogError as error:
        raise InputError(str(error)) from error
    if not paths:
        raise InputError(f"{images}: holds no picture ({', '.join(sorted(PICTURES))})")
    names = [name_below(path, images) for path in paths]
    if not tables:
        return collect(images, names, _of_folders(names), "lie in CLASS/ATTRIBUTE/VALUE/; or give a table (--csv)")
    files = [file for table in tables for file in _files(table)]
    return collect(images, names, (label for file in files for label in _of_table(file)), "are named in the tables")


def class_of(name: str) -> str:
    """Return the class of a picture of PatternNet: its file's name up to the first digit."""
    return re.split(r"\d", PurePosixPath(name).name, maxsplit=1)[0]


def published_label(where: str, name: str, attribute: str, value: str) -> Label:
    """Return a row of the published tables as a label, its classes merged as the published evaluation does."""
    own = class_of(name)
    merged = MERGED.get(own, own)
    return Label(where, name, merged, merged if merged in ASKED.get(attribute, ()) else own, attribute, value)


def _of_folders(names: Sequence[str]) -> Iterator[Label]:
    for name in names:
        folders = PurePosixPath(name).parts[:-1]
        if len(folders) == 3:
            yield Label(name, name, folders[0], folders[0], folders[1], folders[2])


class _Table(NamedTuple):
    """Rows of a table with the numbers of their lines. published: it has no header, and three columns."""

    published: bool
    header: list[str]
    rows: list[tuple[int, list[str]]]


def _of_table(path: Path) -> Iterator[Label]:
    table = _read(path)
    at = range(3) if table.published else [table.header.index(column) for column in COLUMNS]
    for line, row in table.rows:
        where, cells = f"{path}, line {line}", [row[i].strip() for i in at]
        empty = next((i for i, cell in enumerate(cells) if not cell), None)
        if empty is not None:
            names = ("file name", "attribute", "value") if table.published else COLUMNS
            raise InputError(f"{where}: there is no {names[empty]}; fill it in or remove the line")
        if table.published:
            yield published_label(where, *cells)
        else:
            name, own, attribute, value = cells
            yield Label(where, name, own, own, attribute, value)


def _read(path: Path) -> _Table:
    try:
        read = CsvRows(path)
        try:
            blocks = list(read.blocks())
        finally:
            read.close()
    except CatalogError as error:
        raise InputError(str(error)) from error
    for reject in (reject for block in blocks for reject in block.rejects):
        raise InputError(f"{path}, line {reject.line}: {reject.reason}; correct the line")
    rows = [pair for block in blocks for pair in zip(block.lines, block.rows, strict=True)]
    header = read.header
    if PurePosixPath(header[0]).suffix.lower() in PICTURES:
        if len(header) != 3:
            raise InputError(
                f"{path}: has {len(header)} columns and no header; the published tables have a file name, the "
                f"attribute and the value a row, others begin with a line {','.join(COLUMNS)}"
            )
        return _Table(True, header, [(1, header), *rows])
    missing = [column for column in COLUMNS if column not in header]
    unknown = [column for column in header if column not in COLUMNS]
    if missing or unknown:
        faults = [
            *(["has no column " + ", ".join(map(repr, missing))] if missing else []),
            *(["has columns that mean nothing here: " + ", ".join(map(repr, unknown))] if unknown else []),
        ]
        raise InputError(f"{path}: {' and '.join(faults)}; its first line must be {','.join(COLUMNS)}")
    return _Table(False, header, rows)


def _files(table: Path) -> list[Path]:
    if not table.is_dir():
        return [table]
    found = sorted(path for path in table.iterdir() if path.suffix.lower() == ".csv")
    if not found:
        raise InputError(f"{table}: holds no .csv file; give the tables of labels or their folder")
    return found
