"""Client: a search in three lines of Python.

>>> import geosearch
>>> with geosearch.connect() as gs:
...     ranking = gs.search(text="desert", near=(23.0, 30.0), radius_km=1000)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray
from psycopg import sql

from geosearch.database.archives import get_archive_id
from geosearch.errors import DatabaseError, GeosearchError, InputError, UnknownNameError
from geosearch.item import Item, Place
from geosearch.search.default_space import meant
from geosearch.search.query import Query, ground, unit_vector
from geosearch.search.ranking import Plan, Ranking, Result
from geosearch.search.shape import middle
from geosearch.search.statements import BY_ID, BY_NAME, SEARCH, SPACES

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

        near: (latitude, longitude) in degrees; only images that may show something within radius_km of it. area: a
        GeoJSON polygon instead. captured_from, captured_to: only images taken from the one until before the other.
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
        return self._answer(query, self._space(query))

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

    def _answer(self, query: Query, space: _Space) -> Ranking:
        vector = query.vector
        if query.image is not None or query.text is not None:
            if query.archive is not None:
                get_archive_id(self.conn, query.archive)  # before a model is loaded for nothing
            vector = self._encode(space, query)
        with self.conn.transaction():
            # One snapshot for the plan and the answers; nothing here may write.
            self.conn.execute("set transaction isolation level repeatable read, read only")
            if query.like is not None:
                vector = self._stored_vector(space, query)
            assert vector is not None
            if vector.shape != (space.dimension,):
                raise InputError(f"space {space.name} has {space.dimension} dimensions; the vector has {len(vector)}")
            try:
                return self._ranked(query, space, vector)
            except (
                psycopg.errors.UndefinedObject,
                psycopg.errors.DataError,
                psycopg.errors.ObjectNotInPrerequisiteState,
            ) as error:
                # What only the database knows, such as the archives' names: it says so itself, with a hint.
                hint = error.diag.message_hint
                raise InputError(f"{error.diag.message_primary}{f'. {hint}' if hint else ''}") from error

    def _space(self, query: Query) -> _Space:
        """Return the space that was named, or the only one that can answer."""
        encodes = query.image is not None or query.text is not None
        rows = self.conn.execute(SPACES).fetchall()
        spaces = [_Space(*row) for row in rows]
        if query.space is not None:
            for space in spaces:
                if space.name == query.space:
                    if encodes and space.model is None:
                        raise InputError(
                            f"space {space.name} has no model: it cannot be asked with an image or a text, "
                            "only with a vector or with a catalogued image (like)"
                        )
                    return space
            raise UnknownNameError("space", query.space, [space.name for space in spaces])
        able = [space for space in spaces if space.active and (space.model is not None or not encodes)]
        able = meant(able)
        if len(able) == 1:
            return able[0]
        if able:
            raise InputError(f"there are several spaces: {', '.join(space.name for space in able)}; name one of them")
        raise InputError(
            "there is no space to search in. Make one and fill it: "
            "`geosearch space create NAME --model MODEL`, then `geosearch embed --space NAME`"
        )

    def _encode(self, space: _Space, query: Query) -> NDArray[np.float32]:
        """Return the vector (d,) of the query's image or text, by the very model whose vectors the space holds."""
        from geosearch.encoders.registry import load

        assert space.model is not None
        encoder = self._encoders.get(space.model)
        if encoder is None:
            # Refused when the weights here are not those whose vectors the space holds.
            encoder = load(space.model, weights_sha256=space.weights_sha256, preprocessing=space.preprocessing)
            self._encoders[space.model] = encoder
        vector = encoder.encode([Item(image=query.image, text=query.text)])[0]
        return unit_vector(vector)

    def _stored_vector(self, space: _Space, query: Query) -> NDArray[np.float32]:
        """Return the vector (d,) of a catalogued image."""
        image_id, name = self._image(query)
        statement = sql.SQL("select embedding::vector from {} where image_id = %s").format(space.table)
        row = self.conn.execute(statement, [image_id]).fetchone()
        if row is None:
            raise InputError(
                f"image {name} has no vector in space {space.name}; embed it first: "
                f"geosearch embed --space {space.name}"
            )
        return unit_vector(_numbers(row[0]))

    def _image(self, query: Query) -> tuple[int, str]:
        """Return (id, "archive/name") of the image that `like` means."""
        if isinstance(query.like, int):
            row = self.conn.execute(BY_ID, [query.like]).fetchone()
            if row is None:
                raise UnknownNameError("image", str(query.like))
            return int(row[0]), str(row[1])
        rows = self.conn.execute(BY_NAME, {"like": query.like}).fetchall()
        if len(rows) > 1 and query.archive is not None:
            rows = [row for row in rows if row[2] == query.archive] or rows
        if not rows:
            raise UnknownNameError(
                "image", str(query.like), remedy="`like` takes a name in an archive, or archive/name, or an id."
            )
        if len(rows) > 1:
            raise InputError(f"several images are named {query.like}: {', '.join(row[1] for row in rows)}; say which")
        return int(rows[0][0]), str(rows[0][1])

    def _ranked(self, query: Query, space: _Space, vector: NDArray[np.float32]) -> Ranking:
        from pgvector import Vector

        arguments = {
            "space": space.name,
            "vector": Vector(vector),
            "area": None if query.area is None else json.dumps(ground(query.area)),
            "lat": query.near.lat if query.near else None,
            "lon": query.near.lon if query.near else None,
            "radius_m": query.radius_km * 1000.0 if query.area is None else 0.0,
            "k": query.k,
            "archive": query.archive,
            "strategy": query.strategy,
            "captured_from": query.captured_from,
            "captured_to": query.captured_to,
            "properties": None if query.properties is None else json.dumps(query.properties),
        }
        rows = self.conn.execute(SEARCH, arguments).fetchall()
        strategy, estimated, candidates, returned = rows[0][:4]
        plan = Plan(strategy, estimated, candidates, query.k, returned, candidates <= query.k)
        results = [_result(*row[4:]) for row in rows if row[4] is not None]
        return Ranking(plan, results, query, space.name)


@dataclass(frozen=True)
class _Space:
    """What a search needs to know of a space; its vectors are not counted for that."""

    name: str
    dimension: int
    active: bool
    model: str | None
    weights_sha256: str | None
    preprocessing: dict[str, Any] | None

    @property
    def table(self) -> sql.Identifier:
        return sql.Identifier("geosearch", f"space_{self.name}")


def _result(
    rank: int,
    image_id: int,
    name: str,
    archive: str,
    similarity: float,
    distance_m: float | None,
    uri: str | None,
    root: str | None,
    geojson: str | None,
) -> Result:
    shape = json.loads(geojson) if geojson else None
    # Not st_centroid: on geography it errs by a tenth of a degree where a footprint has several pieces (PostGIS 3.3).
    lat, lon = (middle(shape) if shape else None) or (None, None)
    return Result(rank, image_id, name, archive, similarity, distance_m, lat, lon, uri, shape, root)


def _numbers(value: Any) -> ArrayLike:
    """Return the numbers of a stored vector, whichever type the driver gives."""
    return value.to_numpy() if hasattr(value, "to_numpy") else value
