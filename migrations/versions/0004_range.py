"""Location encoders inside the database, banks, and a count of changes.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from pgvector.sqlalchemy import VECTOR
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "location_weight",
        sa.Column("model_id", sa.Integer(), nullable=False),
        sa.Column("net", sa.SmallInteger(), nullable=False),
        sa.Column("layer", sa.SmallInteger(), nullable=False),
        sa.Column("unit", sa.SmallInteger(), nullable=False),
        sa.Column("bias", sa.Double(), nullable=False),
        sa.Column("weights", VECTOR(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "net", "layer", "unit", name="location_weight_pkey"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["geosearch.model.id"], name="location_weight_model_id_fkey", ondelete="CASCADE"
        ),
        schema="geosearch",
    )
    # Inline: a row of weights that had to be fetched from elsewhere would cost more than its dot product.
    op.execute("alter table geosearch.location_weight alter column weights set storage plain")
    op.create_table(
        "bank",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("encoder", sa.Text(), nullable=False),
        sa.Column("key_model", sa.Text()),
        sa.Column("value_model", sa.Text()),
        sa.Column("key_space_id", sa.Integer()),
        sa.Column("value_space_id", sa.Integer()),
        sa.Column("key_dimension", sa.Integer(), nullable=False),
        sa.Column("value_dimension", sa.Integer(), nullable=False),
        sa.Column("keys_normalised", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("values_normalised", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("places", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("properties", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("built_at", sa.DateTime(timezone=True)),
        sa.Column("stored_at", sa.DateTime(timezone=True)),
        sa.Column("stored_changes", sa.BigInteger()),
        sa.Column("stored_with", JSONB()),
        sa.PrimaryKeyConstraint("id", name="bank_pkey"),
        sa.UniqueConstraint("name", name="bank_name_key"),
        sa.ForeignKeyConstraint(
            ["key_space_id"], ["geosearch.space.id"], name="bank_key_space_id_fkey", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["value_space_id"], ["geosearch.space.id"], name="bank_value_space_id_fkey", ondelete="SET NULL"
        ),
        sa.CheckConstraint(
            "name ~ '^[a-z][a-z0-9_]{0,40}$' and name !~ '_(stored|values)$'", name=op.f("bank_name_check")
        ),
        sa.CheckConstraint("key_dimension between 1 and 1900", name=op.f("bank_key_dimension_check")),
        sa.CheckConstraint("value_dimension between 1 and 16000", name=op.f("bank_value_dimension_check")),
        schema="geosearch",
    )
    op.create_table(
        "change",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        schema="geosearch",
    )
    op.create_index("change_subject_idx", "change", ["subject"], schema="geosearch")
