"""What a question names, found in the database: its space, the images that it is like, and their vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray
from psycopg import sql

from geosearch.errors import InputError, UnknownNameError
from geosearch.search.default_space import meant
from geosearch.search.query import unit_vector
from geosearch.search.statements import BY_ID, BY_NAME, DEFAULT_LAMBDA, SPACES

if TYPE_CHECKING:
    from geosearch.encoders.base import Encoder


@dataclass(frozen=True)
class SearchedSpace:
    """What a search needs to know of a space. model: None where its vectors are made elsewhere."""

    name: str
    dimension: int
    active: bool
    model: str | None
    weights_sha256: str | None
    preprocessing: dict[str, Any] | None

    @property
    def table(self) -> sql.Identifier:
        """Return the name of its table."""
        return sql.Identifier("geosearch", f"space_{self.name}")

    def encoder(self, device: str | None = None) -> Encoder:
        """Return the encoder whose vectors it holds, loaded once a process; it must have a model.

        Raises ModelError, and WeightsError where the weights here are not those whose vectors it holds.
        """
        from geosearch.encoders.registry import load

        assert self.model is not None
        return load(self.model, device, weights_sha256=self.weights_sha256, preprocessing=self.preprocessing)

    def check_vector(self, vector: NDArray[np.float32]) -> None:
        """Raise InputError for a vector that is none of this space."""
        if vector.shape != (self.dimension,):
            raise InputError(f"space {self.name} has {self.dimension} dimensions; the vector has {len(vector)}")


class CataloguedImage(NamedTuple):
    """An image of an archive. root: the archive's folder, in which a relative uri is meant."""

    id: int
    archive: str
    name: str
    uri: str | None
    root: str | None

    @property
    def full_name(self) -> str:
        """Return "archive/name"."""
        return f"{self.archive}/{self.name}"


@contextmanager
def answering(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Answer from one snapshot, in which nothing may write; what the database finds wrong becomes an InputError."""
    with conn.transaction():
        conn.execute("set transaction isolation level repeatable read, read only")
        try:
            yield
        except (
            psycopg.errors.UndefinedObject,
            psycopg.errors.DataError,
            psycopg.errors.ObjectNotInPrerequisiteState,
        ) as error:
            # What only the database knows, such as the archives' names: it says so itself, with a hint.
            hint = error.diag.message_hint
            raise InputError(f"{error.diag.message_primary}{f'. {hint}' if hint else ''}") from error


def searched_spaces(conn: psycopg.Connection[Any]) -> list[SearchedSpace]:
    """Return all spaces, by name."""
    return [SearchedSpace(*row) for row in conn.execute(SPACES).fetchall()]


def find_space(conn: psycopg.Connection[Any], name: str | None, encodes: bool) -> SearchedSpace:
    """Return the space that is named, or the only one that can answer. encodes: whether it must have a model."""
    spaces = searched_spaces(conn)
    if name is not None:
        for space in spaces:
            if space.name == name:
                if encodes and space.model is None:
                    raise InputError(
                        f"space {space.name} has no model: it cannot be asked with an image or a text, "
                        "only with a vector or with a catalogued image (like)"
                    )
                return space
        raise UnknownNameError("space", name, [space.name for space in spaces])
    able = meant([space for space in spaces if space.active and (space.model is not None or not encodes)])
    if len(able) == 1:
        return able[0]
    if able:
        raise InputError(f"there are several spaces: {', '.join(space.name for space in able)}; name one of them")
    raise InputError(
        f"there is no active space {'with a model ' if encodes else ''}to search in. Make one and fill it: "
        "`geosearch space create NAME --model MODEL`, then `geosearch embed --space NAME`"
    )


def default_lambda(conn: psycopg.Connection[Any], space: SearchedSpace) -> float:
    """Return the weight of the text that a composed question has in a space if none is given."""
    row = conn.execute(DEFAULT_LAMBDA, [space.name]).fetchone()
    assert row is not None
    return float(row[0])


def find_image(conn: psycopg.Connection[Any], like: str | int, archive: str | None) -> CataloguedImage:
    """Return the image that `like` means: an id, a name, or "archive/name". archive: whose is meant where several are.

    Raises UnknownNameError, and InputError where several have that name.
    """
    if isinstance(like, int):
        row = conn.execute(BY_ID, [like]).fetchone()
        if row is None:
            raise UnknownNameError("image", str(like))
        return CataloguedImage(*row)
    images = [CataloguedImage(*row) for row in conn.execute(BY_NAME, {"like": like}).fetchall()]
    if len(images) > 1 and archive is not None:
        images = [image for image in images if image.archive == archive] or images
    if not images:
        raise UnknownNameError("image", like, remedy="`like` takes a name in an archive, or archive/name, or an id.")
    if len(images) > 1:
        raise InputError(
            f"several images are named {like}: {', '.join(image.full_name for image in images)}; say which"
        )
    return images[0]


def stored_vector(conn: psycopg.Connection[Any], space: SearchedSpace, image: CataloguedImage) -> NDArray[np.float32]:
    """Return the vector (d,) of a catalogued image, of length 1. Raises InputError where it has none."""
    statement = sql.SQL("select embedding::vector from {} where image_id = %s").format(space.table)
    row = conn.execute(statement, [image.id]).fetchone()
    if row is None:
        raise InputError(
            f"image {image.full_name} has no vector in space {space.name}; embed it first: "
            f"geosearch embed --space {space.name}"
        )
    return unit_vector(_numbers(row[0]))


def _numbers(value: Any) -> ArrayLike:
    """Return the numbers of a stored vector, whichever type the driver gives."""
    return value.to_numpy() if hasattr(value, "to_numpy") else value
