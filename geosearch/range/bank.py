"""Bank: RANGE's places, keys and values in memory, and the checks that arrays pass before they become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats, unit_vectors

Labels = Sequence[str] | None

MAX_KEY, MAX_VALUE = 1900, 16_000  # numbers of a key and of a value that the database's tables hold


@dataclass(frozen=True)
class Bank:
    """A bank of N places. encoder: the registry's name of the location encoder that asks it.

    lat, lon (N,) float64 degrees; keys (N, dk) float32 of unit length; values (N, dv) float32, as they are, not
    normalised (as the released code of arXiv 2502.19781 has them); image_ids (N,) int64 or None: the catalogued images
    they come from (0: none). key_model, value_model: what made them; source: where from, for people.
    """

    name: str
    encoder: str
    lat: Floats
    lon: Floats
    keys: NDArray[np.float32]
    values: NDArray[np.float32]
    image_ids: NDArray[np.int64] | None = None
    key_model: str | None = None
    value_model: str | None = None
    source: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        name: str,
        encoder: str,
        lat: ArrayLike,
        lon: ArrayLike,
        keys: ArrayLike,
        values: ArrayLike,
        image_ids: ArrayLike | None = None,
        labels: Labels = None,
        **facts: Any,
    ) -> Self:
        """Check arrays, bring keys to unit length, and return the bank. Raises InputError that names the row.

        labels: what errors call the rows, "row 7" where none are given.
        """
        check_arrays(lat, lon, keys, values, image_ids, labels)
        wide = np.asarray(keys, np.float64)
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        return cls(
            name,
            encoder,
            np.asarray(lat, np.float64),
            np.asarray(lon, np.float64),
            np.ascontiguousarray(unit, np.float32),
            np.ascontiguousarray(values, np.float32),
            None if image_ids is None else np.asarray(image_ids, np.int64),
            **facts,
        )

    def __len__(self) -> int:
        return len(self.lat)

    @property
    def dimension(self) -> int:
        """Numbers of an embedding: a value's and a key's."""
        return self.values.shape[1] + self.keys.shape[1]

    def positions(self) -> Floats:
        """Return the places as unit vectors (N, 3) float64."""
        return unit_vectors(self.lat, self.lon)

    def take(self, rows: NDArray[np.int64], properties: Mapping[str, Any] | None = None) -> Self:
        """Return the bank of some of its places, with more properties."""
        return replace(
            self,
            lat=self.lat[rows],
            lon=self.lon[rows],
            keys=self.keys[rows],
            values=self.values[rows],
            image_ids=None if self.image_ids is None else self.image_ids[rows],
            properties={**self.properties, **(properties or {})},
        )


def check_arrays(
    lat: ArrayLike,
    lon: ArrayLike,
    keys: ArrayLike,
    values: ArrayLike,
    image_ids: ArrayLike | None = None,
    labels: Labels = None,
) -> None:
    """Refuse what is no bank; rows are counted from 0, as arrays are, where labels do not call them otherwise.

    lat, lon (N,) degrees; keys (N, dk ≤ 1 900); values (N, dv ≤ 16 000). Raises InputError for lengths that differ, no
    rows, places outside of the Earth's degrees, numbers that are not finite, keys of zeros, and a row that is there
    twice (the same place and the same key).
    """
    lat, lon, keys, values = (_floats(what, a) for what, a in _named(lat, lon, keys, values))
    for what, array, axes in (("latitudes", lat, 1), ("longitudes", lon, 1), ("keys", keys, 2), ("values", values, 2)):
        if array.ndim != axes:
            raise InputError(f"{what} have {axes} {'axis' if axes == 1 else 'axes'}, not the shape {array.shape}")
        if len(array) != len(lat):
            raise InputError(f"{len(lat)} latitudes, but {len(array)} {what}: each row is one place, with all of them")
    if not len(lat):
        raise InputError("a bank needs at least one place; none was given")
    if image_ids is not None and np.shape(image_ids) != (len(lat),):
        raise InputError(f"{len(lat)} places, but image ids of shape {np.shape(image_ids)}")
    for what, array, most in (("keys", keys, MAX_KEY), ("values", values, MAX_VALUE)):
        if not 1 <= array.shape[1] <= most:
            raise InputError(f"{what} have 1 to {most} numbers, not {array.shape[1]}")
    check_degrees(lat, lon, labels)
    for what, array in (("key", keys), ("value", values)):
        # As the float4 that is kept: a double that is finite there need not be here.
        with np.errstate(over="ignore"):
            wrong = np.flatnonzero(~np.isfinite(np.asarray(array, np.float32)).all(1))
        if len(wrong):
            raise InputError(
                f"{_called(labels, wrong[0])}: its {what} holds NaN or a number too large; leave the row out"
            )
    lengths = np.linalg.norm(np.asarray(keys, np.float64), axis=1)
    wrong = np.flatnonzero(lengths < 1e-30)
    if len(wrong):
        raise InputError(f"{_called(labels, wrong[0])}: its key is zero and has no direction; leave the row out")
    _refuse_duplicates(lat, lon, keys, labels)


def _named(*arrays: ArrayLike) -> zip[tuple[str, ArrayLike]]:
    return zip(("latitudes", "longitudes", "keys", "values"), arrays, strict=True)


def _floats(what: str, array: ArrayLike) -> NDArray[Any]:
    given = np.asarray(array)
    if given.dtype.kind not in "fiu":
        raise InputError(f"{what} are numbers, not {given.dtype}")
    return given if given.dtype in (np.float32, np.float64) else given.astype(np.float64)


def _refuse_duplicates(lat: NDArray[Any], lon: NDArray[Any], keys: NDArray[Any], labels: Labels) -> None:
    """Raise InputError with the rows of the first place that comes twice with the same key."""
    order = np.lexsort((lon, lat))
    same = (np.diff(lat[order]) == 0) & (np.diff(lon[order]) == 0)
    if not same.any():
        return
    # Only rows that share their place can be twice there: their keys are compared within each run of one place.
    starts = np.flatnonzero(np.r_[True, ~same])
    for start, end in zip(starts, np.r_[starts[1:], len(order)], strict=True):
        if end - start == 1:
            continue
        seen: dict[bytes, int] = {}
        for row in np.sort(order[start:end]).tolist():
            first = seen.setdefault(np.ascontiguousarray(keys[row], np.float32).tobytes(), row)
            if first != row:
                raise InputError(
                    f"{_called(labels, first)} and {_called(labels, row)} are the same place "
                    f"({lat[row]}, {lon[row]}) with the same key; leave one of them out"
                )


def check_degrees(lat: NDArray[Any], lon: NDArray[Any], labels: Labels = None) -> None:
    """Raise InputError for the first of n places beyond the Earth's degrees, by its row from 0 or its label."""
    for what, array, limit in (("latitude", lat, 90), ("longitude", lon, 180)):
        wrong = np.flatnonzero(~(np.abs(array) <= limit))  # also true for NaN
        if len(wrong):
            raise InputError(f"{_called(labels, wrong[0])}: {what} {array[wrong[0]]} is not within -{limit} … {limit}")


def _called(labels: Labels, row: int) -> str:
    return f"row {row}" if labels is None else labels[row]
