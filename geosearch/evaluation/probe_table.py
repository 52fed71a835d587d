"""Read the table of a probe: a latitude, a longitude and a quantity a row, from CSV or Parquet, by column names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.catalog.columns import numbers
from geosearch.catalog.csv_rows import CsvRows
from geosearch.errors import CatalogError, InputError
from geosearch.geometry import Floats


@dataclass(frozen=True)
class Table:
    """Rows that can be used: lat, lon (n,) in degrees (lon −180 … 180), target (n,) numbers, or strings of classes.

    classes: what the target is. left_out: for each reason, the rows that could not be used: lines of a CSV file (its
    header is line 1), rows of a Parquet file (from 1).
    """

    name: str
    lat: Floats
    lon: Floats
    target: NDArray[Any]
    classes: bool
    left_out: dict[str, list[int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lat)

    def remarks(self) -> list[str]:
        """Return one sentence for each reason why rows were left out: how many, and which."""
        return [
            f"{len(rows)} row{'s' if len(rows) > 1 else ''} left out, {reason}: {self.unit} "
            + ", ".join(map(str, rows[:10]))
            + (" …" if len(rows) > 10 else "")
            for reason, rows in self.left_out.items()
        ]

    @property
    def unit(self) -> str:
        """Return what the numbers of left_out count."""
        return "row" if self.name.lower().endswith((".parquet", ".geoparquet")) else "line"


def read_table(path: Path, lat: str, lon: str, target: str, classes: bool = False, log1p: bool = False) -> Table:
    """Return the usable rows of a table. lat, lon, target: names of its columns.

    log1p: the target becomes log(1 + y), as for population. Raises InputError for a file or column that is not there
    and for a table without usable rows.
    """
    if classes and log1p:
        raise InputError("log(1 + y) is for numbers; leave out --log1p or --classes")
    if lat == lon:
        raise InputError(f"latitude and longitude are both column {lat!r}; name two")
    rows, columns, left_out = _columns(path, (lat, lon, target))
    phi, lam = _numbers(columns[0]), _numbers(columns[1])
    good = np.ones(len(rows), bool)

    def leave_out(bad: NDArray[np.bool_], reason: str) -> None:
        bad = bad & good
        if bad.any():
            left_out[reason] = rows[bad].tolist()
            good[bad] = False

    leave_out(~np.isfinite(phi), f"no number in {lat!r}")
    leave_out(~np.isfinite(lam), f"no number in {lon!r}")
    with np.errstate(invalid="ignore"):
        leave_out(np.abs(phi) > 90, f"{lat!r} outside −90 … 90 (are latitude and longitude swapped?)")
        leave_out((lam < -180) | (lam > 360), f"{lon!r} outside −180 … 360")
    y: NDArray[Any]
    if classes:
        y = np.array(["" if v is None else str(v).strip() for v in columns[2]])
        leave_out(y == "", f"nothing in {target!r}")
    else:
        y = _numbers(columns[2])
        leave_out(~np.isfinite(y), f"no number in {target!r}")
        if log1p:
            leave_out(~(y > -1), f"log(1 + y) needs {target!r} above −1")
            y = np.log1p(np.where(good, y, 0))
    table = Table(path.name, phi[good], (lam[good] + 180) % 360 - 180, y[good], classes, left_out)
    if not len(table):
        raise InputError(f"{path}: no row can be used. " + "; ".join(table.remarks()))
    return table


def _columns(
    path: Path, names: tuple[str, str, str]
) -> tuple[NDArray[np.int64], list[Sequence[Any]], dict[str, list[int]]]:
    """Return the rows' numbers (n,), the values of three columns, and by reason the lines that cannot be read."""
    if path.suffix.lower() in (".parquet", ".geoparquet"):
        import pyarrow
        import pyarrow.parquet

        try:
            file = pyarrow.parquet.ParquetFile(path)
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"{path} cannot be read as Parquet: {error}") from error
        _check_names(path, names, file.schema_arrow.names)
        table = file.read(columns=list(dict.fromkeys(names)))
        return np.arange(1, table.num_rows + 1), [table[name].to_pylist() for name in names], {}
    try:
        read = CsvRows(path)
    except CatalogError as error:
        raise InputError(f"{error}. Give CSV with a header, or Parquet") from error
    lines: list[int] = []
    columns: list[list[str]] = [[], [], []]
    unread: dict[str, list[int]] = {}
    try:
        _check_names(path, names, [name for name in read.header if name])
        where = [read.header.index(name) for name in names]
        for block in read.blocks():
            lines += block.lines
            for column, index in zip(columns, where, strict=True):
                column += [row[index] for row in block.rows]
            for reject in block.rejects:
                unread.setdefault(reject.reason, []).append(reject.line or 0)
    finally:
        read.close()
    return np.array(lines, np.int64), list(columns), unread


def _check_names(path: Path, names: Sequence[str], known: Sequence[str]) -> None:
    twice = [name for name in names if list(known).count(name) > 1]
    if twice:
        raise InputError(f"{path} has two columns {', '.join(map(repr, twice))}; rename one")
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{path} has no column {', '.join(map(repr, missing))}; it has: {', '.join(known) or 'none'}")


def _numbers(values: Sequence[Any]) -> Floats:
    if all(isinstance(value, str) for value in values):
        return numbers(values)[0]
    return np.array([_number(value) for value in values], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
