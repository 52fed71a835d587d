"""Alembic's environment, run from Python on an open connection (``geosearch.database.migrate``), without ini file."""

from __future__ import annotations

import re
from typing import Any

from alembic import context

from geosearch.database import derived_tables  # noqa: F401  (its tables belong to Base)
from geosearch.database.tables import SCHEMA, Base

# Vector tables and banks: made by create_space and its kin, never part of the models.
MADE_BY_SQL = re.compile(r"^(space|range|bank)_")


def include_name(name: str | None, type_: str, parents: Any) -> bool:
    """Leave out every schema but ours: PostGIS's own tables, and whatever else lives in the database."""
    return name == SCHEMA if type_ == "schema" else True


def include_object(thing: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out the tables made by SQL functions, with their columns, indexes and constraints."""
    table = thing if type_ == "table" else getattr(thing, "table", None)
    return table is None or not MADE_BY_SQL.match(table.name)


connection = context.config.attributes["connection"]
# Comments come from sql/, not from the models: without this, autogenerate would propose to drop them all.
connection.dialect.supports_comments = False

context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table_schema=SCHEMA,
    include_schemas=True,
    include_name=include_name,
    include_object=include_object,
    compare_type=True,
    compare_server_default=True,
)
# The caller holds the transaction: tables and sql/ change together or not at all.
context.run_migrations()
