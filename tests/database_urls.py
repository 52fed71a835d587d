"""Addresses of databases, for tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql


def replace_in_url(url: str, *, database: str, user: str | None = None, password: str | None = None) -> str:
    """Return the URL with another database and, where given, another user."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if user is not None:
        login = quote(user) + (f":{quote(password)}" if password else "")
        netloc = f"{login}@{netloc.rpartition('@')[2]}"
    return urlunsplit((parts.scheme, netloc, f"/{quote(database)}", parts.query, parts.fragment))


def app_url(server: str, database: str) -> str:
    """Return the URL of a database as the role `geosearch`, which is no superuser."""
    return replace_in_url(server, database=database, user="geosearch", password="geosearch")


@contextmanager
def fresh_database(server: str, template: str) -> Iterator[str]:
    """The URL, as the role `geosearch`, of a clone of the template that is dropped at the end."""
    name = f"gstest_{uuid.uuid4().hex[:12]}"
    names = [sql.Identifier(name), sql.Identifier(template)]
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} owner geosearch template {}").format(*names))
    try:
        yield app_url(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(names[0]))
