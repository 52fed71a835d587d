"""Banks as they are published: an npz file with `locs`, `image_embeddings` and `satclip_embeddings`."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.range.bank import Bank

PLACES, VALUES, KEYS = "locs", "image_embeddings", "satclip_embeddings"
# What numpy and zipfile raise over headers and entries that are not as they should be; the last, over a size that lies.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError, SyntaxError,
            tokenize.TokenError, OverflowError, MemoryError)  # fmt: skip


def read_npz(
    path: Path, encoder: str, name: str = "npz", key_model: str | None = None, value_model: str | None = None
) -> Bank:
    """Return the bank of a file in the layout of RANGE's released code; rows are counted from 0.

    `locs` (n, 2): longitude, latitude in degrees, in that order; `image_embeddings` (n, dv): values;
    `satclip_embeddings` (n, dk): keys. encoder: the location encoder that asks it. Nothing is unpickled.
    Raises InputError where the file is no such bank, also where latitudes seem to come first.
    """
    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that is there") from error
    if head != b"PK":
        raise InputError(f"{path}: is no npz file (numpy.savez makes them)")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            there = list(arrays.files)
            missing = [key for key in (PLACES, VALUES, KEYS) if key not in there]
            if missing:
                raise InputError(
                    f"{path}: has no array {' and no array '.join(missing)}; it has {', '.join(there) or 'none'}"
                )
            places, values, keys = (_read(path, arrays, key) for key in (PLACES, VALUES, KEYS))
    except _DAMAGED as error:
        raise InputError(f"{path}: cannot be read as npz ({error}); is it whole?") from error
    if places.dtype.kind not in "fiu":
        raise InputError(f"{path}: {PLACES} are numbers, not {places.dtype}")
    if places.ndim != 2 or places.shape[1] != 2:
        raise InputError(f"{path}: {PLACES} has a longitude and a latitude a row, shape (n, 2), not {places.shape}")
    lon, lat = places.T.astype(np.float64)
    wrong = np.flatnonzero(np.abs(lat) > 90)
    if len(wrong):
        row = int(wrong[0])
        swapped = "; these look like latitude, longitude: swap the columns" if (np.abs(lon) <= 90).all() else ""
        raise InputError(
            f"{path}: row {row} of {PLACES} is longitude {lon[row]}, latitude {lat[row]}, which is not within "
            f"-90 … 90{swapped}. {PLACES} holds longitude first, then latitude"
        )
    try:
        return Bank.of(
            name, encoder, lat, lon, keys, values, key_model=key_model, value_model=value_model, source=path.name
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read(path: Path, arrays: Any, key: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = arrays[key]
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise InputError(
                f"{path}: {key} holds Python objects, which are never loaded, since that runs code of the file. Save "
                f"numbers: np.asarray({key}, dtype=np.float32)"
            ) from error
        raise
    if not isinstance(array, np.ndarray):  # numpy hands out an entry that is no array as its bytes
        raise InputError(f"{path}: {key} is no array of numpy; write the file with numpy.savez")
    return array
