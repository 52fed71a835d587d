"""What every encoder of places is: coordinates in degrees → vectors, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.encoders.base import Encoder, ModelInfo, Vectors, check_readable
from geosearch.encoders.coordinates import degrees
from geosearch.encoders.network import PlaceNetwork
from geosearch.errors import InputError, ModelError
from geosearch.item import Item


@runtime_checkable
class PlaceEncoder(Encoder, Protocol):
    """Places → vectors; `info.reads` is {"place"}."""

    def encode_places(self, lat: ArrayLike, lon: ArrayLike, normalise: bool = True) -> NDArray[np.float64]:
        """Return vectors (n, dimension) of n places in degrees; of unit length unless `normalise` is False."""
        ...

    def network(self) -> PlaceNetwork:
        """Return the weights, for SQL. Raises ModelError for an encoder that has none."""
        ...


class PlaceEncoderBase:
    """What encoders of places share; one writes `_embed` for a chunk of checked coordinates."""

    chunk = 2048  # places at a time, so that a million of them need no more memory than a few

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def encode_places(self, lat: ArrayLike, lon: ArrayLike, normalise: bool = True) -> NDArray[np.float64]:
        """Return vectors (n, dimension) of n places in degrees; of unit length unless `normalise` is False.

        Raises InputError for places that are not on Earth, ModelError for vectors that are zero or not finite.
        """
        lats, lons = degrees(lat, lon)
        out = np.empty((len(lats), self.info.dimension))
        for start in range(0, len(lats), self.chunk):
            rows = slice(start, start + self.chunk)
            out[rows] = self._embed(lats[rows], lons[rows])
        lengths = np.linalg.norm(out, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | ((lengths[:, 0] == 0) & normalise))
        if len(bad):
            row = int(bad[0])
            kind = "zero, which has no direction" if lengths[row, 0] == 0 else "not finite; are its weights whole?"
            raise ModelError(f"{self.info.name}: the vector of place {row}, {lats[row]}, {lons[row]}, is {kind}")
        return np.divide(out, lengths, out=out) if normalise else out

    def network(self) -> PlaceNetwork:
        """Return the weights, for SQL; this encoder has none."""
        raise ModelError(
            f"{self.info.name} has no weights, so nothing to install; take mini-location, SatCLIP, GeoCLIP"
        )

    def prepare(self, item: Item) -> tuple[float, float]:
        """Return (lat, lon) of an item, ready for `encode_prepared`. Raises ModelError, InputError."""
        check_readable(self.info, item)
        if item.place is None:
            raise InputError(f"{self.info.name} reads places; the item has none")
        return item.place.lat, item.place.lon

    def encode_prepared(self, prepared: Sequence[tuple[float, float]]) -> Vectors:
        """Return unit vectors (n, dimension), float32, in the order given."""
        places = np.asarray(prepared, np.float64).reshape(-1, 2)
        return self.encode_places(places[:, 0], places[:, 1]).astype(np.float32)

    def encode(self, items: Sequence[Item]) -> Vectors:
        """Return unit vectors (n, dimension) of items that have a place."""
        return self.encode_prepared([self.prepare(item) for item in items])

    def _embed(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError
