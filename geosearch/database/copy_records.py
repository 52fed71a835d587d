"""PostgreSQL's binary COPY as records of fixed width, which NumPy reads and writes as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from geosearch.errors import DatabaseError

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # signature, flags, length of the extension (none)
END = b"\xff\xff"
BATCH_BYTES = 8 << 20


def read_records(
    conn: psycopg.Connection[Any],
    select: sql.Composable,
    arguments: dict[str, Any] | None,
    record: np.dtype[Any],
    other: Callable[[], DatabaseError],
) -> Iterator[NDArray[Any]]:
    """Yield the rows of a select as records, in its order, some megabytes at a time; their contents are not checked.

    other: makes the error that is raised where what came is no whole number of records.
    """
    statement = sql.SQL("copy ({}) to stdout (format binary)").format(select)
    size, held, start = record.itemsize, bytearray(), len(HEADER)
    batch = max(1, BATCH_BYTES // size) * size
    with conn.cursor() as cursor, cursor.copy(statement, arguments) as copy:
        for data in copy:
            held += data
            if len(held) - start >= batch:
                yield np.frombuffer(bytes(held[start : start + batch]), record)
                held, start = held[start + batch :], 0
    whole = (len(held) - start) // size * size
    if bytes(held[start + whole :]) != END:
        raise other()
    if whole:
        yield np.frombuffer(bytes(held[start : start + whole]), record)
