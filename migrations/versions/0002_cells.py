"""Space tables in the order of cells (layout 2): place, archive and date beside each vector, and a version.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from geosearch_migrations.spaces import SpaceTable, upgrade_spaces
from pgvector.sqlalchemy import HALFVEC

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOT_FILLED = 256  # a bit of space.extents above all classes: sql/18_space_rows.sql fills in such tables


def _rebuilt(space: SpaceTable) -> Iterator[str]:
    """Yield the statements that copy a table of layout 1 into one of layout 2; triggers and places come from sql/."""
    name, old = f"space_{space.name}", f'geosearch."space_{space.name}_1"'
    code = space.dimension > 3900
    yield f'alter table {space.table} rename to "{name}_1"'
    for part in ("pkey", "image_id_fkey", "embedding_check"):
        yield f'alter table {old} rename constraint "{name}_{part}" to "{name}_1_{part}"'
    yield (
        f"create table {space.table} (image_id bigint not null, version bigint not null, x float8 not null,"
        " y float8 not null, z float8 not null, cap float8 not null, core float8 not null, reach_m float8 not null,"
        " embedded_at timestamptz not null default now(), cell int not null, archive_id int not null,"
        + (f" code bit({space.dimension}) not null," if code else "")
        + f" embedding halfvec({space.dimension}) not null, captured_at timestamptz, content_sha256 bytea,"
        f' constraint "{name}_embedding_check" check (l2_norm(embedding) > 0))'
    )
    yield f"alter table {space.table} alter column embedding set storage {'external' if code else 'plain'}"
    yield (
        # Names of spaces are checked by the table they stand in: letters, digits, underscores.
        f"insert into {space.table} (image_id, version, x, y, z, cap, core, reach_m, embedded_at, cell, archive_id,"
        + (" code," if code else "")
        + " embedding, captured_at, content_sha256)"
        " select s.image_id, nextval('geosearch.version_seq'), 0, 0, 0, pi(), 0, i.reach_m, s.embedded_at,"
        " 7 * 32768, i.archive_id,"
        + (" binary_quantize(s.embedding)," if code else "")
        + " s.embedding, i.captured_at, s.content_sha256"
        f" from {old} s join geosearch.image i on i.id = s.image_id order by s.image_id"
    )
    yield f"drop table {old}"
    yield f'alter table {space.table} add constraint "{name}_pkey" primary key (image_id)'
    yield f'create index "{name}_cell_idx" on {space.table} (cell)'
    yield (
        f'alter table {space.table} add constraint "{name}_image_id_fkey" foreign key (image_id)'
        " references geosearch.image (id) on delete cascade"
    )
    yield f"update geosearch.space set extents = {NOT_FILLED} where name = '{space.name}'"


def upgrade() -> None:
    op.execute("create sequence geosearch.version_seq")
    op.add_column(
        "space", sa.Column("extents", sa.Integer(), server_default=sa.text("0"), nullable=False), schema="geosearch"
    )
    op.add_column("space", sa.Column("centre", HALFVEC()), schema="geosearch")
    op.add_column("space", sa.Column("counted", sa.BigInteger()), schema="geosearch")
    op.create_check_constraint(
        op.f("space_indexed_as_check"), "space", "indexed_as in ('halfvec', 'bit')", schema="geosearch"
    )
    op.create_table(
        "cell_count",
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("cell", sa.Integer(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("space_id", "cell", name="cell_count_pkey"),
        sa.ForeignKeyConstraint(
            ["space_id"], ["geosearch.space.id"], name="cell_count_space_id_fkey", ondelete="CASCADE"
        ),
        schema="geosearch",
    )
    upgrade_spaces(op.get_bind(), 1, 2, _rebuilt)
