"""Free disk of the server, where it can be seen from here."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg

from geosearch.database import server
from geosearch.database.index_session import Say, Session
from geosearch.database.spaces import Space
from geosearch.errors import DatabaseError, ServerError

# The new table and its indexes, with a fifth to spare for what is written meanwhile.
SPARE = 1.2


def is_private(conn: psycopg.Connection) -> bool:
    """Return whether a connection leads to the private cluster."""
    return _private_data(conn) is not None


def bytes_needed(conn: psycopg.Connection, space: Space) -> int:
    """Return how much disk a second table with its indexes takes beside the first, with the files of the sort."""
    row = conn.execute(
        "select pg_catalog.pg_total_relation_size(t), pg_catalog.pg_table_size(t) from pg_catalog.to_regclass(%s) t",
        [space.table.as_string(conn)],
    ).fetchone()
    assert row is not None
    return int(SPARE * row[0]) + int(row[1])


def bytes_free(conn: psycopg.Connection, space: Space) -> int | None:
    """Return the free bytes of the disk that holds the space's table; None where that cannot be seen from here."""
    folder = _private_data(conn) or _named_data(conn)
    if folder is None:
        return None
    row = conn.execute(
        "select pg_catalog.pg_tablespace_location(case when c.reltablespace = 0 then d.dattablespace"
        " else c.reltablespace end) from pg_catalog.pg_class c, pg_catalog.pg_database d"
        " where c.oid = pg_catalog.to_regclass(%s) and d.datname = current_database()",
        [space.table.as_string(conn)],
    ).fetchone()
    if row is not None and row[0]:
        folder = Path(str(row[0]))
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def check_disk(work: Session, force: bool, say: Say) -> None:
    """Refuse a rebuild that would fill the server's disk, or, unless forced, of which nobody here can tell."""
    need, free = bytes_needed(work.conn, work.space), bytes_free(work.conn, work.space)
    if free is None:
        if not force:
            raise DatabaseError(
                f"reordering space {work.space.name} takes up to {need / 1e6:.0f} MB beside the present table, and the "
                "server's disk cannot be seen from here. Look there, then say --force."
            )
        say(f"up to {need / 1e6:.0f} MB of the server's disk are needed meanwhile")
    elif free < need:
        raise DatabaseError(
            f"reordering space {work.space.name} takes up to {need / 1e6:.0f} MB beside the present table, and "
            f"{free / 1e6:.0f} MB are free on the server's disk. Make room first."
        )


def _private_data(conn: psycopg.Connection) -> Path | None:
    host = conn.info.host
    if not host.startswith("/"):
        return None
    try:
        status = server.status()
    except ServerError:
        return None
    return status.data if status.state == "running" and Path(host) == status.socket else None


def _named_data(conn: psycopg.Connection) -> Path | None:
    """Return the folder that a server on this machine names, which it does to a superuser and to monitors only."""
    if not (conn.info.host.startswith("/") or conn.info.host in ("", "localhost", "127.0.0.1", "::1")):
        return None
    try:
        with conn.transaction():
            # The login's rights count, not those taken on since.
            conn.execute("set local role none")
            row = conn.execute("select current_setting('data_directory')").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return Path(str(row[0])) if row else None
