"""The first tables: archives, images, rejects, models, spaces.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geography
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_now = sa.text("now()")
_object = sa.text("'{}'::jsonb")
_place = sa.text("coalesce(footprint, nadir)")


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=_now, nullable=False)


def _id(type_: type[sa.types.TypeEngine]) -> sa.Column:
    return sa.Column("id", type_(), sa.Identity(always=True), nullable=False)


def upgrade() -> None:
    op.create_table(
        "archive",
        _id(sa.Integer),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text()),
        sa.Column("licence", sa.Text()),
        sa.Column("attribution", sa.Text()),
        sa.Column("root", sa.Text()),
        sa.Column("properties", JSONB(), server_default=_object, nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="archive_pkey"),
        sa.UniqueConstraint("name", name="archive_name_key"),
        sa.CheckConstraint("name <> ''", name=op.f("archive_name_check")),
        schema="geosearch",
    )
    op.create_table(
        "image",
        _id(sa.BigInteger),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text()),
        sa.Column("captured_at", sa.DateTime(timezone=True)),
        sa.Column("nadir", Geography("POINT", srid=4326, spatial_index=False)),
        sa.Column("footprint", Geography("MULTIPOLYGON", srid=4326, spatial_index=False)),
        sa.Column("reach_m", sa.Double(), nullable=False),
        sa.Column("properties", JSONB(), server_default=_object, nullable=False),
        sa.Column("content_sha256", sa.LargeBinary()),
        sa.Column("source_sha256", sa.LargeBinary()),
        sa.Column("problems", ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False),
        _time("added_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name="image_pkey"),
        sa.ForeignKeyConstraint(
            ["archive_id"], ["geosearch.archive.id"], name="image_archive_id_fkey", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("archive_id", "name", name="image_archive_id_name_key"),
        sa.CheckConstraint("name <> ''", name=op.f("image_name_check")),
        sa.CheckConstraint("reach_m >= 0 and reach_m < 'infinity'::double precision", name=op.f("image_reach_m_check")),
        sa.CheckConstraint("jsonb_typeof(properties) = 'object'", name=op.f("image_properties_check")),
        sa.CheckConstraint(
            "nadir is null or (st_x(nadir::geometry) <= 180 and st_y(nadir::geometry) <= 90) is true",
            name=op.f("image_nadir_check"),
        ),
        sa.CheckConstraint(
            "footprint is null or not st_isempty(footprint::geometry)"
            " and st_area(footprint::geometry) < 'infinity'::double precision",
            name=op.f("image_footprint_check"),
        ),
        schema="geosearch",
    )
    far = sa.text("reach_m > 0")
    op.create_index("image_place_idx", "image", [_place], schema="geosearch", postgresql_using="gist")
    op.create_index(
        "image_far_idx", "image", [_place], schema="geosearch", postgresql_using="gist", postgresql_where=far
    )
    op.create_index("image_reach_m_idx", "image", ["reach_m"], schema="geosearch", postgresql_where=far)
    op.create_table(
        "reject",
        _id(sa.BigInteger),
        sa.Column("archive_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("line", sa.BigInteger()),
        sa.Column("name", sa.Text()),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text()),
        _time("at"),
        sa.PrimaryKeyConstraint("id", name="reject_pkey"),
        sa.ForeignKeyConstraint(
            ["archive_id"], ["geosearch.archive.id"], name="reject_archive_id_fkey", ondelete="CASCADE"
        ),
        sa.CheckConstraint("stage in ('catalog', 'embed')", name=op.f("reject_stage_check")),
        schema="geosearch",
    )
    op.create_index("reject_archive_id_stage_idx", "reject", ["archive_id", "stage"], schema="geosearch")
    op.create_table(
        "model",
        _id(sa.Integer),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("family", sa.Text()),
        sa.Column("revision", sa.Text()),
        sa.Column("weights_sha256", sa.Text()),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("preprocessing", JSONB(), server_default=_object, nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="model_pkey"),
        sa.UniqueConstraint("name", name="model_name_key"),
        sa.CheckConstraint("dimension > 0", name=op.f("model_dimension_check")),
        schema="geosearch",
    )
    op.create_table(
        "space",
        _id(sa.Integer),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Integer()),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), server_default=sa.text("'cosine'"), nullable=False),
        sa.Column("embeds", sa.Text(), server_default=sa.text("'image'"), nullable=False),
        sa.Column("indexed_as", sa.Text()),
        sa.Column("layout_version", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="space_pkey"),
        sa.ForeignKeyConstraint(["model_id"], ["geosearch.model.id"], name="space_model_id_fkey"),
        sa.UniqueConstraint("name", name="space_name_key"),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9_]{0,40}$'", name=op.f("space_name_check")),
        sa.CheckConstraint("dimension between 1 and 16000", name=op.f("space_dimension_check")),
        sa.CheckConstraint("metric = 'cosine'", name=op.f("space_metric_check")),
        sa.CheckConstraint("embeds = 'image'", name=op.f("space_embeds_check")),
        schema="geosearch",
    )
    op.create_table(
        "installed_sql",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("release", sa.Text(), nullable=False),
        _time("installed_at"),
        sa.PrimaryKeyConstraint("name", name="installed_sql_pkey"),
        schema="geosearch",
    )
