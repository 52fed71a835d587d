"""The in-database half: installs the numbered files of ``sql/``, each only when it, or what it is pinned to, changed.

A file drops its own objects and makes them anew, so it can be run again at any time. PostgreSQL refuses the drop where
somebody else's view or function depends on one of them; that refusal is passed on with its list.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

import psycopg

from geosearch import __version__
from geosearch.database.extensions import search_path
from geosearch.errors import SchemaError

GROUPS = ("geosearch_admin", "geosearch_ingest", "geosearch_ask", "geosearch_read")


@dataclass(frozen=True)
class SqlFile:
    """One file of ``sql/``: its name and its text."""

    name: str
    text: str

    @cached_property
    def functions(self) -> frozenset[str]:
        """The names of the functions and procedures that it makes."""
        made = r"^create (?:or replace )?(?:function|procedure) geosearch\.(\w+)"
        return frozenset(re.findall(made, self.text, re.MULTILINE))

    def digest(self, path: str) -> str:
        """Return the SHA-256 of the file and of what it stands on: the search_path that its functions are pinned to
        and the revision of the tables, whose migrations may drop views and add tables to be granted.
        """
        return hashlib.sha256(f"{revisions()[-1]}\n{path}\n{self.text}".encode()).hexdigest()


@cache
def sql_files() -> tuple[SqlFile, ...]:
    """Return the files of ``sql/`` in the order of their numbers."""
    found = [f for f in files("geosearch_sql").iterdir() if f.name.endswith(".sql")]
    return tuple(SqlFile(f.name, f.read_text(encoding="utf-8")) for f in sorted(found, key=lambda f: f.name))


@cache
def revisions() -> tuple[str, ...]:
    """Return the names of all table revisions, oldest first, from the file names: Alembic takes long to import."""
    names = [f.name for f in files("geosearch_migrations.versions").iterdir()]
    return tuple(sorted(m[1] for name in names if (m := re.match(r"(\d{4})_.*\.py$", name))))


def outdated_files(conn: psycopg.Connection) -> list[SqlFile]:
    """Return the files that the database lacks or holds in another version.

    All of them where a group has no rights: a dump restored on another server, or without its grants. Those as well of
    which a function is gone: a dump restored with errors.
    """
    path = search_path(conn)
    granted = conn.execute(
        "select count(*) from pg_catalog.pg_roles where rolname = any (%s)"
        " and pg_catalog.has_schema_privilege(oid, 'geosearch', 'usage')",
        [list(GROUPS)],
    ).fetchone()
    if granted != (len(GROUPS),):
        return list(sql_files())
    rows = conn.execute("select name, sha256 from geosearch.installed_sql").fetchall()
    installed = {str(name): str(digest) for name, digest in rows}
    found = conn.execute(
        "select p.proname from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace"
        " where n.nspname = 'geosearch'"
    ).fetchall()
    there = {str(name) for (name,) in found}
    return [
        file for file in sql_files() if installed.get(file.name) != file.digest(path) or not file.functions <= there
    ]


def install_sql(conn: psycopg.Connection) -> list[str]:
    """Install what is outdated, inside the caller's transaction, and return the names of the files that ran.

    Raises SchemaError when objects of others depend on those to be replaced, or when a right is missing.
    """
    done = []
    path = search_path(conn)
    for file in outdated_files(conn):
        # Functions say `set search_path from current`, which pins them to this very path.
        conn.execute("select set_config('search_path', %s, true)", [path])
        try:
            conn.execute(file.text)
        except psycopg.errors.DependentObjectsStillExist as error:
            raise SchemaError(_dependents(file.name, error)) from error
        conn.execute(
            "insert into geosearch.installed_sql (name, sha256, release) values (%s, %s, %s)"
            " on conflict (name) do update set sha256 = excluded.sha256, release = excluded.release,"
            " installed_at = now()",
            [file.name, file.digest(path), __version__],
        )
        done.append(file.name)
    if done:
        known = [file.name for file in sql_files()]
        conn.execute("delete from geosearch.installed_sql where name <> all (%s)", [known])
    return done


def _dependents(name: str, error: psycopg.Error) -> str:
    detail = (error.diag.message_detail or "").strip()
    return (
        f"sql/{name} cannot be installed: {error.diag.message_primary}:\n{detail}\n"
        "Nothing was changed. Drop these objects (keep their definitions: pg_get_viewdef shows that of a view),"
        " run `geosearch db migrate` again, then create them anew."
    )
