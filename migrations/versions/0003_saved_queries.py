"""Saved queries and their answers.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geography
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_open = sa.text("state in ('waiting', 'working')")


def _time(name: str) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True))


def _check(text: str, name: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(text, name=op.f(f"query_{name}_check"))


def upgrade() -> None:
    op.create_table(
        "query",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("asked_by", sa.Text(), server_default=sa.text("current_user"), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "asked_in",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text)::bigint"),
            nullable=False,
        ),
        sa.Column("text", sa.Text()),
        sa.Column("image", sa.LargeBinary()),
        sa.Column("image_uri", sa.Text()),
        sa.Column("like", sa.BigInteger()),
        sa.Column("near", Geography("GEOMETRY", srid=4326, spatial_index=False)),
        sa.Column("radius_m", sa.Double(), server_default=sa.text("2500000"), nullable=False),
        sa.Column("k", sa.Integer(), server_default=sa.text("10"), nullable=False),
        sa.Column("lambda", sa.Double(), server_default=sa.text("0.5"), nullable=False),
        sa.Column("archive", sa.Text()),
        _time("captured_from"),
        _time("captured_to"),
        sa.Column("among", ARRAY(sa.BigInteger())),
        sa.Column("space", sa.Text()),
        sa.Column("strategy", sa.Text(), server_default=sa.text("'auto'"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'waiting'"), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("killed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker", sa.Text()),
        _time("started_at"),
        _time("answered_at"),
        sa.Column("reason", sa.Text()),
        sa.Column("answers", sa.Integer()),
        sa.Column("searched_space", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="query_pkey"),
        _check(
            'num_nonnulls(text, image, image_uri, "like") >= 1 and num_nonnulls(image, image_uri, "like") <= 1', "asks"
        ),
        _check("text ~ '[^[:space:]]' and length(text) <= 10000", "text"),
        _check("octet_length(image) between 1 and 20971520", "image"),
        _check("length(image_uri) between 1 and 2000", "image_uri"),
        _check("st_npoints(near::geometry) between 1 and 10000", "near"),
        _check("radius_m >= 0 and radius_m < 'infinity'::double precision", "radius_m"),
        _check("k between 1 and 10000", "k"),
        _check("lambda between 0 and 1", "lambda"),
        _check("cardinality(among) <= 100000", "among"),
        _check("length(space) <= 200", "space"),
        _check("length(archive) <= 2000", "archive"),
        _check("length(strategy) <= 200", "strategy"),
        _check("state in ('waiting', 'working', 'done', 'failed')", "state"),
        schema="geosearch",
    )
    op.create_index("query_open_idx", "query", ["id"], schema="geosearch", postgresql_where=_open)
    op.create_index("query_asked_by_id_idx", "query", ["asked_by", "id"], schema="geosearch")
    op.create_table(
        "ranking",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("query_id", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("similarity", sa.Double(), nullable=False),
        sa.Column("distance_m", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="ranking_pkey"),
        sa.ForeignKeyConstraint(["query_id"], ["geosearch.query.id"], name="ranking_query_id_fkey", ondelete="CASCADE"),
        sa.UniqueConstraint("query_id", "rank", name="ranking_query_id_rank_key"),
        schema="geosearch",
    )
