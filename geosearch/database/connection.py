"""Opens connections: to the server that the user named, or to the private cluster, which is started when needed."""

from __future__ import annotations

import psycopg
from pgvector.psycopg import register_vector

from geosearch.database.extensions import extension_schemas, search_path
from geosearch.database.migrate import migrate, newer_message, schema_version
from geosearch.errors import DatabaseError, SchemaError
from geosearch.settings import settings


def database_url() -> str:
    """Return the URL of the database: ``GEOSEARCH_DATABASE_URL``, or the private cluster, started if it is not up."""
    named = settings().database_url
    if named:
        return named
    from geosearch.database.server import ensure_running

    return ensure_running()


def connect(
    url: str | None = None, *, autocommit: bool = False, check_schema: bool = True
) -> psycopg.Connection[tuple[object, ...]]:
    """Open a connection that knows vectors, has the extensions in its search_path and speaks to a current schema.

    url: a libpq URL; None takes :func:`database_url`. A private cluster is migrated when it is behind.
    check_schema: False lets any database through, for those who migrate or look into it.
    Raises DatabaseError when the server cannot be reached, SchemaError when the schema is missing, older or newer.
    """
    private = url is None and not settings().database_url
    url = url or database_url()
    try:
        conn = psycopg.connect(url, application_name="geosearch", autocommit=True)
    except psycopg.ProgrammingError as error:  # not understood, so nothing was asked
        raise DatabaseError(
            f"what is given as the database's address is none of PostgreSQL ({str(error).strip()}). "
            "It reads like postgresql://user@host:5432/database"
        ) from error
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"the database cannot be reached: {error}".strip() + "\n`geosearch doctor` looks into it."
        ) from error
    try:
        if check_schema:
            _check(conn, url, private)
        conn.execute(
            "select set_config('search_path', %s, false), set_config('jit', 'off', false)", [search_path(conn)]
        )
        if "vector" in extension_schemas(conn):
            register_vector(conn)
        conn.autocommit = autocommit
    except BaseException:
        conn.close()
        raise
    return conn


def _check(conn: psycopg.Connection, url: str, private: bool) -> None:
    try:
        version = schema_version(conn)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"user {conn.info.user!r} may not read schema geosearch of database {conn.info.dbname!r}."
            f" Let an admin run there: select geosearch.grant_read('{conn.info.user}');"
        ) from error
    if version.state == "newer":
        raise SchemaError(newer_message(version))
    if version.state == "current":
        return
    if private:
        migrate(url)
        return
    what = "has no geosearch schema yet" if version.state == "missing" else "holds an older geosearch schema"
    raise SchemaError(f"database {conn.info.dbname!r} {what}. Bring it to this release: geosearch db migrate")
