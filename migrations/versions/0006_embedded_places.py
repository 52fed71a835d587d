"""The places that vectors were made with, of models that read places beside pixels.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "embedded_place",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("space_id", sa.Integer(), nullable=False),
        # Numbers, not a geography: map clients would list it as a layer.
        sa.Column("lat", sa.Double()),
        sa.Column("lon", sa.Double()),
        sa.CheckConstraint("num_nonnulls(lat, lon) <> 1", name="embedded_place_both_check"),
        # The image first: images are removed one by one, spaces hardly ever.
        sa.PrimaryKeyConstraint("image_id", "space_id", name="embedded_place_pkey"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["geosearch.image.id"], name="embedded_place_image_id_fkey", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["space_id"], ["geosearch.space.id"], name="embedded_place_space_id_fkey", ondelete="CASCADE"
        ),
        schema="geosearch",
    )
