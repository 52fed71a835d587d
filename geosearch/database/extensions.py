"""PostGIS and pgvector: where they are, whether they are new enough, and how to get them."""

from __future__ import annotations

import psycopg
from psycopg import sql

from geosearch.errors import DatabaseError, SchemaError

# halfvec came with pgvector 0.7, walks that go on until they have enough with 0.8; security_invoker views with
# PostgreSQL 15.
MINIMUM = {"postgis": (3, 1), "vector": (0, 8)}
MINIMUM_SERVER = 15


def extension_schemas(conn: psycopg.Connection) -> dict[str, str]:
    """Return the schema of each of our extensions that the database has."""
    rows = conn.execute(
        "select e.extname, n.nspname from pg_catalog.pg_extension e"
        " join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = any (%s)",
        [list(MINIMUM)],
    ).fetchall()
    return {str(name): str(schema) for name, schema in rows}


def search_path(conn: psycopg.Connection, own: bool = True) -> str:
    """Return the search_path of everything geosearch does: its own schema, those of the extensions, and no other.

    own: False leaves geosearch's own schema out. pg_temp is named last: where it is not named, PostgreSQL looks for
    tables in it first.
    """
    schemas = extension_schemas(conn)
    ordered = dict.fromkeys(
        [*(["geosearch"] if own else []), *(schemas[name] for name in MINIMUM if name in schemas), "pg_temp"]
    )
    return ", ".join(sql.Identifier(schema).as_string(conn) for schema in ordered)


def ensure_extensions(conn: psycopg.Connection) -> list[str]:
    """Create the extensions that are missing and return their names.

    Raises SchemaError with the statements for a superuser when they cannot be created here,
    DatabaseError when the server or an extension is too old.
    """
    server = conn.info.server_version
    if server < MINIMUM_SERVER * 10_000:
        raise DatabaseError(
            f"the server is PostgreSQL {server // 10_000}; geosearch needs {MINIMUM_SERVER} or newer; use a newer one"
        )
    there = extension_schemas(conn)
    missing = [name for name in MINIMUM if name not in there]
    # Beside the one that is there already; never where search_path leads, which may be a user's own schema.
    schema = sql.Identifier(next(iter(there.values()), "public"))
    for name in missing:
        try:
            with conn.transaction():
                statement = sql.SQL("create extension if not exists {} schema {}")
                conn.execute(statement.format(sql.Identifier(name), schema))
        except psycopg.Error as error:
            raise SchemaError(_remedy(conn, missing, error)) from error
    for name, minimum in MINIMUM.items():
        row = conn.execute("select extversion from pg_catalog.pg_extension where extname = %s", [name]).fetchone()
        assert row is not None
        if tuple(int(part) for part in row[0].split(".")[:2]) < minimum:
            raise DatabaseError(
                f"extension {name} is {row[0]}; geosearch needs {'.'.join(map(str, minimum))} or newer."
                f" Install it, then run as a superuser in this database: alter extension {name} update;"
            )
    return missing


def _remedy(conn: psycopg.Connection, missing: list[str], error: psycopg.Error) -> str:
    statements = "\n".join(f"    create extension if not exists {name};" for name in missing)
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return (
            f"database {conn.info.dbname!r} lacks {' and '.join(missing)}, and {conn.info.user!r} may not create them."
            f" Let a superuser run in this database:\n{statements}\nthen run `geosearch db migrate` again."
        )
    return (
        f"database {conn.info.dbname!r} lacks {' and '.join(missing)}, which cannot be created:"
        f" {error.diag.message_primary}. Install PostGIS and pgvector on the server (`geosearch doctor` says how),"
        f" then run in this database:\n{statements}"
    )
