"""The database's part of `geosearch doctor`: programs, server, extensions, rights and schema."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from geosearch.checks import Check
from geosearch.database import server
from geosearch.database.extensions import MINIMUM, extension_schemas
from geosearch.database.links import masked
from geosearch.database.server_programs import MAJORS, SAFE_PGVECTOR, choose, install_line, version_tuple
from geosearch.database.server_user import check_reachable, choose_user
from geosearch.errors import ServerError
from geosearch.settings import settings

if TYPE_CHECKING:
    import psycopg

_CVE_MEND = (
    "Upgrade pgvector to 0.8.2, then `alter extension vector update`. Until then build HNSW indexes with "
    "max_parallel_maintenance_workers = 0, as `geosearch space index` does by itself."
)


def parts() -> list[tuple[str, Callable[[], Iterator[Check]]]]:
    """Return the checks in order: (name, function that yields them)."""
    return [("data folder", _folder), ("postgresql programs", _programs), ("server", _server)]


def _folder() -> Iterator[Check]:
    if settings().database_url:
        return
    home = settings().home.expanduser().resolve()
    cluster = home / "postgres"
    user = choose_user(home, cluster)
    mend = "Name a folder in GEOSEARCH_HOME that this user can enter and write."
    if cluster.exists():
        check_reachable(cluster, user)
    else:
        above = home
        while not above.exists():
            above = above.parent
        if not os.access(above, os.W_OK | os.X_OK):
            yield Check("data folder", "fail", f"{home} cannot be made: {above} is closed to you", mend)
            return
        if user.run(["test", "-x", above], cwd=Path("/")).returncode:
            yield Check("data folder", "fail", f"{above} is closed to user {user.name}, who runs the server", mend)
            return
    yield Check("data folder", "ok", f"{home}, of user {user.name}")


def _programs() -> Iterator[Check]:
    if settings().database_url:
        return  # another server: its programs are elsewhere
    try:
        programs = choose(settings().server_bin)
    except ServerError as error:
        yield Check("postgresql programs", "fail", str(error), install_line())
        return
    found = ", ".join(f"{name} {version}" for name, version in programs.extensions.items())
    yield Check("postgresql programs", "ok", f"{programs} with {found}")
    if server.status().state != "running":  # else the server's own answer follows
        yield _pgvector("vector", programs.extensions["vector"])


def _server() -> Iterator[Check]:
    import psycopg

    named = settings().database_url
    if named:
        url, where = named, masked(named)
    else:
        state = server.status()
        if state.state == "absent":
            yield Check("server", "ok", f"no private cluster yet in {state.home}: the first command makes it")
            return
        if state.state != "running" or state.url is None:
            yield Check("server", "ok", f"the private cluster in {state.home} is {state.state}: commands start it")
            return
        url, where = state.url, f"private cluster in {state.home}, run by {state.user}"
    try:
        conn = psycopg.connect(url, connect_timeout=10, autocommit=True, application_name="geosearch doctor")
    except psycopg.OperationalError as error:
        mend = "Correct GEOSEARCH_DATABASE_URL, or unset it to use a private cluster." if named else "See its log."
        yield Check("server", "fail", f"{where}: {str(error).strip()}", mend)
        return
    with conn:
        yield _server_version(conn, where)
        yield from _extensions(conn, bool(named))
        yield from _rights(conn)
        yield _schema(conn)


def _server_version(conn: psycopg.Connection, where: str) -> Check:
    major, version = conn.info.server_version // 10000, conn.info.parameter_status("server_version")
    found = f"PostgreSQL {version}; {where}"
    if major < MAJORS[0]:
        return Check("server", "fail", found, f"Upgrade it to PostgreSQL {MAJORS[0]} to {MAJORS[-1]}.")
    if major > MAJORS[-1]:
        return Check("server", "warn", found, f"Newer than what geosearch is tested with (up to {MAJORS[-1]}).")
    return Check("server", "ok", found)


def _extensions(conn: psycopg.Connection, named: bool) -> Iterator[Check]:
    rows = conn.execute(
        "select a.name, a.installed_version, a.default_version from pg_available_extensions a where a.name = any(%s)",
        [list(MINIMUM)],
    ).fetchall()
    available = {name: (made, packaged) for name, made, packaged in rows}
    for name, minimum in MINIMUM.items():
        made, packaged = available.get(name, (None, None))
        if packaged is None:
            major = conn.info.server_version // 10000
            mend = "Install it on the server's machine" + ("." if named else f": {install_line(major)}")
            yield Check(name, "fail", "not installed on the server", mend)
        elif made is None:
            mend = f"As a superuser in this database: create extension {name};"
            yield Check(name, "fail", f"{packaged} is installed, but not created in the database", mend)
        elif version_tuple(made)[:2] < minimum:
            mend = f"Install a newer one, then as a superuser: alter extension {name} update;"
            yield Check(name, "fail", f"{made}; {'.'.join(map(str, minimum))} or newer is needed", mend)
        elif made != packaged:
            mend = f"As a superuser in this database: alter extension {name} update;"
            yield Check(name, "warn", f"{made} in the database, {packaged} installed", mend)
        elif name == "vector":
            yield _pgvector("vector", made)
        else:
            yield Check(name, "ok", made)


def _pgvector(name: str, version: str) -> Check:
    if (0, 6) <= version_tuple(version) < SAFE_PGVECTOR:
        return Check(name, "warn", f"{version} has CVE-2026-3172 (parallel HNSW builds)", _CVE_MEND)
    return Check(name, "ok", version)


def _rights(conn: psycopg.Connection) -> Iterator[Check]:
    row = conn.execute(
        "select current_user, r.rolsuper, has_database_privilege(current_database(), 'create'),"
        " to_regnamespace('geosearch') is not null"
        " and has_schema_privilege(to_regnamespace('geosearch'), 'usage')"
        " from pg_roles r where r.rolname = current_user"
    ).fetchone()
    assert row is not None
    user, superuser, may_create, may_use = row
    if superuser:
        mend = "Make a role that owns the database and is no superuser, and name it in GEOSEARCH_DATABASE_URL."
        yield Check("permissions", "warn", f"{user} is a superuser; geosearch needs none", mend)
    elif not (may_create or may_use):
        mend = f"As the database's owner: grant create on database {conn.info.dbname} to {user}; or, to search only, "
        mend += f"select geosearch.grant_read('{user}');"
        yield Check("permissions", "fail", f"{user} may neither migrate nor use schema geosearch", mend)
    else:
        can = "may migrate" if may_create else "may use the schema, not migrate it"
        yield Check("permissions", "ok", f"{user} {can}, and is no superuser")
    # Functions look for PostGIS and pgvector there, and would take a stranger's function that suits a call better.
    for schema in sorted(set(extension_schemas(conn).values())):
        row = conn.execute("select has_schema_privilege('public', %s, 'create')", [schema]).fetchone()
        if row == (True,):
            found = f"everyone may create functions in schema {schema}, which searches trust"
            mend = f"As its owner: revoke create on schema {schema} from public; (as in PostgreSQL 15 and later)"
            yield Check("open schema", "warn", found, mend)


def _schema(conn: psycopg.Connection) -> Check:
    import psycopg

    from geosearch.database.migrate import newer_message, schema_version

    try:
        version = schema_version(conn)
    except psycopg.errors.InsufficientPrivilege:
        mend = f"An admin lets you read: select geosearch.grant_read('{conn.info.user}');"
        return Check("schema", "fail", "not readable", mend)
    if version.state == "current":
        return Check("schema", "ok", f"revision {version.revision}, release {version.release}")
    if version.state == "newer":
        return Check("schema", "fail", f"revision {version.revision}", newer_message(version))
    return Check("schema", "warn", f"{version.state} (revision {version.revision or 'none'})", "geosearch db migrate")
