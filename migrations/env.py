"""Alembic's environment: run from Python on an open connection (`geosearch.database.migrate`), never from an ini file."""

from __future__ import annotations

from alembic import context

from geosearch.database.tables import SCHEMA, Base
from geosearch_migrations.compare import include_name, include_object

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
