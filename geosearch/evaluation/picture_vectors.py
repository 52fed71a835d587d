"""Vectors of the pictures of a folder, kept in a file while they are made: an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.encoders.base import Encoder, Vectors
from geosearch.errors import InputError, ModelError
from geosearch.item import Item

Progress = Callable[[int, int], None]

SAVED_EVERY_S = 60.0  # of encoding: what an interruption costs at most
# What numpy and zipfile raise over a file that is cut, damaged or something else.
DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, KeyError, RuntimeError, SyntaxError,
            tokenize.TokenError, MemoryError)  # fmt: skip


def encode_pictures(
    encoder: Encoder, folder: Path, names: Sequence[str], cache: Path | None = None, progress: Progress | None = None
) -> Vectors:
    """Return vectors (n, d) of the pictures names (n,), paths below the folder.

    cache: a folder; in it a file of this model and this folder keeps the vectors with size and time of each picture's
    file, and only pictures that are new or changed are encoded. progress: called with (done, of). Raises InputError for
    a picture that cannot be read (what was encoded before it is kept), ModelError for a model that reads no images.
    """
    if "image" not in encoder.info.reads:
        raise ModelError(f"{encoder.info.name} does not read images; name a model that does (`geosearch model list`)")
    stamps = np.array([_stamp(folder / name) for name in names], np.int64).reshape(-1, 2)
    vectors = np.zeros((len(names), encoder.info.dimension), np.float32)
    done = np.zeros(len(names), bool)
    file = None if cache is None else cache / cache_name(encoder, folder)
    if file is not None:
        _make_folder(file)
        _recall(file, names, stamps, vectors, done)

    def keep() -> None:
        if file is not None:
            _save(file, np.asarray(names)[done], stamps[done], vectors[done])

    todo = np.flatnonzero(~done)
    if progress:
        progress(int(done.sum()), len(names))
    saved, unsaved = time.monotonic(), False
    try:
        for rows, prepared in _prepared(encoder, folder, names, todo):
            vectors[rows] = encoder.encode_prepared(prepared)
            done[rows], unsaved = True, True
            if progress:
                progress(int(done.sum()), len(names))
            if time.monotonic() - saved > SAVED_EVERY_S:
                keep()
                saved, unsaved = time.monotonic(), False
    finally:
        if unsaved:
            keep()
    return vectors


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return a vector (d,) of every text. Raises ModelError for a model that reads none."""
    if "text" not in encoder.info.reads:
        raise ModelError(f"{encoder.info.name} does not read texts; name a model that does (`geosearch model list`)")
    return dict(zip(texts, encoder.encode([Item(text=text) for text in texts]), strict=True))


def cache_name(encoder: Encoder, folder: Path) -> str:
    """Return the name of the file that keeps a folder's vectors by a model: other weights, another file."""
    info = encoder.info
    facts = [info.weights_sha256, info.preprocessing, info.dimension, str(folder.resolve())]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{info.name}-{folder.resolve().name}")[-80:].strip("-")
    return f"{readable}-{digest[:16]}.npz"


def _prepared(
    encoder: Encoder, folder: Path, names: Sequence[str], todo: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], list[Any]]]:
    """Yield positions and prepared pictures, a batch at a time; the next is read while one is encoded."""
    from geosearch.embedding.run import decode_threads
    from geosearch.settings import settings

    step = settings().batch_size
    batches = [todo[start : start + step] for start in range(0, len(todo), step)]
    with ThreadPoolExecutor(decode_threads(), "decode") as pool:

        def begin(rows: NDArray[np.int64]) -> list[Any]:
            return [pool.submit(encoder.prepare, Item(image=folder / names[row])) for row in rows]

        coming = [begin(rows) for rows in batches[:1]]
        try:
            for number, rows in enumerate(batches):
                coming += [begin(following) for following in batches[number + 1 : number + 2]]
                yield rows, [future.result() for future in coming.pop(0)]
        finally:
            for future in (future for batch in coming for future in batch):
                future.cancel()


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _recall(
    file: Path, names: Sequence[str], stamps: NDArray[np.int64], vectors: Vectors, done: NDArray[np.bool_]
) -> None:
    """Fill in the vectors that the file has of unchanged pictures. A file that cannot be read is written anew."""
    if not file.exists():
        return
    try:
        # Opened here: np.load would leave a damaged file open.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
            there, old_stamps, old = kept["names"], kept["stamps"], kept["vectors"]
        if old.shape != (len(there), vectors.shape[1]) or old_stamps.shape != (len(there), 2):
            return
    except DAMAGED:
        return
    rows = {name: row for row, name in enumerate(there.tolist())}
    for i, name in enumerate(names):
        row = rows.get(name)
        if row is not None and (old_stamps[row] == stamps[i]).all():
            vectors[i], done[i] = old[row], True


def _save(file: Path, names: NDArray[Any], stamps: NDArray[np.int64], vectors: Vectors) -> None:
    """Write beside and rename: the file is whole at any moment, whatever happens."""
    beside = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with beside.open("wb") as out:
            np.savez(out, names=names, stamps=stamps, vectors=vectors)
        beside.replace(file)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _not_kept(file, error) from error


def _make_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_kept(file, error) from error


def _not_kept(file: Path, error: OSError) -> InputError:
    why = error.strerror or error
    return InputError(f"{file}: cannot be written ({why}); name another folder for vectors (--cache)")
