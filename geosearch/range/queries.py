"""What a bank is asked with: places that are checked, and their location embeddings at unit length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from geosearch.errors import InputError, ModelError
from geosearch.geometry import Floats
from geosearch.range.bank import Bank, check_degrees

if TYPE_CHECKING:
    from geosearch.encoders.places import PlaceEncoder


def unit_queries(
    bank: Bank, lat: Floats, lon: Floats, queries: ArrayLike | None, encoder: PlaceEncoder | None = None
) -> Floats:
    """Return unit vectors (n, dk) float64 for places in degrees (n,): of `queries`, or of the encoder (the bank's).

    Raises InputError where places or queries are none, ModelError where the encoder does not fit the keys.
    """
    check_places(lat, lon)
    if queries is None:
        encoder = encoder or load_encoder(bank)
        wide = np.asarray(encoder.encode_places(lat, lon), np.float64)
    else:
        wide = np.asarray(queries, np.float64)
    if wide.shape != (len(lat), bank.keys.shape[1]):
        raise InputError(
            f"{len(lat)} places need queries of shape ({len(lat)}, {bank.keys.shape[1]}), not {wide.shape}"
        )
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(wrong):
        raise InputError(f"row {wrong[0]}: its query is zero or not finite")
    return wide / lengths


def check_places(lat: Floats, lon: Floats) -> None:
    """Raise InputError for the first place that is none, by its row from 0. lat, lon: (n,) degrees."""
    if lat.ndim != 1 or lat.shape != lon.shape:
        raise InputError(f"places are two arrays of one length, lat and lon, not {lat.shape} and {lon.shape}")
    check_degrees(lat, lon)


def load_encoder(bank: Bank) -> PlaceEncoder:
    """Return the bank's location encoder. Raises ModelError where it is none, or makes vectors of another size."""
    return place_encoder(bank.encoder, bank.keys.shape[1])


def place_encoder(name: str, key_dimension: int | None = None) -> PlaceEncoder:
    """Return a location encoder by its registry name; key_dimension: that it must make.

    Raises ModelError, UnknownNameError, WeightsError.
    """
    from geosearch.encoders import registry

    encoder: Any = registry.load(name)
    info = encoder.info
    if not info.reads_alone("place"):
        raise ModelError(
            f"{name} reads {', '.join(sorted(info.reads))}, not places alone; a bank is asked by a location encoder"
        )
    if key_dimension is not None and info.dimension != key_dimension:
        raise ModelError(
            f"{name} makes vectors of {info.dimension} numbers, the keys have {key_dimension}: a bank is asked by the "
            "location encoder that was trained against what made its keys"
        )
    found: PlaceEncoder = encoder
    return found
