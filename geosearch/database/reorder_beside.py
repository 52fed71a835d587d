"""The two tables of a rebuild, and how rows that changed meanwhile are copied again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from geosearch.database.index_session import Session

PATIENCE_S = 3600.0
CHUNK = 10_000  # rows of the log taken at a time


@dataclass
class Beside:
    """The two tables of a rebuild and what is to become of the new one."""

    work: Session
    centre: str | None
    index_options: dict[str, int] | None
    patience_s: float = PATIENCE_S
    columns: list[str] = field(default_factory=list)
    caught_up: int = 0

    @property
    def old(self) -> sql.Identifier:
        """The table that everybody uses."""
        return self.work.space.table

    @property
    def new_name(self) -> str:
        """The name of the second table: short enough for the names of its indexes, and that of no space."""
        return f"reorder_{self.work.space.id}"

    @property
    def new(self) -> sql.Identifier:
        """The table that is filled."""
        return sql.Identifier("geosearch", self.new_name)

    @property
    def log(self) -> sql.Identifier:
        """The table of image ids of which the row in the old table changed."""
        return sql.Identifier("geosearch", self.new_name + "_log")

    def names(self) -> dict[str, sql.Composable]:
        """Return what statements about the three tables are formatted with."""
        columns = [sql.Identifier(column) for column in self.columns]
        # With a new centre the signs are others; everything else is carried over.
        values = [
            sql.SQL("geosearch.sign_code(embedding, {}::halfvec)").format(sql.Literal(self.centre))
            if self.centre is not None and column == "code"
            else sql.Identifier(column)
            for column in self.columns
        ]
        return {
            "old": self.old, "new": self.new, "log": self.log,
            "columns": sql.SQL(", ").join(columns), "values": sql.SQL(", ").join(values),
        }  # fmt: skip

    def run(self, conn: psycopg.Connection, statement: str, arguments: Sequence[Any] = ()) -> psycopg.Cursor[Any]:
        """Run a statement about {old}, {new}, {log}, {columns} and {values}."""
        return conn.execute(sql.SQL(statement).format(**self.names()), arguments or None)


def catch_up(beside: Beside, conn: psycopg.Connection) -> int:
    """Copy the rows again that the log names, chunk by chunk; return how many entries there were."""
    total = 0
    while taken := _take_chunk(beside, conn):
        total += taken
        if taken < CHUNK:
            break
    beside.caught_up += total
    return total


def _take_chunk(beside: Beside, conn: psycopg.Connection) -> int:
    with conn.transaction():
        # Entries that this statement sees are of transactions that the next ones see as a whole.
        rows = beside.run(
            conn,
            "delete from {log} where ctid = any (array(select ctid from {log} limit %s)) returning image_id",
            [CHUNK],
        ).fetchall()
        ids = sorted({int(image_id) for (image_id,) in rows if image_id is not None})
        if any(image_id is None for (image_id,) in rows):  # the old table was truncated
            beside.run(conn, "delete from {new} n where not exists (select from {old} o where o.image_id = n.image_id)")
        if ids:
            beside.run(conn, "delete from {new} where image_id = any (%s)", [ids])
            beside.run(
                conn,
                "insert into {new} ({columns}) select {values} from {old} where image_id = any (%s)"
                " order by cell, image_id",
                [ids],
            )
    return len(rows)
