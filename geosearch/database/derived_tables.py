"""The tables of schema ``geosearch`` that hold what is computed from others: encoders of places, banks, moments."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from geosearch.database.tables import Base


class LocationWeight(Base):
    """One unit of one layer of a location encoder: what geosearch.encode_place multiplies with."""

    __tablename__ = "location_weight"

    model_id: Mapped[int] = mapped_column(ForeignKey("geosearch.model.id", ondelete="CASCADE"), primary_key=True)
    net: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    layer: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    unit: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    bias: Mapped[float]
    weights: Mapped[Any] = mapped_column(VECTOR())


class Bank(Base):
    """RANGE's places, keys and values; they lie in ``bank_<name>`` and ``bank_<name>_values``."""

    __tablename__ = "bank"
    __table_args__ = (
        CheckConstraint("name ~ '^[a-z][a-z0-9_]{0,40}$' and name !~ '_(stored|values)$'", name="name"),
        CheckConstraint("key_dimension between 1 and 1900", name="key_dimension"),
        CheckConstraint("value_dimension between 1 and 16000", name="value_dimension"),
    )

    id: Mapped[int] = mapped_column(Integer, Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    encoder: Mapped[str]
    key_model: Mapped[str | None]
    value_model: Mapped[str | None]
    key_space_id: Mapped[int | None] = mapped_column(ForeignKey("geosearch.space.id", ondelete="SET NULL"))
    value_space_id: Mapped[int | None] = mapped_column(ForeignKey("geosearch.space.id", ondelete="SET NULL"))
    key_dimension: Mapped[int] = mapped_column(Integer)
    value_dimension: Mapped[int] = mapped_column(Integer)
    keys_normalised: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    values_normalised: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    places: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    source: Mapped[str | None]
    properties: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    built_at: Mapped[datetime | None]
    stored_at: Mapped[datetime | None]
    stored_changes: Mapped[int | None] = mapped_column(BigInteger)
    stored_with: Mapped[dict[str, Any] | None]


class Moments(Base):
    """Count and mean of a space's vectors of unit length; the rows of ``moments_row`` go with it."""

    __tablename__ = "moments"

    space_id: Mapped[int] = mapped_column(ForeignKey("geosearch.space.id", ondelete="CASCADE"), primary_key=True)
    counted: Mapped[int] = mapped_column(BigInteger)
    mean: Mapped[Any] = mapped_column(VECTOR())
    changes: Mapped[int] = mapped_column(BigInteger)
    edition: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    computed_at: Mapped[datetime]


class MomentsRow(Base):
    """One of a space's d dimensions: its mean, its row of the scatter matrix, and a principal axis for queries."""

    __tablename__ = "moments_row"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("geosearch.moments.space_id", ondelete="CASCADE"), primary_key=True
    )
    dimension: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    mean: Mapped[float] = mapped_column(Double)
    scatter: Mapped[list[float]] = mapped_column(ARRAY(Double))


class MomentsAxis(Base):
    """A principal axis of a space's vectors, its length their deviation along it: what queries are multiplied with."""

    __tablename__ = "moments_axis"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("geosearch.moments.space_id", ondelete="CASCADE"), primary_key=True
    )
    axis: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    direction: Mapped[Any] = mapped_column(VECTOR())


# How often a subject changed: rows are only added, so that no two writers wait for each other, and summed when asked.
change = Table(
    "change",
    Base.metadata,
    Column("subject", Text, nullable=False),
    Column("changes", BigInteger, nullable=False),
    Index("change_subject_idx", "subject"),
)
