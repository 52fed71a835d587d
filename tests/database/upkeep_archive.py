"""A space of random images for the tests of its upkeep."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from geosearch.database.spaces import Space, create_space, get_space
from geosearch.embedding.write import copy_rows

TABLE = sql.Identifier("geosearch", "space_look")


def fill(conn: psycopg.Connection, count: int, dimension: int) -> Space:
    """Make space `look` with so many images anywhere on Earth, in random order."""
    archive = conn.execute("insert into geosearch.archive (name) values ('a') returning id").fetchone()
    ids = add_images(conn, archive[0], count)
    space = create_space(conn, "look", dimension)
    vectors = np.random.default_rng(7).standard_normal((count, dimension)).astype(np.float32)
    statement = "copy geosearch.space_look (image_id, content_sha256, embedding) from stdin (format binary)"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(copy_rows(ids, vectors, None))
    conn.execute("analyze geosearch.image")
    return get_space(conn, space.name)


def add_images(conn: psycopg.Connection, archive: int, count: int) -> list[int]:
    """Add images anywhere and return their ids."""
    rows = conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m, nadir) select %s, gen_random_uuid(), 0,"
        " st_makepoint(random() * 360 - 180, degrees(asin(random() * 2 - 1)))::geography"
        " from generate_series(1, %s) returning id",
        [archive, count],
    ).fetchall()
    return sorted(row[0] for row in rows)


def contents(conn: psycopg.Connection) -> dict[int, tuple[Any, ...]]:
    """Every row of the space by image: all columns."""
    rows = conn.execute("select image_id, version, x, y, z, s::text from geosearch.space_look s").fetchall()
    return {row[0]: row for row in rows}


def shape(conn: psycopg.Connection, space: str) -> dict[str, list[tuple[Any, ...]]]:
    """What the catalogues say of a space's table, without its name: equal for tables that are alike."""
    table = f"geosearch.space_{space}"
    found = {
        what: conn.execute(query, [table]).fetchall()
        for what, query in {
            "columns": "select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage::text,"
            " pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum) from pg_attribute a"
            " left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum"
            " where a.attrelid = %s::regclass and a.attnum > 0 order by a.attnum",
            "indexes": "select pg_get_indexdef(indexrelid), indisvalid from pg_index where indrelid = %s::regclass"
            " order by 1",
            "constraints": "select conname, pg_get_constraintdef(oid), convalidated from pg_constraint"
            " where conrelid = %s::regclass order by 1",
            "triggers": "select regexp_replace(pg_get_triggerdef(oid), '[0-9]+', 'ID') from pg_trigger"
            " where tgrelid = %s::regclass and not tgisinternal order by 1",
            "table": "select pg_get_userbyid(relowner), reloptions, obj_description(oid) from pg_class"
            " where oid = %s::regclass",
            "rights": "select a.grantee::regrole::text, a.privilege_type, a.is_grantable from pg_class c,"
            " aclexplode(c.relacl) a where c.oid = %s::regclass order by 1, 2",
        }.items()
    }
    plain = lambda value: value.replace(space, "NAME") if isinstance(value, str) else value  # noqa: E731
    return {what: [tuple(plain(value) for value in row) for row in rows] for what, rows in found.items()}


def leftovers(conn: psycopg.Connection) -> list[str]:
    """The names of what a killed run left behind."""
    rows = conn.execute(
        "select relname from pg_class where relnamespace = 'geosearch'::regnamespace and relname like 'reorder%'"
        " union all select tgname from pg_trigger where tgname like 'reorder%'"
        " union all select indexrelid::regclass::text from pg_index where not indisvalid"
    ).fetchall()
    return [row[0] for row in rows]


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process of which the output is read line by line."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
