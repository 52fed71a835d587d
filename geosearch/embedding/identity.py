"""Which model a space belongs to: recorded once with all that makes it, and checked whenever it is loaded."""

from __future__ import annotations

import psycopg
from psycopg.types.json import Jsonb

from geosearch.database.spaces import Space
from geosearch.encoders.base import Encoder, ModelInfo
from geosearch.errors import InputError, ModelError

_FACTS = "select id, weights_sha256, preprocessing from geosearch.model where name = %s"


def record_model(conn: psycopg.Connection, info: ModelInfo) -> str:
    """Record a model and return the name of its row.

    It is the model's name; where that names other weights or another preprocessing already, the name and the first
    digits of the weights' hash, which load exactly these weights. Nothing that a space uses is changed.
    """
    pinned = f"{info.name.partition('@')[0]}@{info.weights_sha256[:12]}"
    for name in (info.name, pinned):
        with conn.transaction():
            conn.execute(
                "insert into geosearch.model (name, family, revision, weights_sha256, dimension, preprocessing)"
                " values (%s, %s, %s, %s, %s, %s) on conflict (name) do nothing",
                [name, info.family, info.revision, info.weights_sha256, info.dimension, Jsonb(info.preprocessing)],
            )
            row = conn.execute(_FACTS, [name]).fetchone()
        assert row is not None
        if info.same_as(row[1], row[2]):
            return name
    raise ModelError(
        f"{info.name}: these weights are recorded with another preprocessing, by an older geosearch or a changed "
        "configuration; drop the spaces made with them (`geosearch space list`) and their row in geosearch.model"
    )


def encoder_of(conn: psycopg.Connection, space: Space, device: str | None = None) -> Encoder:
    """Return the encoder of a space, with the weights and preprocessing that the space was made with.

    Raises InputError for a space without a model, ModelError when the model here is another, WeightsError.
    """
    if space.model is None:
        raise InputError(
            f"space {space.name} has no model: its vectors are made elsewhere; import them "
            f"(`geosearch embed import {space.name} FILE --archive A`) or search by vector or by a catalogued image"
        )
    row = conn.execute(_FACTS, [space.model]).fetchone()
    assert row is not None
    from geosearch.encoders import registry

    encoder = registry.load(space.model, device, weights_sha256=row[1], preprocessing=row[2])
    if encoder.info.dimension != space.dimension:
        raise ModelError(
            f"space {space.name} has {space.dimension} dimensions, {space.model} makes {encoder.info.dimension}"
        )
    return encoder
