"""The models and the migrations say the same, and Alembic keeps its hands off everything else."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import create_engine, inspect
from sqlalchemy.pool import NullPool

from geosearch.database import derived_tables  # noqa: F401  (its tables belong to Base)
from geosearch.database.install import revisions
from geosearch.database.migrate import alembic_config
from geosearch.database.tables import Base, space_table


def differences(url, change=lambda connection: None):
    """What `alembic revision --autogenerate` would write, as a list of operations."""
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    found = []
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection, connection.begin() as transaction:
        change(connection)
        config = alembic_config(connection)
        script = ScriptDirectory.from_config(config)

        def compare(revision, context):
            from alembic.autogenerate import produce_migrations

            operations = produce_migrations(context, Base.metadata)
            found.extend(operations.upgrade_ops.as_diffs())
            return []

        with EnvironmentContext(config, script, fn=compare):
            script.run_env()
        transaction.rollback()
    return found


@pytest.fixture
def url(superuser_url):
    """A migrated database with spaces, a bank and a table of somebody else's."""
    with psycopg.connect(superuser_url) as conn:
        conn.execute("select geosearch.create_space('toy', 3)")
        conn.execute("create table geosearch.range_bank (id int primary key, key public.vector(3))")
        conn.execute("create index on geosearch.range_bank (id)")
        conn.execute("create index space_toy_idx on geosearch.space_toy (embedded_at)")
        conn.execute("create table public.mine (id int, place public.geometry)")
    return superuser_url


def test_autogenerate_finds_no_difference(url):
    assert differences(url) == []


@pytest.mark.parametrize(
    ("statement", "operation"),
    [
        ("alter table geosearch.image drop column uri", "add_column"),
        ("alter table geosearch.image add column extra int", "remove_column"),
        ("alter table geosearch.image alter column nadir type geography", "modify_type"),
        ("alter table geosearch.archive alter column created_at drop default", "modify_default"),
        ("alter table geosearch.archive alter column name drop not null", "modify_nullable"),
        ("drop index geosearch.image_place_idx", "add_index"),
        ("create index surplus on geosearch.image (uri)", "remove_index"),
        ("alter table geosearch.space drop constraint space_name_key", "add_constraint"),
        ("create table geosearch.surplus (id int)", "remove_table"),
    ],
)
def test_autogenerate_would_see_a_difference(url, statement, operation):
    """The comparison is not blind: each of these is found, and it alone."""
    if "alter column nadir" in statement:
        statement = (
            f"drop view geosearch.image_map, geosearch.footprint_map, geosearch.ranked_image cascade; {statement}"
        )
    if "drop column uri" in statement:
        statement += " cascade"
    found = differences(url, lambda connection: connection.exec_driver_sql(statement))
    flat = [item[0] if isinstance(item, list) else item for item in found]
    assert [item[0] for item in flat] == [operation]


def test_space_table_describes_what_create_space_makes(url):
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    described = space_table("toy", 3)
    with engine.connect() as connection:
        columns = inspect(connection).get_columns("space_toy", schema="geosearch")
        assert [(c["name"], c["nullable"]) for c in columns] == [(c.name, c.nullable) for c in described.columns]
        assert connection.execute(described.select()).all() == []


def test_the_next_revision_can_be_written_from_a_difference(url, tmp_path):
    from geosearch_migrations.__main__ import write_revision

    with psycopg.connect(url) as conn:
        conn.execute("drop view geosearch.image_map, geosearch.footprint_map, geosearch.ranked_image cascade")
        conn.execute("alter table geosearch.image drop column uri, drop column footprint")
    path = write_revision("Give images a uri again", url, tmp_path)
    assert path.parent == tmp_path
    assert path.name.startswith(f"{int(revisions()[-1]) + 1:04}_give_images_a_uri")
    written = path.read_text(encoding="utf-8")
    assert "op.add_column('image', sa.Column('uri', sa.Text(), nullable=True), schema='geosearch')" in written
    assert "MULTIPOLYGON" in written
    assert f"down_revision = '{revisions()[-1]}'" in written
    assert "spatial_ref_sys" not in written
    assert "space_toy" not in written
    compile(written, str(path), "exec")
