"""The moments of a space in the database: computed from all its vectors, or brought up to date by those who write.

Whoever adds, changes or removes vectors is counted by triggers, as subject ``vectors <id of the space>`` of
``geosearch.change``. Moments carry the count that they tell of: they are current exactly where both are equal in one
snapshot (``sql/80_moments.sql``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from geosearch.compose.moments import Moments
from geosearch.database import moments_tables as tables
from geosearch.database.connection import connect
from geosearch.database.copy_records import read_records
from geosearch.database.spaces import Space, get_space
from geosearch.errors import DatabaseError, UnknownNameError

Progress = Callable[[int, "int | None"], None]


@dataclass(frozen=True)
class MomentsState:
    """How the moments of a space stand. counted, changes_since and computed_at are None where there are none.

    counted: of how many vectors they tell. changes_since: statements that added, changed or removed vectors after that.
    """

    space: str
    current: bool
    counted: int | None
    changes_since: int | None
    computed_at: datetime | None


def moments_state(conn: psycopg.Connection[Any], space: str) -> MomentsState:
    """Return how the moments of a space stand. Raises UnknownNameError."""
    try:
        with conn.transaction():
            row = conn.execute(
                "select current, counted, changes_since, computed_at from geosearch.moments_state(%s)", [space]
            ).fetchone()
    except psycopg.errors.UndefinedObject:
        get_space(conn, space)  # raises the error that lists those that exist
        raise
    assert row is not None
    return MomentsState(space, *row)


def read_moments(conn: psycopg.Connection[Any], space: Space) -> Moments | None:
    """Return the moments that are kept of a space, current or late; None without any, or above 2000 dimensions."""
    return tables.read(conn, space)


def edition_of(conn: psycopg.Connection[Any], space: Space) -> int | None:
    """Return the edition of the moments that are kept of a space, for `merge_moments`; None where there are none."""
    row = conn.execute("select edition from geosearch.moments where space_id = %s", [space.id]).fetchone()
    return None if row is None else int(row[0])


def fold(conn: psycopg.Connection[Any], space: Space) -> None:
    """Make one row of the rows that count the changes of a space's vectors."""
    conn.execute("select geosearch.fold_changes(%s)", [subject(space)])


def write_moments(conn: psycopg.Connection[Any], space: Space, moments: Moments, changes: int) -> None:
    """Replace the moments of a space by others that were computed at so many changes of its vectors.

    Where what is there is current and this is not, it stays: somebody else was quicker. Raises DatabaseError.
    """
    with _explained(conn, space), conn.transaction():
        before = tables.kept(conn, space)
        if before is not None and before.changes == _change_count(conn, space) != changes:
            return
        # Not removed and added again: others would not see the row in between, and a removal of the space that
        # happens at the same time would wait for this while this waits for it.
        conn.execute(
            "insert into geosearch.moments (space_id, counted, mean, changes, computed_at)"
            " values (%s, %s, %s, %s, clock_timestamp()) on conflict (space_id) do update set counted ="
            " excluded.counted, mean = excluded.mean, changes = excluded.changes, edition = default,"
            " computed_at = excluded.computed_at",
            [space.id, moments.count, tables.as_vector(moments.mean), changes],
        )
        tables.write(conn, space, moments)


def merge_moments(conn: psycopg.Connection[Any], space: Space, edition: int, added: Moments, changes: int) -> bool:
    """Add vectors to the moments that are kept of a space, and the statements (`changes`) that brought them.

    edition: of the moments that were there before the first of these vectors was written. Where it is another now,
    somebody computed them anew meanwhile, perhaps with some of these vectors: nothing is done, and they stay late.
    Additions commute, so that several runs may add what each has written. Return whether it was done.
    """
    with _explained(conn, space), conn.transaction():
        before = tables.kept(conn, space)
        if before is None or before.edition != edition:
            return False
        known = tables.read(conn, space)
        if known is None:
            return False
        both = known + added
        conn.execute(
            "update geosearch.moments set counted = %s, mean = %s, changes = changes + %s,"
            " computed_at = clock_timestamp() where space_id = %s",
            [both.count, tables.as_vector(both.mean), changes, space.id],
        )
        tables.write(conn, space, both)
    return True


@dataclass(frozen=True)
class MomentsComputed:
    """What `compute_moments` did. current: False where vectors came or went while they were read."""

    space: str
    computed: bool
    current: bool
    counted: int | None
    seconds: float


def compute_moments(
    url: str | None, name: str, progress: Progress | None = None, *, anew: bool = False
) -> MomentsComputed:
    """Compute the moments of a space from all its vectors, in one snapshot, unless they are current.

    anew: also where they are current. progress: called with (vectors read, of). Others may write all the while; what
    they add after the snapshot leaves the moments late, and is noticed. Memory is bounded: some d × d numbers, d the
    dimension.

    Raises UnknownNameError, and DatabaseError where this login may not write them.
    """
    start = time.monotonic()
    with connect(url, autocommit=True) as conn:
        space = get_space(conn, name)
        state = moments_state(conn, name)
        if state.current and not anew:
            return MomentsComputed(name, False, True, state.counted, time.monotonic() - start)
        _check_rights(conn, space)
        moments, changes = _all_vectors(conn, space, progress)
        write_moments(conn, space, moments, changes)
        fold(conn, space)
        state = moments_state(conn, name)
    return MomentsComputed(name, True, state.current, state.counted, time.monotonic() - start)


def subject(space: Space) -> str:
    """Return the subject under which changes of a space's vectors are counted in geosearch.change."""
    return f"vectors {space.id}"


def _change_count(conn: psycopg.Connection[Any], space: Space) -> int:
    row = conn.execute("select geosearch.change_count(%s)", [subject(space)]).fetchone()
    assert row is not None
    return int(row[0])


def _all_vectors(conn: psycopg.Connection[Any], space: Space, progress: Progress | None) -> tuple[Moments, int]:
    """Return the moments of all vectors and the count of changes that belongs to them."""
    record = np.dtype([
        ("fields", ">i2"), ("size", ">i4"), ("length", ">i2"), ("unused", ">i2"), ("values", ">f2", (space.dimension,)),
    ])  # fmt: skip
    select = sql.SQL("select embedding from {}").format(space.table)

    def batches() -> Iterator[NDArray[np.floating]]:
        done = 0
        for rows in read_records(conn, select, None, record, lambda: DatabaseError(f"space {space.name}: {_NOT_READ}")):
            yield rows["values"]
            done += len(rows)
            if progress:
                progress(done, max(done, space.count))

    with _explained(conn, space):
        conn.execute("begin isolation level repeatable read, read only")
        try:
            changes = _change_count(conn, space)
            moments = Moments.of_batches(batches(), space.dimension)
        finally:
            conn.rollback()
    return moments, changes


_NOT_READ = "its vectors could not be read. Try again; if it stays so: `geosearch doctor`"


def _check_rights(conn: psycopg.Connection[Any], space: Space) -> None:
    row = conn.execute(
        "select current_user, bool_and(pg_catalog.has_table_privilege(t, 'insert') and"
        " pg_catalog.has_table_privilege(t, 'delete')) and pg_catalog.has_table_privilege('geosearch.moments',"
        " 'update') from unnest(array['geosearch.moments', 'geosearch.moments_row', 'geosearch.moments_axis']) t"
    ).fetchone()
    if row is not None and not row[1]:
        raise DatabaseError(
            f"{row[0]} may not write the moments of space {space.name}. Members of geosearch_ingest and of "
            f"geosearch_admin may: let an admin of the server say: grant geosearch_ingest to {row[0]}"
        )


@contextmanager
def _explained(conn: psycopg.Connection[Any], space: Space) -> Iterator[None]:
    """Let a space that is dropped meanwhile be an unknown space."""
    try:
        yield
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.UndefinedTable) as error:
        raise UnknownNameError("space", space.name, remedy="Somebody has just dropped it.") from error
