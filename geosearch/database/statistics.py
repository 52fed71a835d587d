"""The planner's statistics after a bulk load: at once, and not when autovacuum comes round, a minute later or more."""

from __future__ import annotations

import psycopg
from psycopg import sql

LOCK_WAIT = "5s"


def refresh_statistics(conn: psycopg.Connection, table: sql.Identifier, changed: int) -> None:
    """Analyze a table of which so many rows were added or changed, where that is worth it; outside a transaction.

    table: with its schema. Only the table's owner may (from PostgreSQL 17 on, also who was granted `maintain`):
    for others PostgreSQL does nothing, and autovacuum comes in its time.
    """
    with conn.transaction():
        # Autovacuum's own threshold; -1 stands for a table that was never analyzed.
        row = conn.execute(
            "select %s > 50 + greatest(reltuples, 0) / 10 from pg_catalog.pg_class where oid = %s::regclass",
            [changed, table.as_string(conn)],
        ).fetchone()
        if row != (True,):
            return
    try:
        with conn.transaction():
            conn.execute("set local client_min_messages = error")
            conn.execute(sql.SQL("set local lock_timeout = {}").format(LOCK_WAIT))
            conn.execute(sql.SQL("analyze {}").format(table))
    except psycopg.errors.LockNotAvailable:
        return  # somebody else is at it
