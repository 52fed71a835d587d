"""The tables of schema ``geosearch`` as SQLAlchemy models: what Alembic compares a database with.

Comments, grants, functions and views are not here but in ``sql/``. Vector tables (``space_<name>``) are made by
``geosearch.create_space`` in SQL; :func:`space_table` describes one for those who query through SQLAlchemy. Tables of
what is computed from these are in ``derived_tables``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from geoalchemy2 import Geography, WKBElement
from pgvector.sqlalchemy import BIT, HALFVEC
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "geosearch"

# Up to here a vector lies in its row; above, it is stored apart, with its signs in the row (column code).
INLINE_DIMENSIONS = 3900

# An image's place: its footprint, or its nadir where there is no footprint.
PLACE = text("coalesce(footprint, nadir)")

_now = func.now()
_no_properties = text("'{}'::jsonb")


class Base(DeclarativeBase):
    """Base of the models; names of constraints are fixed so that migrations can speak of them."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        },
    )
    type_annotation_map: ClassVar = {
        str: Text,
        datetime: DateTime(timezone=True),
        float: Double,
        bytes: LargeBinary,
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
        list[int]: ARRAY(BigInteger),
    }


class Archive(Base):
    """Images catalogued together."""

    __tablename__ = "archive"
    __table_args__ = (CheckConstraint("name <> ''", name="name"),)

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str | None]
    licence: Mapped[str | None]
    attribution: Mapped[str | None]
    root: Mapped[str | None]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=_no_properties)
    created_at: Mapped[datetime] = mapped_column(server_default=_now)


class Image(Base):
    """One photograph or tile."""

    __tablename__ = "image"
    __table_args__ = (
        UniqueConstraint("archive_id", "name"),
        CheckConstraint("name <> ''", name="name"),
        # NaN is greater than every number in PostgreSQL, so the second comparison refuses it as well.
        CheckConstraint("reach_m >= 0 and reach_m < 'infinity'::double precision", name="reach_m"),
        CheckConstraint("jsonb_typeof(properties) = 'object'", name="properties"),
        # PostGIS lets NaN in (and makes it of infinity), and measures distance 0 from there to everywhere. What is
        # finite it brings within -180 … 180 and -90 … 90 itself.
        CheckConstraint(
            "nadir is null or (st_x(nadir::geometry) <= 180 and st_y(nadir::geometry) <= 90) is true",
            name="nadir",
        ),
        # An area is NaN where any vertex is, also one of a hole.
        CheckConstraint(
            "footprint is null or not st_isempty(footprint::geometry)"
            " and st_area(footprint::geometry) < 'infinity'::double precision",
            name="footprint",
        ),
        Index("image_place_idx", PLACE, postgresql_using="gist"),
        # A search takes images with a reach apart: their circle is wider than that of the others.
        Index("image_far_idx", PLACE, postgresql_using="gist", postgresql_where=text("reach_m > 0")),
        Index("image_reach_m_idx", "reach_m", postgresql_where=text("reach_m > 0")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey("geosearch.archive.id", ondelete="CASCADE"))
    name: Mapped[str]
    uri: Mapped[str | None]
    captured_at: Mapped[datetime | None]
    nadir: Mapped[WKBElement | None] = mapped_column(Geography("POINT", srid=4326, spatial_index=False))
    footprint: Mapped[WKBElement | None] = mapped_column(Geography("MULTIPOLYGON", srid=4326, spatial_index=False))
    reach_m: Mapped[float]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=_no_properties)
    content_sha256: Mapped[bytes | None]
    source_sha256: Mapped[bytes | None]
    problems: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    added_at: Mapped[datetime] = mapped_column(server_default=_now)
    updated_at: Mapped[datetime] = mapped_column(server_default=_now)


class Reject(Base):
    """What could not be catalogued or embedded, and why."""

    __tablename__ = "reject"
    __table_args__ = (
        CheckConstraint("stage in ('catalog', 'embed')", name="stage"),
        Index(None, "archive_id", "stage"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    archive_id: Mapped[int] = mapped_column(ForeignKey("geosearch.archive.id", ondelete="CASCADE"))
    stage: Mapped[str]
    source: Mapped[str | None]
    line: Mapped[int | None] = mapped_column(BigInteger)
    name: Mapped[str | None]
    reason: Mapped[str]
    payload: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(server_default=_now)


class Model(Base):
    """An encoder, named with all that decides its vectors."""

    __tablename__ = "model"
    __table_args__ = (CheckConstraint("dimension > 0", name="dimension"),)

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    family: Mapped[str | None]
    revision: Mapped[str | None]
    weights_sha256: Mapped[str | None]
    dimension: Mapped[int] = mapped_column(Integer)
    preprocessing: Mapped[dict[str, Any]] = mapped_column(server_default=_no_properties)
    created_at: Mapped[datetime] = mapped_column(server_default=_now)


class Space(Base):
    """A model, its preprocessing, a dimension and a metric; every vector belongs to one."""

    __tablename__ = "space"
    __table_args__ = (
        CheckConstraint("name ~ '^[a-z][a-z0-9_]{0,40}$'", name="name"),
        CheckConstraint("dimension between 1 and 16000", name="dimension"),
        CheckConstraint("metric = 'cosine'", name="metric"),
        CheckConstraint("embeds = 'image'", name="embeds"),
        CheckConstraint("indexed_as in ('halfvec', 'bit')", name="indexed_as"),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    model_id: Mapped[int | None] = mapped_column(ForeignKey("geosearch.model.id"))
    dimension: Mapped[int] = mapped_column(Integer)
    metric: Mapped[str] = mapped_column(server_default=text("'cosine'"))
    embeds: Mapped[str] = mapped_column(server_default=text("'image'"))
    indexed_as: Mapped[str | None]
    layout_version: Mapped[int] = mapped_column(Integer)
    active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=_now)
    extents: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    centre: Mapped[Any | None] = mapped_column(HALFVEC())
    counted: Mapped[int | None] = mapped_column(BigInteger)


class CellCount(Base):
    """How many images a space has in each cell, as last counted."""

    __tablename__ = "cell_count"

    space_id: Mapped[int] = mapped_column(ForeignKey("geosearch.space.id", ondelete="CASCADE"), primary_key=True)
    cell: Mapped[int] = mapped_column(Integer, primary_key=True)
    images: Mapped[int] = mapped_column(BigInteger)


class EmbeddedPlace(Base):
    """The place that a vector was made with, of a model that reads places, in degrees; null: none was known.

    Numbers, not a geography: map clients would list it as a layer. The image comes first in the key: images are removed
    one by one, spaces hardly ever.
    """

    __tablename__ = "embedded_place"
    __table_args__ = (CheckConstraint("num_nonnulls(lat, lon) <> 1", name="both"),)

    image_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("geosearch.image.id", ondelete="CASCADE"), primary_key=True
    )
    space_id: Mapped[int] = mapped_column(ForeignKey("geosearch.space.id", ondelete="CASCADE"), primary_key=True)
    lat: Mapped[float | None]
    lon: Mapped[float | None]


class SavedQuery(Base):
    """A question to the worker, and what became of it. Who asks may insert the columns from text to strategy alone."""

    __tablename__ = "query"
    __table_args__ = (
        CheckConstraint(
            'num_nonnulls(text, image, image_uri, "like") >= 1 and num_nonnulls(image, image_uri, "like") <= 1',
            name="asks",
        ),
        # Bounds on all that a stranger may store.
        CheckConstraint("text ~ '[^[:space:]]' and length(text) <= 10000", name="text"),
        CheckConstraint("octet_length(image) between 1 and 20971520", name="image"),
        CheckConstraint("length(image_uri) between 1 and 2000", name="image_uri"),
        CheckConstraint("st_npoints(near::geometry) between 1 and 10000", name="near"),
        CheckConstraint("radius_m >= 0 and radius_m < 'infinity'::double precision", name="radius_m"),
        CheckConstraint("k between 1 and 10000", name="k"),
        CheckConstraint("lambda between 0 and 1", name="lambda"),
        CheckConstraint("cardinality(among) <= 100000", name="among"),
        CheckConstraint("length(space) <= 200", name="space"),
        CheckConstraint("length(archive) <= 2000", name="archive"),
        CheckConstraint("length(strategy) <= 200", name="strategy"),
        CheckConstraint("state in ('waiting', 'working', 'done', 'failed')", name="state"),
        Index("query_open_idx", "id", postgresql_where=text("state in ('waiting', 'working')")),
        Index(None, "asked_by", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    asked_by: Mapped[str] = mapped_column(server_default=text("current_user"))
    asked_at: Mapped[datetime] = mapped_column(server_default=_now)
    # The transaction that asked, also where it did so below a savepoint, of which xmin would be another.
    asked_in: Mapped[int] = mapped_column(BigInteger, server_default=text("(pg_current_xact_id()::text)::bigint"))
    words: Mapped[str | None] = mapped_column("text")
    image: Mapped[bytes | None]
    image_uri: Mapped[str | None]
    like: Mapped[int | None] = mapped_column(BigInteger)
    near: Mapped[WKBElement | None] = mapped_column(Geography("GEOMETRY", srid=4326, spatial_index=False))
    radius_m: Mapped[float] = mapped_column(server_default=text("2500000"))
    k: Mapped[int] = mapped_column(Integer, server_default=text("10"))
    lambda_: Mapped[float | None] = mapped_column("lambda")
    archive: Mapped[str | None]
    captured_from: Mapped[datetime | None]
    captured_to: Mapped[datetime | None]
    among: Mapped[list[int] | None]
    space: Mapped[str | None]
    strategy: Mapped[str] = mapped_column(server_default=text("'auto'"))
    state: Mapped[str] = mapped_column(server_default=text("'waiting'"))
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    killed: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    worker: Mapped[str | None]
    started_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    answers: Mapped[int | None] = mapped_column(Integer)
    searched_space: Mapped[str | None]
    model: Mapped[str | None]


class RankedImage(Base):
    """One answer. image_id refers to no image by constraint: what was answered stays when the image is removed."""

    __tablename__ = "ranking"
    __table_args__ = (UniqueConstraint("query_id", "rank"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    query_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("geosearch.query.id", ondelete="CASCADE"))
    rank: Mapped[int] = mapped_column(Integer)
    image_id: Mapped[int] = mapped_column(BigInteger)
    similarity: Mapped[float]
    distance_m: Mapped[float | None]


class InstalledSql(Base):
    """The files of ``sql/`` that this database holds."""

    __tablename__ = "installed_sql"

    name: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    release: Mapped[str]
    installed_at: Mapped[datetime] = mapped_column(server_default=_now)


def space_table(name: str, dimension: int) -> Table:
    """Return the vector table of a space of layout 2 as a SQLAlchemy table, apart from the models' metadata.

    A trigger fills in all but image_id, embedding and content_sha256.
    """
    return Table(
        f"space_{name}",
        MetaData(schema=SCHEMA),
        Column("image_id", BigInteger, primary_key=True),
        Column("version", BigInteger, nullable=False),
        *(Column(axis, Double, nullable=False) for axis in ("x", "y", "z", "cap", "core", "reach_m")),
        Column("embedded_at", DateTime(timezone=True), nullable=False, server_default=_now),
        Column("cell", Integer, nullable=False),
        Column("archive_id", Integer, nullable=False),
        *([Column("code", BIT(dimension), nullable=False)] if dimension > INLINE_DIMENSIONS else []),
        Column("embedding", HALFVEC(dimension), nullable=False),
        Column("captured_at", DateTime(timezone=True)),
        Column("content_sha256", LargeBinary),
    )
