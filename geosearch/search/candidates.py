"""The images that a search may answer with, and the version of each one's vector: what the re-ranker takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray
from psycopg import sql

from geosearch.errors import InputError
from geosearch.item import Place
from geosearch.search.binary_copy import key_rows
from geosearch.search.query import place

_CANDIDATES = sql.SQL("""
    select image_id, version from geosearch.candidates(
        space => %(space)s::text,
        near => case when %(lat)s::float8 is null then null
                     else st_makepoint(%(lon)s::float8, %(lat)s::float8)::geography end,
        radius_m => %(radius_m)s::float8, archive => %(archive)s::text,
        captured_from => %(captured_from)s::timestamptz, captured_to => %(captured_to)s::timestamptz,
        among => %(among)s::bigint[])
""")


@dataclass(frozen=True)
class Candidates:
    """Images of one space: image_ids (n,) int64, ascending, each once, and the versions (n,) int64 of their vectors."""

    image_ids: NDArray[np.int64]
    versions: NDArray[np.int64]

    @classmethod
    def of(cls, image_ids: ArrayLike, versions: ArrayLike) -> Self:
        """Take ids and versions in any order. Raises InputError where an image comes twice or the lengths differ."""
        try:
            ids, numbers = _whole(image_ids), _whole(versions)
        except (TypeError, ValueError) as error:
            raise InputError(f"image ids and versions are whole numbers: {error}") from error
        if ids.ndim != 1 or ids.shape != numbers.shape:
            raise InputError(
                f"image ids and versions have one axis and one length, not {ids.shape} and {numbers.shape}"
            )
        if not (np.diff(ids) > 0).all():
            order = np.argsort(ids)
            ids, numbers = ids[order], numbers[order]
            twice = np.flatnonzero(np.diff(ids) == 0)
            if len(twice):
                raise InputError(f"image {ids[twice[0]]} is among the candidates twice; give each once")
        return cls(ids, numbers)

    def __len__(self) -> int:
        return len(self.image_ids)


def _whole(values: ArrayLike) -> NDArray[np.int64]:
    given = np.asarray(values)
    return given.astype(np.int64, casting="same_kind" if given.size else "unsafe")  # an empty list is of floats


def find_candidates(
    conn: psycopg.Connection[Any],
    space: str,
    *,
    near: Place | tuple[float, float] | None = None,
    radius_km: float = 2500.0,
    archive: str | None = None,
    captured_from: datetime | None = None,
    captured_to: datetime | None = None,
    among: ArrayLike | None = None,
) -> Candidates:
    """Ask the database which images of a space pass the filters of `geosearch.search`.

    near: (latitude, longitude) in degrees. captured_from, captured_to: a half-open span of time. among: only these ids.
    Raises InputError with what the database says of a wrong argument.
    """
    where = None if near is None else place(near)
    arguments = {
        "space": space,
        "lat": where.lat if where else None,
        "lon": where.lon if where else None,
        "radius_m": radius_km * 1000.0,
        "archive": archive,
        "captured_from": captured_from,
        "captured_to": captured_to,
        "among": None if among is None else np.asarray(among, np.int64).tolist(),
    }
    try:
        with conn.transaction():
            return Candidates.of(*key_rows(conn, _CANDIDATES, arguments))
    except (psycopg.errors.UndefinedObject, psycopg.errors.DataError) as error:
        hint = error.diag.message_hint
        raise InputError(f"{error.diag.message_primary}{f'. {hint}' if hint else ''}") from error
