"""Moments of spaces, and questions whose weight of the text is the model's own.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "moments",
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("counted", sa.BigInteger(), nullable=False),
        sa.Column("mean", VECTOR(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("edition", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("space_id", name="moments_pkey"),
        sa.ForeignKeyConstraint(["space_id"], ["geosearch.space.id"], name="moments_space_id_fkey", ondelete="CASCADE"),
        schema="geosearch",
    )
    op.create_table(
        "moments_row",
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("dimension", sa.SmallInteger(), nullable=False),
        sa.Column("mean", sa.Double(), nullable=False),
        sa.Column("scatter", ARRAY(sa.Double()), nullable=False),
        sa.PrimaryKeyConstraint("space_id", "dimension", name="moments_row_pkey"),
        sa.ForeignKeyConstraint(
            ["space_id"], ["geosearch.moments.space_id"], name="moments_row_space_id_fkey", ondelete="CASCADE"
        ),
        schema="geosearch",
    )
    op.create_table(
        "moments_axis",
        sa.Column("space_id", sa.Integer(), nullable=False),
        sa.Column("axis", sa.SmallInteger(), nullable=False),
        sa.Column("direction", VECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("space_id", "axis", name="moments_axis_pkey"),
        sa.ForeignKeyConstraint(
            ["space_id"], ["geosearch.moments.space_id"], name="moments_axis_space_id_fkey", ondelete="CASCADE"
        ),
        schema="geosearch",
    )
    # Numbers as good as random: compression finds nothing in them and costs time.
    op.execute("alter table geosearch.moments_row alter column scatter set storage external")
    # Inline while a row fits a page: fetching each axis from elsewhere would cost more than its dot product.
    op.execute("alter table geosearch.moments_axis alter column direction set storage main")
    op.execute("alter table geosearch.moments_axis set (toast_tuple_target = 8160)")
    op.alter_column(
        "query", "lambda", existing_type=sa.Double(), nullable=True, server_default=None, schema="geosearch"
    )
