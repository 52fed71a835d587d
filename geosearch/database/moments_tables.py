"""The tables that hold the moments of spaces, as records: moments, moments_row and moments_axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import psycopg
from psycopg import sql

from geosearch.compose.moments import Moments
from geosearch.database.copy_records import END, HEADER, read_records
from geosearch.database.spaces import Space
from geosearch.errors import DatabaseError
from geosearch.geometry import Floats

# Above, the sums of products of each row would take longer than an encoder, and hundreds of megabytes: they are not
# kept, so that moments can only be computed as a whole.
LONGEST_KEPT = 2000


class Kept(NamedTuple):
    """The row of `moments`. edition: another one whenever they were computed from the beginning."""

    counted: int
    changes: int
    edition: int


def kept(conn: psycopg.Connection[Any], space: Space) -> Kept | None:
    """Return what is kept of a space, locked to the end of the transaction; None if nothing is."""
    row = conn.execute(
        "select counted, changes, edition from geosearch.moments where space_id = %s for update", [space.id]
    ).fetchone()
    return None if row is None else Kept(*row)


def read(conn: psycopg.Connection[Any], space: Space) -> Moments | None:
    """Return the moments of a space as one statement sees them; None where there are none, or no sums are kept."""
    d = space.dimension
    record = np.dtype([*_ROW_FIELDS, *_array_fields(d), ("counted_size", ">i4"), ("counted", ">i8")])
    # The count comes with every row, so that all are of one snapshot.
    select = sql.SQL(
        "select r.dimension, r.mean, r.scatter, m.counted from geosearch.moments m join geosearch.moments_row r"
        " on r.space_id = m.space_id where m.space_id = {} order by r.dimension"
    ).format(sql.Literal(space.id))
    rows = list(read_records(conn, select, None, record, lambda: _damaged(space)))
    if not rows:
        return None
    found = np.concatenate(rows)
    if len(found) != d or (found["size"] != 20 + 12 * d).any() or (found["length"] != d).any():
        raise _damaged(space)
    return Moments(
        int(found["counted"][0]), found["mean"].astype(np.float64), found["scatter"]["value"].astype(np.float64)
    )


def write(conn: psycopg.Connection[Any], space: Space, moments: Moments) -> None:
    """Replace the rows and axes of a space, whose row of `moments` the caller's transaction has locked."""
    d = space.dimension
    conn.execute("delete from geosearch.moments_row where space_id = %s", [space.id])
    conn.execute("delete from geosearch.moments_axis where space_id = %s", [space.id])
    if d <= LONGEST_KEPT:
        rows = _numbered(space, d, np.dtype(_SPACE_FIELDS + _ROW_FIELDS[1:] + _array_fields(d)), 4)
        rows["mean_size"], rows["mean"] = 8, moments.mean
        rows["size"], rows["dimensions"], rows["of"], rows["length"], rows["first"] = 20 + 12 * d, 1, _FLOAT8, d, 1
        rows["scatter"]["size"], rows["scatter"]["value"] = 8, moments.scatter
        _copy(conn, "moments_row (space_id, dimension, mean, scatter)", rows)
    axes = moments.axes()
    directions = _numbered(space, len(axes), np.dtype([*_SPACE_FIELDS, *_vector_fields(d)]), 3)
    directions["size"], directions["length"], directions["values"] = 4 + 4 * d, d, axes
    _copy(conn, "moments_axis (space_id, axis, direction)", directions)


def as_vector(mean: Floats) -> str:
    """Return a mean as pgvector reads it."""
    return "[" + ",".join(repr(x) for x in mean.tolist()) + "]"


_FLOAT8 = 701  # PostgreSQL's number of the type
_SPACE_FIELDS = [("fields", ">i2"), ("space_size", ">i4"), ("space", ">i4"), ("number_size", ">i4"), ("number", ">i2")]
_ROW_FIELDS = [("head", "V8"), ("mean_size", ">i4"), ("mean", ">f8")]


def _array_fields(d: int) -> list[Any]:
    """Fields of one float8[] of d numbers without nulls: array_recv in PostgreSQL's arrayfuncs.c."""
    return [
        ("size", ">i4"), ("dimensions", ">i4"), ("nulls", ">i4"), ("of", ">u4"), ("length", ">i4"), ("first", ">i4"),
        ("scatter", [("size", ">i4"), ("value", ">f8")], (d,)),
    ]  # fmt: skip


def _vector_fields(d: int) -> list[Any]:
    return [("size", ">i4"), ("length", ">i2"), ("unused", ">i2"), ("values", ">f4", (d,))]


def _numbered(space: Space, n: int, record: np.dtype[Any], fields: int) -> np.ndarray[Any, Any]:
    rows = np.zeros(n, record)
    rows["fields"], rows["space_size"], rows["space"], rows["number_size"] = fields, 4, space.id, 2
    rows["number"] = np.arange(1, n + 1)
    return rows


def _copy(conn: psycopg.Connection[Any], into: str, rows: np.ndarray[Any, Any]) -> None:
    with conn.cursor() as cursor, cursor.copy(f"copy geosearch.{into} from stdin (format binary)") as copy:
        copy.write(HEADER + rows.tobytes() + END)


def _damaged(space: Space) -> DatabaseError:
    return DatabaseError(
        f"the moments of space {space.name} are not what geosearch wrote. Compute them anew: "
        f"`geosearch space moments {space.name} --anew`"
    )
