"""What autogenerate looks at: the tables of schema geosearch, without those that SQL functions make."""

from __future__ import annotations

import re
from typing import Any

from geosearch.database.tables import SCHEMA

# Vector tables and banks: made by create_space and its kin, one a space, never part of the models.
_MADE_BY_SQL = re.compile(r"^(space|range)_")


def include_name(name: str | None, type_: str, parents: Any) -> bool:
    """Leave out every schema but ours: PostGIS's own tables, and whatever else lives in the database."""
    return name == SCHEMA if type_ == "schema" else True


def include_object(thing: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """Leave out the tables made by SQL functions, with their columns, indexes and constraints."""
    table = thing if type_ == "table" else getattr(thing, "table", None)
    return table is None or not _MADE_BY_SQL.match(table.name)
