"""Locks that are waited for without others having to wait long behind, and transactions that must end first."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from geosearch.errors import DatabaseError

# Whoever wants the table queues behind a lock that is waited for, so each attempt is short. PostgreSQL looks for
# deadlocks after 1 s of waiting: an attempt that ends before leaves nobody else to be its victim.
LOCK_TRY_S = 0.25
# Autovacuum gives way only to those who wait longer than that. This lock stops no reader and no writer.
QUIET_LOCK_S = 5.0

_TRANSACTIONS = """
select l.pid, l.virtualtransaction, a.backend_xmin is not null, a.usename, {blocked}
from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
where l.locktype = 'virtualxid' and l.granted and l.virtualxid = l.virtualtransaction
  and a.datid = (select oid from pg_catalog.pg_database where datname = current_database())
  and l.pid <> all (%(own)s)
  and (a.backend_xmin is not null or exists (
       select from pg_catalog.pg_locks h where h.pid = l.pid and h.locktype = 'relation' and h.granted
       and h.relation = any (%(tables)s::regclass[]) and h.database = a.datid))
  and not exists (select from pg_catalog.pg_stat_progress_vacuum v where v.pid = l.pid)
  and not exists (select from pg_catalog.pg_stat_progress_create_index c where c.pid = l.pid)
"""

Transaction = tuple[int, str]


@contextmanager
def lock_patiently(
    conn: psycopg.Connection, tables: Sequence[sql.Identifier], mode: str, patience_s: float
) -> Iterator[None]:
    """Run the body in a transaction that holds a lock on tables, tried for again and again, each time briefly.

    Raises DatabaseError, naming who holds them, after patience_s.
    """
    start, pause = time.monotonic(), 0.1
    while True:
        conn.execute("begin")
        try:
            lock_now(conn, tables, "share update exclusive", QUIET_LOCK_S)
            lock_now(conn, tables, mode, LOCK_TRY_S)
            break
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            conn.execute("rollback")
            if time.monotonic() - start > patience_s:
                raise DatabaseError(held(conn, tables, patience_s)) from error
        except BaseException:
            conn.rollback()
            raise
        time.sleep(pause)
        pause = min(2.0, pause * 1.5)
    try:
        yield
        conn.execute("commit")
    except BaseException:
        conn.rollback()
        raise


def lock_now(conn: psycopg.Connection, tables: Sequence[sql.Identifier], mode: str, wait_s: float) -> None:
    """Lock tables within wait_s or raise LockNotAvailable; in the caller's transaction."""
    conn.execute("select set_config('lock_timeout', %s, true)", [f"{max(1, int(wait_s * 1000))}ms"])
    conn.execute(sql.SQL("lock table {} in {} mode").format(sql.SQL(", ").join(tables), sql.SQL(mode)))


def transactions(
    conn: psycopg.Connection, own: Sequence[int], tables: Sequence[sql.Identifier] = (), blocked_by: int | None = None
) -> dict[Transaction, str]:
    """Return the open transactions of others that read from a snapshot taken before, or hold one of the tables, each
    with the name of its user.

    blocked_by: leave out those that wait for this server process.
    """
    blocked = sql.SQL("{} = any (pg_catalog.pg_blocking_pids(l.pid))").format(sql.Literal(blocked_by))
    statement = sql.SQL(_TRANSACTIONS).format(blocked=sql.SQL("false") if blocked_by is None else blocked)
    names = [table.as_string(conn) for table in tables]
    rows = conn.execute(statement, {"own": list(own), "tables": names}).fetchall()
    return {(int(pid), str(number)): str(user) for pid, number, _, user, waits in rows if not waits}


def wait_for(
    conn: psycopg.Connection,
    own: Sequence[int],
    patience_s: float,
    tables: Sequence[sql.Identifier] = (),
    blocked_by: int | None = None,
) -> dict[Transaction, str]:
    """Wait until the transactions that are open now have ended; return those that have not within patience_s."""
    end = time.monotonic() + patience_s
    left = transactions(conn, own, tables, blocked_by)
    while left and time.monotonic() < end:
        time.sleep(0.01)
        now = transactions(conn, own, tables, blocked_by)
        left = {key: user for key, user in left.items() if key in now}
    return left


def held(conn: psycopg.Connection, tables: Sequence[sql.Identifier], patience_s: float) -> str:
    """Return a message that names those who hold the tables."""
    found = transactions(conn, [conn.info.backend_pid], tables)
    by = ", ".join(f"process {pid} of {user}" for (pid, _), user in sorted(found.items())) or "others"
    what = " and ".join(table.as_string(conn).replace('"', "") for table in tables)
    return (
        f"no moment was found within {patience_s:g} s in which nobody held {what} (open transactions: {by}). Nothing "
        "was changed. End them, or run this again when less is going on."
    )
