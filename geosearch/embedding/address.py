"""Where a database is, however it was named."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import make_conninfo


def address(database: psycopg.Connection | str | None) -> str | None:
    """Return the URL or conninfo of a database given as such or as a connection to it; None stays the default one."""
    if database is None or isinstance(database, str):
        return database
    return make_conninfo(database.info.dsn, password=database.info.password or None)
