"""Spaces by name: making, listing and dropping them through the SQL functions of ``sql/20_spaces.sql``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from geosearch.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Space:
    """A space and how many vectors it holds. ``model`` is None where the vectors are made elsewhere."""

    id: int
    name: str
    model: str | None
    dimension: int
    metric: str
    embeds: str
    indexed_as: str | None
    layout_version: int
    active: bool
    created_at: datetime
    count: int

    @property
    def table(self) -> sql.Identifier:
        """The table of its vectors, to be put into ``sql.SQL(...).format``."""
        return sql.Identifier("geosearch", f"space_{self.name}")


def create_space(
    conn: psycopg.Connection,
    name: str,
    dimension: int,
    model: str | None = None,
    metric: str = "cosine",
    embeds: str = "image",
) -> Space:
    """Make a space and its table. Raises InputError, or UnknownNameError when the model is not recorded."""
    try:
        with conn.transaction():
            conn.execute(
                "select geosearch.create_space(%s::text, %s::int, %s::text, %s::text, %s::text)",
                [name, dimension, model, metric, embeds],
            )
    except psycopg.errors.UndefinedObject as error:
        known = conn.execute("select name from geosearch.model order by name").fetchall()
        raise UnknownNameError("model", str(model), [str(row[0]) for row in known]) from error
    except (psycopg.DataError, psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation) as error:
        raise InputError(_message(error)) from error
    return get_space(conn, name)


def drop_space(conn: psycopg.Connection, name: str) -> int:
    """Remove a space with its vectors and return how many there were. Raises UnknownNameError."""
    count = get_space(conn, name).count
    with conn.transaction():
        conn.execute("select geosearch.drop_space(%s::text)", [name])
    return count


def list_spaces(conn: psycopg.Connection) -> list[Space]:
    """Return all spaces by name, each with its number of vectors (counted, not estimated)."""
    return _spaces(conn, sql.SQL("order by s.name"), [])


def get_space(conn: psycopg.Connection, name: str) -> Space:
    """Return one space. Raises UnknownNameError."""
    found = _spaces(conn, sql.SQL("where s.name = %s"), [name])
    if found:
        return found[0]
    rows = conn.execute("select name from geosearch.space order by name").fetchall()
    raise UnknownNameError("space", name, [str(row[0]) for row in rows], "`geosearch space create` makes one.")


def _spaces(conn: psycopg.Connection, which: sql.SQL, arguments: list[str]) -> list[Space]:
    select = sql.SQL(
        "select s.id, s.name, m.name, s.dimension, s.metric, s.embeds, s.indexed_as, s.layout_version, s.active,"
        " s.created_at from geosearch.space s left join geosearch.model m on m.id = s.model_id {}"
    )
    spaces = []
    for row in conn.execute(select.format(which), arguments).fetchall():
        table = sql.Identifier("geosearch", f"space_{row[1]}")
        counted = conn.execute(sql.SQL("select count(*) from {}").format(table)).fetchone()
        assert counted is not None
        spaces.append(Space(*row, *counted))
    return spaces


def _message(error: psycopg.Error) -> str:
    hint = error.diag.message_hint
    return f"{error.diag.message_primary or error}" + (f". {hint}" if hint else "")
