"""The new table of a space takes the place of the old one, at a moment at which nobody can tell.

PostgreSQL resolves a table's name when a statement needs it, but the statement sees rows as of the moment it began. One
that began before the last rows were copied and looked for the table after the swap would miss them. So the swap
follows when every snapshot is gone that was taken before the last copied row was committed:

- a: writers are kept out (share row exclusive), which readers do not notice;
- b, another connection, copies what the log still names, and commits;
- whoever took a snapshot before that is waited for, those excepted who wait for a: they look again when they go on;
- a: readers are kept out as well, the tables are swapped, all locks go.

All that has to fit into a moment, or is given up and tried again later; before each attempt transactions that would
stand in the way are waited for without any lock.
"""

from __future__ import annotations

import time

import psycopg
from psycopg import sql

from geosearch.database.index_session import Say
from geosearch.database.reorder_beside import Beside, catch_up
from geosearch.database.reorder_wait import LOCK_TRY_S, QUIET_LOCK_S, held, lock_now, wait_for
from geosearch.errors import DatabaseError

MOMENT_S = 0.9  # less than PostgreSQL's deadlock_timeout: reorder_wait
FEW = 50  # entries of the log: copied in a small part of a moment, also into a graph
CLEAR_S = 0.3  # who ends sooner does not stand in the way
TELL_S = 10.0

IMAGE = sql.Identifier("geosearch", "image")


class _NotNowError(Exception):
    """Something did not fit into the moment."""


def swap(beside: Beside, say: Say) -> None:
    """Put the new table in the old one's place. Raises DatabaseError after the rebuild's patience, nothing changed."""
    start, pause, told = time.monotonic(), 0.1, False
    with beside.work.another() as a:
        b = beside.work.conn
        own = [a.info.backend_pid, b.info.backend_pid]
        while True:
            for _ in range(10):
                if catch_up(beside, b) <= FEW:
                    break
            left = wait_for(b, own, CLEAR_S, [IMAGE, beside.old])
            if not left:
                try:
                    _attempt(beside, a, b, own)
                    break
                except (_NotNowError, psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                    pass
            waited = time.monotonic() - start
            if waited > beside.patience_s:
                raise DatabaseError(held(b, [IMAGE, beside.old], beside.patience_s))
            if waited > TELL_S and left and not told:
                who = ", ".join(f"process {pid} of {user}" for (pid, _), user in sorted(left.items()))
                say(f"the new table is ready; waiting for open transactions to end: {who}")
                told = True
            time.sleep(pause)
            pause = min(3.0, pause * 1.3)
    name = f"space_{beside.work.space.name}_image_id_fkey"
    b.execute(sql.SQL("alter table {} validate constraint {}").format(beside.old, sql.Identifier(name)))


def _attempt(beside: Beside, a: psycopg.Connection, b: psycopg.Connection, own: list[int]) -> None:
    tables = [IMAGE, beside.old]
    with a.transaction():
        lock_now(a, tables, "share update exclusive", QUIET_LOCK_S)
        lock_now(a, tables, "share row exclusive", LOCK_TRY_S)
        end = time.monotonic() + MOMENT_S
        _copy_rest(beside, b, end - MOMENT_S / 2)
        if wait_for(b, own, end - LOCK_TRY_S - time.monotonic(), blocked_by=own[0]):
            raise _NotNowError
        lock_now(a, tables, "access exclusive", end - time.monotonic())
        _exchange(beside, a)


def _copy_rest(beside: Beside, b: psycopg.Connection, end: float) -> None:
    """Copy what the log still names, in the time there is; the rest is copied before the next attempt."""
    try:
        while True:
            left_ms = max(1, int(1000 * (end - time.monotonic())))
            b.execute("select set_config('statement_timeout', %s, false)", [str(left_ms)])
            if not catch_up(beside, b):
                return
    except psycopg.errors.QueryCanceled as error:
        raise _NotNowError from error
    finally:
        b.execute("reset statement_timeout")


def _exchange(beside: Beside, a: psycopg.Connection) -> None:
    space = beside.work.space
    name, new = f"space_{space.name}", beside.new_name
    statement = (
        "drop table {old}; drop table {log};"
        "alter table {new} rename to {name};"
        "alter table {old} rename constraint {new_key} to {key};"
        "alter table {old} rename constraint {new_check} to {check};"
        "alter index {new_cell} rename to {cell};"
    )
    if beside.index_options is not None:
        statement += "alter index {new_graph} rename to {graph};"
    parts = {"key": "_pkey", "check": "_embedding_check", "cell": "_cell_idx", "graph": "_hnsw_idx"}
    names: dict[str, sql.Composable] = {
        "old": beside.old, "new": beside.new, "log": beside.log, "name": sql.Identifier(name),
        **{part: sql.Identifier(name + end) for part, end in parts.items()},
        **{f"new_{part}": sql.Identifier(new + end) for part, end in parts.items()},
        "new_cell": sql.Identifier("geosearch", new + "_cell_idx"),
        "new_graph": sql.Identifier("geosearch", new + "_hnsw_idx"),
    }  # fmt: skip
    a.execute(sql.SQL(statement).format(**names))
    a.execute("select geosearch.finish_space_table(%s, %s)", [name, space.dimension])
    if beside.index_options is not None:
        a.execute(
            "update geosearch.space set indexed_as = %s where id = %s and indexed_as is distinct from %s",
            [beside.work.form, space.id, beside.work.form],
        )
    if beside.centre is not None:
        a.execute("update geosearch.space set centre = %s::halfvec where id = %s", [beside.centre, space.id])
