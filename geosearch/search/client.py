"""Client: a search in three lines of Python.

>>> import geosearch
>>> with geosearch.connect() as gs:
...     ranking = gs.search(text="desert", near=(23.0, 30.0), radius_km=1000)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray

from geosearch.database.archives import get_archive_id
from geosearch.encoders.base import seen_from
from geosearch.errors import DatabaseError, GeosearchError
from geosearch.item import Item, Place
from geosearch.search.compose import LAMBDAS, Composition
from geosearch.search.compose_run import compose
from geosearch.search.composed import ComposedRanking
from geosearch.search.lookup import SearchedSpace, answering, find_image, find_space, stored_vector
from geosearch.search.query import Query, unit_vector
from geosearch.search.ranking import Plan, Ranking, Result, answer_facts
from geosearch.search.statements import SEARCH, values

if TYPE_CHECKING:
    from PIL.Image import Image

    from geosearch.encoders.base import Encoder


def connect(url: str | None = None) -> Client:
    """Open a client of the database at `url`, or of the one that is set, or of the private one.

    Raises DatabaseError when it cannot be reached and SchemaError when it has not been migrated.
    """
    from geosearch.database.connection import connect as database_connect

    return Client(database_connect(url, autocommit=True))


class Client:
    """Searches one database; a context manager that closes its connection. One thread at a time."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self._encoders: dict[str, Encoder] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.conn.close()

    def search(
        self,
        *,
        image: str | Path | Image | None = None,
        text: str | None = None,
        like: str | int | None = None,
        vector: ArrayLike | None = None,
        near: Place | tuple[float, float] | None = None,
        radius_km: float = 2500.0,
        k: int = 10,
        archive: str | None = None,
        space: str | None = None,
        strategy: str = "auto",
        area: str | Mapping[str, Any] | None = None,
        captured_from: str | date | None = None,
        captured_to: str | date | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Ranking:
        """Return the k images most like an image, a text, a catalogued image or a vector.

        near: (latitude, longitude) in degrees; only images that may show something within radius_km of it. In a space
        of a nadir-aware model it is also the nadir of the image that is asked with, which is not known without near.
        area: a GeoJSON polygon instead. captured_from, captured_to: taken from the one until before the other.
        properties: only images whose properties hold these, such as {"camera": "D5"}.
        like: a name, "archive/name" where several archives have that name, or an id; that image is among the answers.
        space: needed when there are several. Raises InputError, UnknownNameError, ModelError or DatabaseError.
        """
        return self.ask(
            Query.of(
                image=image,
                text=text,
                like=like,
                vector=vector,
                near=near,
                radius_km=radius_km,
                k=k,
                archive=archive,
                space=space,
                strategy=strategy,
                area=area,
                captured_from=captured_from,
                captured_to=captured_to,
                properties=properties,
            )
        )

    def ask(self, query: Query) -> Ranking:
        """Return the answers to a query that has been made already."""
        encodes = query.image is not None or query.text is not None
        return self._answer(query, find_space(self.conn, query.space, encodes))

    def compose(
        self,
        *,
        image: str | Path | Image | Sequence[str | Path | Image] | None = None,
        text: str | Sequence[str] | None = None,
        like: str | int | Sequence[str | int] | None = None,
        without: str | Sequence[str] | None = None,
        lam: float | None = None,
        weights: Sequence[float] | None = None,
        population: str = "space",
        method: str = "weicom",
        late: str = "compute",
        **narrowed: Any,
    ) -> ComposedRanking:
        """Return the k images that are best like all images and texts together, and least like what is not wanted.

        image, like, text, without: one or several; without: texts. lam: the weight of all texts, 0 … 1; the default of
        the space's model if not given. weights: instead, a number for each part, in the order image, like, text,
        without. The rest is explained at Composition; narrowed: near, radius_km, k, archive, space, strategy, area,
        captured_from, captured_to and properties, as in `search`. Raises what `search` raises.
        """
        return self.ask_composed(
            Composition.of(
                image=image,
                text=text,
                like=like,
                without=without,
                lam=lam,
                weights=weights,
                population=population,
                method=method,
                late=late,
                **narrowed,
            )
        )

    def ask_composed(self, composition: Composition) -> ComposedRanking:
        """Return the answers to a composition that has been made already."""
        return compose(self.conn, partial(self._encode, near=composition.near), [composition])[0]

    def sweep(self, composition: Composition, lambdas: Sequence[float] = LAMBDAS) -> list[ComposedRanking]:
        """Return the answers for each lambda, in one snapshot; each part is encoded once."""
        return compose(self.conn, partial(self._encode, near=composition.near), composition.swept(lambdas))

    def search_many(self, queries: Iterable[Query]) -> Iterator[Ranking | GeosearchError]:
        """Yield the answers to many queries, in their order; an error where one cannot be answered, and go on.

        A model is loaded once; each query sees the database as it is when its turn comes.
        """
        for query in queries:
            try:
                yield self.ask(query)
            except GeosearchError as error:
                yield error
            except psycopg.Error as error:
                if self.conn.closed:
                    raise
                yield DatabaseError(f"the database answered: {str(error).strip()}")

    def _answer(self, query: Query, space: SearchedSpace) -> Ranking:
        vector = query.vector
        if query.image is not None or query.text is not None:
            if query.archive is not None:
                get_archive_id(self.conn, query.archive)  # before a model is loaded for nothing
            vector = self._encode(space, Item(image=query.image, text=query.text), query.near)
        with answering(self.conn):  # for the plan and the answers
            if query.like is not None:
                vector = stored_vector(self.conn, space, find_image(self.conn, query.like, query.archive))
            assert vector is not None
            space.check_vector(vector)
            return self._ranked(query, space, vector)

    def _encode(self, space: SearchedSpace, item: Item, near: Place | None = None) -> NDArray[np.float32]:
        """Return the vector (d,) of an image or a text, by the very model whose vectors the space holds.

        near: where an image was taken from, for a model that reads nadirs.
        """
        assert space.model is not None
        encoder = self._encoders.get(space.model)
        if encoder is None:
            encoder = self._encoders[space.model] = space.encoder()
        return unit_vector(encoder.encode([seen_from(encoder.info, item, near)])[0])

    def _ranked(self, query: Query, space: SearchedSpace, vector: NDArray[np.float32]) -> Ranking:
        from pgvector import Vector

        rows = self.conn.execute(SEARCH, {**values(query), "space": space.name, "vector": Vector(vector)}).fetchall()
        strategy, estimated, candidates, returned = rows[0][:4]
        plan = Plan(strategy, estimated, candidates, query.k, returned, candidates <= query.k)
        results = [Result(**answer_facts(*row[4:])) for row in rows if row[4] is not None]
        return Ranking(plan, results, query, space.name)
