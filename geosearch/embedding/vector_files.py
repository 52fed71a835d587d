"""Files of names and vectors, read in blocks: NumPy's npz (never unpickled) and Parquet (GeoParquet too)."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError

BLOCK = 4096  # rows read at a time
# RuntimeError: an encrypted file, or one packed in a way that Python does not know.
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, RuntimeError)
VECTOR_NAMES = ("vector", "embedding", "vectors", "embeddings")


class Block(NamedTuple):
    """Rows of a file; first: the number of the first one, from 1. vectors (n, d); problems: row of the block → why."""

    first: int
    names: list[str | None]
    vectors: NDArray[np.float64]
    problems: dict[int, str]


class VectorFile(NamedTuple):
    """An opened file: how many rows, and its blocks, read as they are asked for."""

    rows: int
    blocks: Iterator[Block]


def open_vectors(path: Path, dimension: int, name: str | None = None, vector: str | None = None) -> VectorFile:
    """Open a file of vectors of that dimension, recognised by its first bytes.

    name, vector: columns of a Parquet file (`name` and the only list of floats by default), arrays of an npz (`names`
    and `vectors`). Raises InputError when the file as a whole cannot be used.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that is there") from error
    if magic == b"PK\x03\x04":
        return _open_npz(path, dimension, name or "names", vector or "vectors")
    if magic == b"PAR1":
        return _open_parquet(path, dimension, name or "name", vector)
    raise InputError(f"{path}: is neither an npz file (numpy.savez) nor Parquet; convert it to one of them")


def _open_npz(path: Path, dimension: int, names_key: str, vectors_key: str) -> VectorFile:
    try:
        archive = zipfile.ZipFile(path)
        there = [entry.removesuffix(".npy") for entry in archive.namelist()]
        for key in (names_key, vectors_key):
            if key not in there:
                raise InputError(f"{path}: has no array {key!r}; it has {', '.join(there) or 'none'}")
        names, vectors = _Array(archive, path, names_key), _Array(archive, path, vectors_key)
    except _DAMAGED as error:
        raise InputError(f"{path}: cannot be read as npz ({error}); is it whole?") from error
    if names.dtype.kind not in "US" or len(names.shape) != 1:
        raise InputError(
            f"{path}: {names_key!r} must be a one-dimensional array of text (np.array(names, dtype=str)), not "
            f"{names.dtype} of shape {names.shape}; pickled objects are never loaded"
        )
    if vectors.dtype.kind != "f" or vectors.dtype.itemsize > 8 or len(vectors.shape) != 2:
        raise InputError(
            f"{path}: {vectors_key!r} must be floats of 16, 32 or 64 bits of shape (n, {dimension}), not "
            f"{vectors.dtype} of shape {vectors.shape}"
        )
    if vectors.shape[1] != dimension:
        raise InputError(f"{path}: its vectors have {vectors.shape[1]} numbers, the space has {dimension} dimensions")
    if names.shape[0] != vectors.shape[0]:
        raise InputError(f"{path}: {names.shape[0]} names for {vectors.shape[0]} vectors; write them together")
    return VectorFile(names.shape[0], _npz_blocks(path, names, vectors))


def _npz_blocks(path: Path, names: _Array, vectors: _Array) -> Iterator[Block]:
    first = 1
    while first <= names.shape[0]:
        count = min(BLOCK, names.shape[0] - first + 1)
        try:
            texts, block = names.read(count), vectors.read(count)
        except _DAMAGED as error:
            raise InputError(f"{path}: breaks off at row {first} ({error}); rows before it are imported") from error
        problems: dict[int, str] = {}
        decoded: list[str | None] = []
        for i, text in enumerate(texts.tolist()):
            try:
                decoded.append(text.decode() if isinstance(text, bytes) else text)
            except UnicodeDecodeError:
                decoded.append(text.decode("utf-8", "replace"))
                problems[i] = "the name is not UTF-8"
        yield Block(first, decoded, block.astype(np.float64), problems)
        first += count


class _Array:
    """An array in an npz file, read some rows at a time."""

    def __init__(self, archive: zipfile.ZipFile, path: Path, key: str) -> None:
        info = archive.getinfo(f"{key}.npy")
        self.file: IO[bytes] = archive.open(info)
        version = np.lib.format.read_magic(self.file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, fortran, self.dtype = read(self.file)
        if self.dtype.hasobject:
            return  # refused by the caller, with its reason
        size = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        if info.file_size - self.file.tell() != size:
            raise ValueError(f"array {key!r} is not as long as it says")
        if fortran and len(self.shape) > 1:
            raise InputError(f"{path}: {key!r} is stored by columns; save np.ascontiguousarray({key})")

    def read(self, rows: int) -> NDArray[Any]:
        shape = (rows, *self.shape[1:])
        size = int(np.prod(shape)) * self.dtype.itemsize
        data = self.file.read(size)
        if len(data) != size:
            raise EOFError("the data end early")
        return np.frombuffer(data, self.dtype).reshape(shape)


def _open_parquet(path: Path, dimension: int, name: str, vector: str | None) -> VectorFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({error}); is it whole?") from error
    if name not in schema.names:
        raise InputError(f"{path}: has no column {name!r} for the names; it has {', '.join(schema.names)}")
    lists = [field.name for field in schema if _is_vector(field.type)]
    if vector is None:
        named = [column for column in VECTOR_NAMES if column in lists]
        if not named and len(lists) != 1:
            what = f"several lists of floats ({', '.join(lists)}): name one" if lists else "no list of floats"
            raise InputError(f"{path}: has {what}; its columns are {', '.join(schema.names)}")
        vector = (named or lists)[0]
    elif vector not in lists:
        what = f"is {schema.field(vector).type}" if vector in schema.names else "is not there"
        raise InputError(f"{path}: column {vector!r} {what}; a list of floats is needed: {', '.join(lists) or 'none'}")
    size = getattr(schema.field(vector).type, "list_size", dimension)
    if size != dimension:
        raise InputError(f"{path}: its vectors have {size} numbers, the space has {dimension} dimensions")
    return VectorFile(file.metadata.num_rows, _parquet_blocks(path, file, dimension, name, vector))


def _is_vector(kind: Any) -> bool:
    import pyarrow.types as types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _parquet_blocks(path: Path, file: Any, dimension: int, name: str, vector: str) -> Iterator[Block]:
    import pyarrow as pa
    import pyarrow.compute as pc

    first = 1
    batches = file.iter_batches(batch_size=BLOCK, columns=list(dict.fromkeys([name, vector])))
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            names = batch.column(name).cast(pa.string()).to_pylist()
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read at row {first} ({error}); rows before it are imported") from error
        column = batch.column(vector)
        lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
        vectors = np.full((len(batch), dimension), np.nan)
        right = lengths == dimension
        if right.any():
            values = column.filter(pa.array(right)).flatten().cast(pa.float32() if _half(column) else pa.float64())
            vectors[right] = values.to_numpy(zero_copy_only=False).reshape(-1, dimension)
        problems = {
            int(i): "the row has no vector"
            if lengths[i] < 0
            else f"the vector has {lengths[i]} numbers, not {dimension}"
            for i in np.flatnonzero(~right)
        }
        yield Block(first, names, vectors, problems)
        first += len(batch)


def _half(column: Any) -> bool:
    # Arrow casts 16 bits to 32 but not to 64.
    return str(column.type.value_type) == "halffloat"
