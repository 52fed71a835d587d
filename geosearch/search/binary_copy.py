"""Rows of a space → arrays, by binary COPY: fixed-width records that NumPy reads as they come."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from geosearch.database.copy_records import read_records
from geosearch.errors import DatabaseError


def key_rows(
    conn: psycopg.Connection[Any], select: sql.Composable, arguments: dict[str, Any] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return image ids and versions, (n,) int64 each, of a select of two bigints."""
    batches = [(rows["id"], rows["version"]) for rows in _records(conn, select, arguments, _record(None))]
    if not batches:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ids, versions = (np.concatenate(parts).astype(np.int64) for parts in zip(*batches, strict=True))
    return ids, versions


def vector_rows(
    conn: psycopg.Connection[Any], select: sql.Composable, dimension: int, arguments: dict[str, Any] | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16]]]:
    """Yield image ids (m,), versions (m,) and vectors (m, d) of a select of (bigint, bigint, halfvec), in its order.

    Some megabytes at a time. Raises DatabaseError where the vectors have another dimension.
    """
    for rows in _records(conn, select, arguments, _record(dimension)):
        # What PostgreSQL sends is big-endian; turned round as integers, which NumPy does far faster than as halves.
        halves = rows["values"].astype(np.uint16).view(np.float16)
        yield rows["id"].astype(np.int64), rows["version"].astype(np.int64), halves


def _record(dimension: int | None) -> np.dtype[Any]:
    fields = [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8"), ("version_size", ">i4"), ("version", ">i8")]
    if dimension is None:
        return np.dtype(fields)
    vector = [("size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", ">u2", (dimension,))]
    return np.dtype([*fields, *vector])


def _records(
    conn: psycopg.Connection[Any], select: sql.Composable, arguments: dict[str, Any] | None, record: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    for rows in read_records(conn, select, arguments, record, lambda: _other_layout(record)):
        yield _checked(rows, record)


def _checked(rows: NDArray[Any], record: np.dtype[Any]) -> NDArray[Any]:
    names = record.names or ()
    right = (rows["fields"] == (3 if "values" in names else 2)) & (rows["id_size"] == 8) & (rows["version_size"] == 8)
    if "values" in names:
        dimension = record["values"].shape[0]
        right &= (rows["size"] == 4 + 2 * dimension) & (rows["dimension"] == dimension)
    if not right.all():
        raise _other_layout(record)
    return rows


def _other_layout(record: np.dtype[Any]) -> DatabaseError:
    vectors = f" and vectors of {record['values'].shape[0]} dimensions" if "values" in (record.names or ()) else ""
    return DatabaseError(
        f"the database did not send image ids, versions{vectors}: the space was made anew since it was loaded; "
        "load it again"
    )
