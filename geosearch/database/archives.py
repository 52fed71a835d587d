"""Archives by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from geosearch.errors import InputError, UnknownNameError

FACTS = ("title", "licence", "attribution", "root", "properties")


@dataclass(frozen=True)
class Archive:
    """An archive and what it holds."""

    id: int
    name: str
    title: str | None
    licence: str | None
    attribution: str | None
    root: str | None
    properties: dict[str, Any]
    images: int
    with_footprint: int
    with_nadir: int
    flagged: int
    rejected: int


_SELECT = sql.SQL(
    """
    select a.id, a.name, a.title, a.licence, a.attribution, a.root, a.properties,
           coalesce(i.images, 0) as images, coalesce(i.with_footprint, 0) as with_footprint,
           coalesce(i.with_nadir, 0) as with_nadir, coalesce(i.flagged, 0) as flagged,
           (select count(*) from geosearch.reject r where r.archive_id = a.id) as rejected
    from geosearch.archive a
    left join lateral (
        select count(*) as images, count(footprint) as with_footprint, count(nadir) as with_nadir,
               count(*) filter (where problems <> '{{}}') as flagged
        from geosearch.image where archive_id = a.id
    ) i on true
    {where}
    order by a.name
    """
)


def ensure_archive(conn: psycopg.Connection, name: str, **facts: Any) -> int:
    """Return the id of the archive, made when there is none; given facts (see ``FACTS``) replace older ones."""
    unknown = set(facts) - set(FACTS)
    if unknown:
        raise InputError(f"an archive has no {', '.join(sorted(unknown))}; its facts are {', '.join(FACTS)}")
    if not name or "\x00" in name:
        raise InputError(f"{name!r} cannot name an archive")
    given = {k: Jsonb(v) if k == "properties" else v for k, v in facts.items() if v is not None}
    conn.execute("insert into geosearch.archive (name) values (%s) on conflict (name) do nothing", [name])
    if given:
        sets = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(k), sql.Placeholder(k)) for k in given)
        statement = sql.SQL("update geosearch.archive set {} where name = {}").format(sets, sql.Placeholder("name"))
        conn.execute(statement, {**given, "name": name})
    return get_archive_id(conn, name)


def list_archives(conn: psycopg.Connection) -> list[Archive]:
    """Return all archives by name."""
    with conn.cursor(row_factory=class_row(Archive)) as cursor:
        return cursor.execute(_SELECT.format(where=sql.SQL(""))).fetchall()


def show_archive(conn: psycopg.Connection, name: str) -> Archive:
    """Return one archive. Raises UnknownNameError."""
    with conn.cursor(row_factory=class_row(Archive)) as cursor:
        archive = cursor.execute(_SELECT.format(where=sql.SQL("where a.name = %s")), [name]).fetchone()
    if archive is None:
        raise _unknown(conn, name)
    return archive


def get_archive_id(conn: psycopg.Connection, name: str) -> int:
    """Return the id of an archive. Raises UnknownNameError."""
    row = conn.execute("select id from geosearch.archive where name = %s", [name]).fetchone()
    if row is None:
        raise _unknown(conn, name)
    return int(row[0])


def remove_archive(conn: psycopg.Connection, name: str) -> int:
    """Remove an archive with its images, their vectors and its rejects; return how many images went."""
    archive = get_archive_id(conn, name)
    row = conn.execute("select count(*) from geosearch.image where archive_id = %s", [archive]).fetchone()
    conn.execute("delete from geosearch.archive where id = %s", [archive])
    assert row is not None
    return int(row[0])


def _unknown(conn: psycopg.Connection, name: str) -> UnknownNameError:
    rows = conn.execute("select name from geosearch.archive order by name").fetchall()
    return UnknownNameError("archive", name, [str(row[0]) for row in rows])
