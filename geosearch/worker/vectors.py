"""Question → the vectors to search with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.encoders.base import seen_from
from geosearch.item import Item
from geosearch.search.lookup import SearchedSpace, default_lambda
from geosearch.search.query import unit_vector
from geosearch.settings import settings
from geosearch.worker.claims import Question
from geosearch.worker.pictures import Decoder


@dataclass(frozen=True)
class Asked:
    """What a question asks with: vectors (d,) of unit length, float32, of its picture and its text; None: not asked.

    weight: λ, the weight of the text, where the question has a text and a picture. model: what made the vectors; None
    where the only one is a stored one.
    """

    image: NDArray[np.float32] | None
    text: NDArray[np.float32] | None
    weight: float | None
    model: str | None

    @property
    def vectors(self) -> list[NDArray[np.float32]]:
        """One vector, or those of picture and text, in this order."""
        return [vector for vector in (self.image, self.text) if vector is not None]


def vectors_of(
    conn: psycopg.Connection, question: Question, space: SearchedSpace, decoder: Decoder, device: str | None = None
) -> Asked:
    """Return the vectors that a question asks with; none is made of a text or a picture that has no weight.

    Raises InputError, ModelError, WeightsError; psycopg's errors for an image without a vector.
    """
    weight = None
    if question.text is not None and _has_picture(question):
        weight = default_lambda(conn, space) if question.weight is None else question.weight
    image = text = None
    if _has_picture(question) and weight != 1:
        image = _picture(conn, question, space, decoder, device)
    if question.text is not None and weight != 0:
        text = unit_vector(space.encoder(device).encode([Item(text=question.text)])[0])
    return Asked(image, text, weight, space.model if text is not None or question.like_id is None else None)


def _picture(
    conn: psycopg.Connection, question: Question, space: SearchedSpace, decoder: Decoder, device: str | None
) -> NDArray[np.float32]:
    if question.like_id is not None:
        row = conn.execute("select geosearch.embedding_of(%s, %s)", [space.name, question.like_id]).fetchone()
        assert row is not None
        stored: Any = row[0]
        vector = stored.to_numpy() if hasattr(stored, "to_numpy") else stored
        return unit_vector(vector)
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
    return unit_vector(encoder.encode([seen_from(encoder.info, Item(image=picture), question.place)])[0])


def _has_picture(question: Question) -> bool:
    return question.image is not None or question.image_uri is not None or question.like_id is not None


def encodes(question: Question) -> bool:
    """Whether a model is needed: not for a catalogued image alone, nor where the text has no weight beside one."""
    if question.like_id is None:
        return True
    return question.text is not None and question.weight != 0
