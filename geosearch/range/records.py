"""Rows of fixed width ↔ NumPy records, by PostgreSQL's binary COPY: numbers, vectors, points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from geosearch.database.copy_records import BATCH_BYTES, END, HEADER, read_records
from geosearch.errors import DatabaseError

_NUMBERS = {"int4": ">i4", "int8": ">i8", "float8": ">f8"}
POINT = "point"  # a geometry(Point, 4326): EWKB, big-endian, with its SRID
_POINT_HEAD = b"\x00\x20\x00\x00\x01\x00\x00\x10\xe6"


class Layout:
    """The columns of such rows, none of them null: int4, int8, float8, POINT, or a number d for vector(d).

    A column `c` of records is read and written by its name; a point's are `c_lon` and `c_lat`.
    """

    def __init__(self, **columns: str | int) -> None:
        self.columns = columns
        fields: list[tuple[Any, ...]] = [("_fields", ">i2")]
        self._facts: dict[str, Any] = {"_fields": len(columns)}
        for name, kind in columns.items():
            fields.append((f"_{name}_size", ">i4"))
            if isinstance(kind, int):
                fields += [(f"_{name}_dimension", ">i2"), (f"_{name}_unused", ">i2"), (name, ">f4", (kind,))]
                self._facts |= {f"_{name}_size": 4 + 4 * kind, f"_{name}_dimension": kind}
            elif kind == POINT:
                fields += [(f"_{name}_head", f"V{len(_POINT_HEAD)}"), (f"{name}_lon", ">f8"), (f"{name}_lat", ">f8")]
                self._facts |= {f"_{name}_size": len(_POINT_HEAD) + 16}
            else:
                fields.append((name, _NUMBERS[kind]))
                self._facts[f"_{name}_size"] = np.dtype(_NUMBERS[kind]).itemsize
        self.record = np.dtype(fields)

    def empty(self, rows: int) -> NDArray[Any]:
        """Return records (rows,) to be filled in."""
        made = np.zeros(rows, self.record)
        for name, value in self._facts.items():
            made[name] = value
        for name, kind in self.columns.items():
            if kind == POINT:
                made[f"_{name}_head"] = np.frombuffer(_POINT_HEAD, f"V{len(_POINT_HEAD)}")
        return made

    def write(self, conn: psycopg.Connection[Any], table: sql.Composable, rows: NDArray[Any]) -> None:
        """Copy records into a table's columns of these names; in the caller's transaction."""
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(table, names)
        with conn.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(HEADER)
            step = max(1, BATCH_BYTES // self.record.itemsize)
            for start in range(0, len(rows), step):
                copy.write(rows[start : start + step].tobytes())
            copy.write(END)

    def read(
        self, conn: psycopg.Connection[Any], select: sql.Composable, arguments: dict[str, Any] | None = None
    ) -> Iterator[NDArray[Any]]:
        """Yield records of a select of these columns, in its order, some megabytes at a time.

        Raises DatabaseError where the database sends others: a null, or vectors of another dimension.
        """
        for rows in read_records(conn, select, arguments, self.record, self._other):
            yield self._checked(rows)

    def read_all(
        self, conn: psycopg.Connection[Any], select: sql.Composable, arguments: dict[str, Any] | None = None
    ) -> NDArray[Any]:
        """Return all records of a select at once."""
        return np.concatenate([np.empty(0, self.record), *self.read(conn, select, arguments)])

    def _checked(self, rows: NDArray[Any]) -> NDArray[Any]:
        if not all((rows[name] == value).all() for name, value in self._facts.items()):
            raise self._other()
        return rows

    def _other(self) -> DatabaseError:
        wanted = ", ".join(
            f"{name} vector({k})" if isinstance(k, int) else f"{name} {k}" for name, k in self.columns.items()
        )
        return DatabaseError(
            f"the database did not send rows of {wanted}, none null: was a bank made anew meanwhile? Try again"
        )
