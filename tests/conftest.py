"""Databases for tests: one server a session, one migrated template, one fresh clone a test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from database_urls import app_url, fresh_database, replace_in_url
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent

# The tests see neither the settings nor the data of whoever runs them; what they need they set themselves.
for _name in [name for name in os.environ if name.startswith("GEOSEARCH_")]:
    if _name not in ("GEOSEARCH_TEST_SERVER", "GEOSEARCH_SHARED_DATA", "GEOSEARCH_SERVER_BIN"):
        del os.environ[_name]
os.environ["GEOSEARCH_SETTINGS"] = os.devnull
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded
os.environ["GEOSEARCH_HOME"] = f"{os.devnull}/home"  # cannot be made: a test that forgets its own database fails


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; the test is skipped where it is missing."""
    folder = Path(os.environ.get("GEOSEARCH_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("the real data (shared/data beside the checkout, or GEOSEARCH_SHARED_DATA) are not here")
    return folder


@pytest.fixture(autouse=True)
def _settings_anew() -> Iterator[None]:
    """Settings are cached for a process; a test that changes the environment must not leave them to the next."""
    from geosearch.settings import settings

    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A URL of a superuser: GEOSEARCH_TEST_SERVER, or a private cluster of this session's own."""
    given = os.environ.get("GEOSEARCH_TEST_SERVER")
    if given:
        yield given
        return
    from geosearch.database import server as private

    # Not pytest's tmp_path: that is closed to the user that the cluster runs as when the tests run as root.
    home = Path(tempfile.mkdtemp(prefix="geosearch-test-"))
    home.chmod(0o755)
    try:
        private.ensure_running(home)
        url = private.admin_url(home)
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("alter system set fsync = off")  # nothing here outlives the session
            conn.execute("select pg_reload_conf()")
        yield url
    finally:
        private.stop(home)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """The name of a migrated database, owned by the role `geosearch`, made once a session."""
    from geosearch.database.migrate import migrate

    name = f"gstemplate_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(7365671)")  # sessions that share a server make the roles one by one
        for role in ("geosearch_admin", "geosearch_ingest", "geosearch_ask", "geosearch_read", "geosearch"):
            if not conn.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
                conn.execute(sql.SQL("create role {}").format(sql.Identifier(role)))
        if not os.environ.get("GEOSEARCH_TEST_SERVER"):
            conn.execute("alter role geosearch login createrole")
        else:
            conn.execute("alter role geosearch login createrole password 'geosearch'")
        conn.execute(
            "grant geosearch_admin, geosearch_ingest, geosearch_ask, geosearch_read to geosearch with admin option"
        )
        conn.execute("select pg_advisory_unlock(7365671)")
        conn.execute(sql.SQL("create database {} owner geosearch template template0").format(sql.Identifier(name)))
    with psycopg.connect(replace_in_url(server, database=name), autocommit=True) as conn:
        conn.execute("create extension postgis")
        conn.execute("create extension vector")
    try:
        migrate(app_url(server, name))
        yield name
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(server: str, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database, for this test alone, as the role `geosearch` (not a superuser)."""
    with fresh_database(server, template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(server: str, template: str) -> Iterator[str]:
    """The URL of a fresh migrated database for all tests of a module."""
    with fresh_database(server, template) as url:
        yield url


@pytest.fixture
def superuser_url(server: str, database_url: str) -> str:
    """The URL of the same fresh database as a superuser, for what only a superuser may do."""
    return replace_in_url(server, database=urlsplit(database_url).path.lstrip("/"))


@pytest.fixture
def empty_database_url(server: str) -> Iterator[str]:
    """The URL of a fresh database without extensions and schema, as a superuser."""
    name = f"gsempty_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    try:
        yield replace_in_url(server, database=name)
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection of geosearch to the fresh database, as any command has it."""
    from geosearch.database.connection import connect

    with connect(database_url) as connection:
        yield connection
