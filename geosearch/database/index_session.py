"""A session that may change a space's table: with its owner's rights, and the only one at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from geosearch.database.connection import connect
from geosearch.database.spaces import Space, get_space
from geosearch.errors import DatabaseError

Say = Callable[[str], None]
Progress = Callable[[str, int, "int | None"], None]
"""Called with (what is being done, how much of it, of how much or None)."""

LOCK_CLASS = 1735549800  # of the advisory locks (class, id of the space)
# Longer than the server of a killed run takes to notice it (`client_connection_check_interval`).
LOCK_PATIENCE_S = 15.0
LONGEST_INLINE = 3900  # above, a row carries its signs as `code`: sql/20_spaces.sql


@dataclass
class Session:
    """A space and a connection that may change its table; others of the same rights come from `another`."""

    conn: psycopg.Connection
    space: Space

    @property
    def form(self) -> str:
        """Return what of a row an index of this space holds: 'halfvec', or 'bit' where vectors are too long."""
        return "bit" if self.space.dimension > LONGEST_INLINE else "halfvec"

    @property
    def index(self) -> str:
        """Return the name of the space's index."""
        return f"space_{self.space.name}_hnsw_idx"

    @property
    def pid(self) -> int:
        """Return the number of the server's process behind the connection."""
        return self.conn.info.backend_pid

    @contextmanager
    def another(self, *, as_owner: bool = True) -> Iterator[psycopg.Connection]:
        """Open another connection to the same database; as_owner: False keeps the rights of the login."""
        info = self.conn.info
        url = make_conninfo(info.dsn, password=info.password or None)
        with connect(url, autocommit=True, check_schema=False) as conn:
            if as_owner:
                become_owner(conn, self.space)
            yield conn


@contextmanager
def session(url: str | None, name: str) -> Iterator[Session]:
    """Open a session on a space, alone: others that want one wait a moment and are then refused.

    Raises UnknownNameError, and DatabaseError when the user may not act as the table's owner or another one is at it.
    """
    with connect(url, autocommit=True) as conn:
        space = get_space(conn, name)
        become_owner(conn, space)
        # A killed command's server process ends soon, not only when its index is built.
        with suppress(psycopg.errors.InvalidParameterValue):  # not on every system
            conn.execute("select set_config('client_connection_check_interval', '2s', false)")
        _lock(conn, space)
        yield Session(conn, space)


def become_owner(conn: psycopg.Connection, space: Space) -> None:
    """Take the rights of the table's owner, so that what is made belongs to it. Raises DatabaseError."""
    row = conn.execute(
        "select pg_catalog.pg_get_userbyid(relowner), current_user from pg_catalog.pg_class"
        " where oid = pg_catalog.to_regclass(%s)",
        [space.table.as_string(conn)],
    ).fetchone()
    if row is None:
        raise DatabaseError(f"space {space.name} has lost its table geosearch.space_{space.name}. Drop the space.")
    owner, user = str(row[0]), str(row[1])
    if owner == user:
        return
    try:
        conn.execute(sql.SQL("set role {}").format(sql.Identifier(owner)))
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"the table of space {space.name} belongs to {owner}, and {user} may not act for it. Run this as {owner} "
            f"(GEOSEARCH_DATABASE_URL), or let an admin of the server say: grant {owner} to {user}"
        ) from error


def _lock(conn: psycopg.Connection, space: Space) -> None:
    end = time.monotonic() + LOCK_PATIENCE_S
    while conn.execute("select pg_try_advisory_lock(%s, %s)", [LOCK_CLASS, space.id]).fetchone() != (True,):
        if time.monotonic() > end:
            row = conn.execute(
                "select pid from pg_catalog.pg_locks where locktype = 'advisory' and granted and objsubid = 2"
                " and classid::bigint = %s and objid::bigint = %s and database ="
                " (select oid from pg_catalog.pg_database where datname = current_database())",
                [LOCK_CLASS, space.id],
            ).fetchone()
            by = f" (server process {row[0]})" if row else ""
            raise DatabaseError(
                f"space {space.name} is being indexed or reordered by another session{by}. Wait until it is done."
            )
        time.sleep(0.2)
