"""Brings a database to this release: extensions, tables (Alembic), then functions, views and grants (``sql/``).

All of it is one transaction under one advisory lock: it happens whole or not at all, and once at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg

from geosearch import __version__
from geosearch.database.extensions import ensure_extensions, search_path
from geosearch.database.install import install_sql, outdated_files, revisions
from geosearch.errors import DatabaseError, SchemaError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

# "geos": any constant will do, as long as every release uses the same.
LOCK = 0x67656F73


@dataclass(frozen=True)
class SchemaVersion:
    """What a database holds. ``revision`` is None where geosearch was never installed."""

    revision: str | None
    release: str | None
    state: str
    """'missing', 'older', 'current' or 'newer' than this release."""


def migrate(url: str, revision: str = "head") -> list[str]:
    """Bring the database to this release and return what was done, empty when there was nothing to do.

    url: a libpq URL or connection string of a user who owns the database (or may create schemas in it).
    revision: an older table revision than the newest is for tests only; ``sql/`` is then left out.
    Raises SchemaError with the remedy when a right is missing, when objects of others stand in the way,
    or when the database belongs to a newer release.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    def open_connection() -> psycopg.Connection:
        try:
            return psycopg.connect(url, application_name="geosearch migrate")
        except psycopg.OperationalError as error:
            raise DatabaseError(f"the database cannot be reached: {error}".strip()) from error

    engine = create_engine("postgresql+psycopg://", creator=open_connection, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            return _migrate(connection, revision)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise _explained(error.orig) from error
        raise
    except psycopg.Error as error:
        raise _explained(error) from error


def _migrate(connection: Connection, revision: str) -> list[str]:
    from alembic import command

    conn = connection.connection.driver_connection
    assert isinstance(conn, psycopg.Connection)
    conn.execute("select pg_catalog.pg_advisory_xact_lock(%s)", [LOCK])
    done = [f"created extension {name}" for name in ensure_extensions(conn)]
    before = schema_version(conn)
    if before.state == "newer":
        raise SchemaError(newer_message(before))
    if conn.execute("select to_regnamespace('geosearch')").fetchone() == (None,):
        conn.execute("create schema geosearch")
        done.append("created schema geosearch")
    # Alembic must not find the tables under their bare names: it would take them for those of another schema.
    path = search_path(conn, own=False)
    conn.execute("select set_config('search_path', %s, true)", [path])
    config = alembic_config(connection)
    command.upgrade(config, revision)
    after = _revision(conn)
    if after != before.revision:
        done.append(f"upgraded the tables from revision {before.revision or 'none'} to {after}")
    if revision == "head":
        done += [f"installed sql/{name}" for name in install_sql(conn)]
    return done


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for an open SQLAlchemy connection, without an ini file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("geosearch_migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def schema_version(conn: psycopg.Connection) -> SchemaVersion:
    """Return which revision and release the database holds, and how that compares with this release."""
    revision = _revision(conn)
    if revision is None:
        return SchemaVersion(None, None, "missing")
    rows = conn.execute("select distinct release from geosearch.installed_sql").fetchall()
    release = max((str(row[0]) for row in rows), key=_order, default=None)
    if revision not in revisions():
        return SchemaVersion(revision, release, "newer")
    if release is not None and _order(release) > _order(__version__):
        return SchemaVersion(revision, release, "newer")
    current = revision == revisions()[-1] and not outdated_files(conn)
    return SchemaVersion(revision, release, "current" if current else "older")


def newer_message(version: SchemaVersion) -> str:
    """Return what to say about a database that a newer release has migrated."""
    return (
        f"the database was migrated by a newer geosearch ({version.release}, tables at revision {version.revision});"
        f" this is {__version__}. Update geosearch: pip install --upgrade geosearch"
    )


def _revision(conn: psycopg.Connection) -> str | None:
    if conn.execute("select pg_catalog.to_regclass('geosearch.alembic_version')").fetchone() == (None,):
        return None
    row = conn.execute("select version_num from geosearch.alembic_version").fetchone()
    return str(row[0]) if row else None


def _order(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])


def _explained(error: psycopg.Error) -> DatabaseError:
    primary = error.diag.message_primary or str(error)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return SchemaError(
            f"migrating needs a right that this user lacks: {primary}. Nothing was changed. "
            "Migrate as the owner of the database and of schema geosearch, or as a superuser."
            + (f"\n{error.diag.message_hint}" if error.diag.message_hint else "")
        )
    more = " ".join(text for text in (error.diag.message_detail, error.diag.message_hint) if text)
    return SchemaError(f"migrating failed, nothing was changed: {primary}" + (f"\n{more}" if more else ""))
