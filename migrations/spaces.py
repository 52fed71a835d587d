"""For migrations: change the table of every space, which Alembic does not know (SQL functions make them)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection


@dataclass(frozen=True)
class SpaceTable:
    """The table of one space: ``table`` is its quoted name, to be put into a statement."""

    name: str
    dimension: int
    table: str


def space_tables(connection: Connection, layout: int) -> Iterator[SpaceTable]:
    """Yield the tables of all spaces that have this layout version."""
    rows = connection.execute(
        sa.text(
            "select s.name, s.dimension, pg_catalog.format('geosearch.%I', 'space_' || s.name)"
            " from geosearch.space s where s.layout_version = :layout order by s.name"
        ),
        {"layout": layout},
    ).all()
    for row in rows:
        yield SpaceTable(*row)


def upgrade_spaces(
    connection: Connection, layout: int, to_layout: int, statements: Callable[[SpaceTable], Iterable[str]]
) -> int:
    """Run the statements for each space of a layout, record the new layout, and return how many there were.

    A revision calls it with ``op.get_bind()``; ``create_space`` in the same release makes tables of the new layout.
    """
    tables = list(space_tables(connection, layout))
    for table in tables:
        for statement in statements(table):
            connection.exec_driver_sql(statement)
        connection.execute(
            sa.text("update geosearch.space set layout_version = :new where name = :name"),
            {"new": to_layout, "name": table.name},
        )
    return len(tables)
