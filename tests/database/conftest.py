"""Databases besides the migrated one, and a way to compare two of them."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

# What a database holds in schema geosearch, from the catalogues: everything that pg_dump would write, but no OIDs.
FINGERPRINT = {
    "schema": "select nspname, nspacl::text[] from pg_namespace where nspname = 'geosearch'",
    "relations": "select relname, relkind, relpersistence, reloptions, relacl::text[],"
    " obj_description(oid, 'pg_class'),"
    " case when relkind = 'v' then pg_get_viewdef(oid) end from pg_class"
    " where relnamespace = 'geosearch'::regnamespace",
    "columns": "select c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
    " a.attidentity,"
    " a.attstorage, a.attacl::text[], pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)"
    " from pg_attribute a join pg_class c on c.oid = a.attrelid"
    " left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum"
    " where c.relnamespace = 'geosearch'::regnamespace and a.attnum > 0 and c.relkind in ('r', 'v')",
    "constraints": "select conrelid::regclass::text, conname, pg_get_constraintdef(oid) from pg_constraint"
    " where connamespace = 'geosearch'::regnamespace",
    "indexes": "select indexname, indexdef from pg_indexes where schemaname = 'geosearch'",
    "functions": "select proname, pg_get_functiondef(oid), proacl::text[], obj_description(oid, 'pg_proc') from pg_proc"
    " where pronamespace = 'geosearch'::regnamespace",
    "types": "select typname, typtype from pg_type where typnamespace = 'geosearch'::regnamespace",
    "triggers": "select tgname, tgrelid::regclass::text from pg_trigger t join pg_class c on c.oid = t.tgrelid"
    " where c.relnamespace = 'geosearch'::regnamespace and not tgisinternal",
    "revision": "select version_num from geosearch.alembic_version",
    "sql": "select name, sha256, release from geosearch.installed_sql",
    "spaces": "select name, dimension, metric, embeds, layout_version, active from geosearch.space",
}


OWNER = "select pg_get_userbyid(nspowner) from pg_namespace where nspname = 'geosearch'"


def _plain(value: Any, owner: str) -> Any:
    """Access lists in any order, and whoever owns the schema called owner."""
    if not isinstance(value, list):
        return value
    return sorted(re.sub(rf"^{owner}=", "owner=", re.sub(rf"/{owner}$", "/owner", item)) for item in value)


@pytest.fixture(scope="session")
def fingerprint():
    """A function: connection string → {what: sorted rows}, equal for equal schemas."""

    def take(url: str) -> dict[str, list[tuple[Any, ...]]]:
        with psycopg.connect(url) as conn:
            conn.execute("set search_path = pg_catalog")  # names come out qualified
            rows = {what: conn.execute(query).fetchall() for what, query in FINGERPRINT.items()}
            owner = conn.execute(OWNER).fetchone()[0]
        return {
            what: sorted((tuple(_plain(value, owner) for value in row) for row in found), key=repr)
            for what, found in rows.items()
        }

    return take
