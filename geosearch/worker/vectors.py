"""Question → the space to search in, and the vector to search with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.rows import class_row

from geosearch.encoders.base import Encoder
from geosearch.errors import InputError, UnknownNameError
from geosearch.item import Item
from geosearch.search.default_space import meant
from geosearch.search.query import unit_vector
from geosearch.settings import settings
from geosearch.worker.claims import Question
from geosearch.worker.pictures import Decoder

_SPACES = """
    select s.name, s.dimension, s.active, m.name as model, m.weights_sha256, m.preprocessing
    from geosearch.space s left join geosearch.model m on m.id = s.model_id where s.embeds = 'image' order by s.name
"""


@dataclass(frozen=True)
class Searched:
    """What is known of a space. model: None where its vectors are made elsewhere."""

    name: str
    dimension: int
    active: bool
    model: str | None
    weights_sha256: str | None
    preprocessing: dict[str, Any] | None

    def encoder(self, device: str | None) -> Encoder:
        """Return the encoder whose vectors the space holds, loaded once a process. Raises ModelError, WeightsError."""
        from geosearch.encoders.registry import load

        assert self.model is not None
        return load(self.model, device, weights_sha256=self.weights_sha256, preprocessing=self.preprocessing)


def spaces(conn: psycopg.Connection) -> list[Searched]:
    """Return all spaces, by name."""
    return conn.cursor(row_factory=class_row(Searched)).execute(_SPACES).fetchall()


def choose_space(conn: psycopg.Connection, question: Question) -> Searched:
    """Return the space that a question names, or the only active one that can answer it. Raises InputError."""
    found = spaces(conn)
    encodes = _encodes(question)
    if question.space is not None:
        named = {space.name: space for space in found}
        if question.space not in named:
            raise UnknownNameError("space", question.space, list(named))
        if encodes and named[question.space].model is None:
            raise InputError(
                f"space {question.space} has no model: it can be asked with a catalogued image (like), not with a "
                "text or a picture"
            )
        return named[question.space]
    able = [space for space in found if space.active and (space.model is not None or not encodes)]
    able = meant(able)
    if len(able) == 1:
        return able[0]
    if able:
        raise InputError(f"there are several spaces: {', '.join(space.name for space in able)}; name one of them")
    raise InputError("there is no active space with a model; make and fill one: `geosearch space create`")


def vector_of(
    conn: psycopg.Connection, question: Question, space: Searched, decoder: Decoder, device: str | None = None
) -> tuple[NDArray[np.float32], str | None]:
    """Return the vector (d,) that a question asks with, and the model that made it, None for a stored one.

    Text and picture together are (1 - λ)·f(picture) + λ·g(text) of unit vectors, at unit length. Its cosine with an
    image is (1 - λ)·cos(picture) + λ·cos(text) divided by a constant, so it orders images as that weighted mean does.
    The two kinds of cosine differ in mean and spread; bringing them to one scale is WeiCom's matter and will come here.
    Raises InputError, ModelError, WeightsError; psycopg's errors for an image without a vector.
    """
    weight = question.weight if question.text is not None else 0.0
    if question.text is not None and not _has_picture(question):
        weight = 1.0
    parts = []
    if weight < 1:
        parts.append((1 - weight) * _picture(conn, question, space, decoder, device))
    if weight > 0:
        parts.append(weight * _unit(space.encoder(device).encode([Item(text=question.text)])[0]))
    total = np.sum(parts, axis=0)
    if np.linalg.norm(total) < 1e-6:
        raise InputError("text and picture cancel each other out; choose another lambda")
    model = space.model if weight > 0 or question.like_id is None else None
    return total.astype(np.float32) if len(parts) == 1 else unit_vector(total), model


def _picture(
    conn: psycopg.Connection, question: Question, space: Searched, decoder: Decoder, device: str | None
) -> NDArray[np.float64]:
    if question.like_id is not None:
        row = conn.execute("select geosearch.embedding_of(%s, %s)", [space.name, question.like_id]).fetchone()
        assert row is not None
        stored: Any = row[0]
        vector = stored.to_numpy() if hasattr(stored, "to_numpy") else stored
        return _unit(vector)
    encoder = space.encoder(device)  # first: a model that is not here spares the decoding
    archives = conn.execute("select name, root from geosearch.archive").fetchall()
    hosts = [host for host in settings().image_hosts.split(",") if host.strip()]
    picture = decoder.decode(
        question.image,
        question.image_uri,
        settings().max_image_pixels,
        roots=[root for _, root in archives if root],
        base=next((root for name, root in archives if name == question.archive), None),
        hosts=hosts,
        max_bytes=settings().image_bytes,
    )
    return _unit(encoder.encode([Item(image=picture)])[0])


def _unit(vector: Any) -> NDArray[np.float64]:
    return unit_vector(vector).astype(np.float64)


def _has_picture(question: Question) -> bool:
    return question.image is not None or question.image_uri is not None or question.like_id is not None


def _encodes(question: Question) -> bool:
    """Whether a model is needed: not for a catalogued image alone, nor where the text has no weight beside one."""
    if question.like_id is None:
        return True
    return question.text is not None and question.weight > 0
