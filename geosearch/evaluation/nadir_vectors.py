"""Vectors of images in parts, image and nadir: encoded from files and kept in blocks, or taken from a space."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from psycopg import sql

from geosearch.database.spaces import get_space
from geosearch.embedding import files
from geosearch.embedding.identity import encoder_of
from geosearch.encoders.base import Encoder
from geosearch.encoders.pictures import RULES, open_image
from geosearch.errors import InputError, ModelError
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_ways import Block
from geosearch.evaluation.picture_vectors import DAMAGED
from geosearch.geometry import Floats
from geosearch.item import Item
from geosearch.search.binary_copy import vector_rows

Progress = Callable[[int, int], None]
Singles = NDArray[np.float32]
ANGLES = (0, 90, 180, 270)  # degrees, anticlockwise
BLOCK = 1024  # images a block: what is held in memory, and what an interruption costs at most


class VectorSource(Protocol):
    """Where vectors come from: a model or space of that name.

    scale s and null vector (e,): 0 and None of a model that reads no nadirs.
    """

    name: str
    scale: float
    null: Singles | None

    def blocks(self, images: Images, lat: Floats, lon: Floats, angles: tuple[int, ...] = (0,)) -> Iterator[Block]:
        """Yield all images in blocks, in their order. lat, lon (n,): the places that they are encoded with, degrees.

        angles: by which the pictures are turned, in the order of the block's rotations.
        """
        ...


class _Nadirs:
    """The part of an encoder that knows nadirs, if it has one."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = cast(Any, encoder)
        self.reads = "place" in encoder.info.reads
        if "image" not in encoder.info.reads:
            raise ModelError(
                f"{encoder.info.name} does not read images; name a model that does (`geosearch model list`)"
            )
        self.scale = float(self.encoder.scale) if self.reads else 0.0
        self.null: Singles | None = self.encoder.nadir_vectors([np.nan], [np.nan])[0] if self.reads else None

    def vectors(self, lat: ArrayLike, lon: ArrayLike) -> Singles | None:
        """Return unit vectors (n, e) of places in degrees, the null vector where one is NaN."""
        return np.asarray(self.encoder.nadir_vectors(lat, lon), np.float32) if self.reads else None

    def images(self, prepared: Sequence[Any]) -> Singles:
        """Return unit vectors (n, d) of pictures alone."""
        of = self.encoder.image_vectors if self.reads else self.encoder.encode_prepared
        return np.asarray(of(prepared), np.float32)


class FromModel:
    """Encodes the images' files, in blocks that are kept in a folder: an interrupted run goes on there.

    They are kept in half precision, as a space keeps them. What cannot be read has no vector; `unread` says why.
    """

    def __init__(self, encoder: Encoder, cache: Path | None = None, progress: Progress | None = None) -> None:
        """cache: a folder; None: one that vanishes. A block of it is used again where model and files are the same.

        progress: called with (images done, of) while files are encoded. Raises ModelError.
        """
        self._nadirs = _Nadirs(encoder)
        self.name, self.scale, self.null = encoder.info.name, self._nadirs.scale, self._nadirs.null
        self.encoder, self.progress = encoder, progress
        self.unread: dict[str, str] = {}
        self._vanishing = tempfile.TemporaryDirectory(prefix="geosearch-") if cache is None else None
        self.folder = cache or Path(self._vanishing.name if self._vanishing else ".")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_kept(self.folder, error) from error

    def blocks(self, images: Images, lat: Floats, lon: Floats, angles: tuple[int, ...] = (0,)) -> Iterator[Block]:
        """Yield blocks of images (r, m, d) in half precision; see `VectorSource`."""
        for start in range(0, len(images), BLOCK):
            part = slice(start, min(start + BLOCK, len(images)))
            vectors, there = self._block(images.only(part), angles)
            yield Block(start, vectors, self._nadirs.vectors(lat[part], lon[part]), lat[part], lon[part], there)
            if self.progress:
                self.progress(part.stop, len(images))

    def _block(self, images: Images, angles: tuple[int, ...]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        stamps = [_stamp(uri, root) for uri, root in zip(images.uris, images.roots, strict=True)]
        kept = {angle: self._file(stamps, angle) for angle in angles}
        found = {angle: _read(path, len(images)) for angle, path in kept.items()}
        lacking = tuple(angle for angle in angles if found[angle] is None)
        if lacking:
            for angle, vectors in self._encode(images, lacking).items():
                _save(kept[angle], vectors)
                found[angle] = vectors
        every = np.stack([v for v in found.values() if v is not None])
        there = ~np.isnan(every[0, :, 0])
        return np.nan_to_num(every), there

    def _encode(self, images: Images, angles: tuple[int, ...]) -> dict[int, NDArray[np.float16]]:
        """Return vectors (m, d) of each angle; NaN for a picture that cannot be read."""
        from geosearch.embedding.run import decode_threads
        from geosearch.settings import settings

        made: dict[int, list[NDArray[Any]]] = {angle: [] for angle in angles}
        step = max(1, settings().batch_size // len(angles))
        batches = [range(s, min(s + step, len(images))) for s in range(0, len(images), step)]
        with ThreadPoolExecutor(decode_threads(), "decode") as pool:

            def begin(rows: range) -> list[Any]:
                return [pool.submit(self._prepare, images.uris[i], images.roots[i], angles) for i in rows]

            coming = [begin(rows) for rows in batches[:1]]
            try:
                for number, rows in enumerate(batches):
                    coming += [begin(following) for following in batches[number + 1 : number + 2]]
                    read = [future.result() for future in coming.pop(0)]
                    for i, one in zip(rows, read, strict=True):
                        if isinstance(one, str):
                            self.unread[str(images.names[i])] = one
                    good = [i for i, one in enumerate(read) if not isinstance(one, str)]
                    for turn, angle in enumerate(angles):
                        vectors = np.full((len(read), self._dimension), np.nan, np.float16)
                        if good:
                            vectors[good] = self._nadirs.images([read[i][turn] for i in good])
                        made[angle].append(vectors)
            finally:
                for future in (future for batch in coming for future in batch):
                    future.cancel()
        return {angle: np.concatenate(parts) for angle, parts in made.items()}

    @property
    def _dimension(self) -> int:
        whole = self.encoder.info.dimension
        return whole if self.null is None else whole - len(self.null)

    def _prepare(self, uri: str | None, root: str | None, angles: tuple[int, ...]) -> list[Any] | str:
        """Return the picture of a file, turned and ready to encode, for each angle; or why not. In a thread."""
        try:
            path = files.locate(uri, root)
            picture = open_image(files.read(path).source, name=str(path))
            return [self.encoder.prepare(Item(image=turned(picture, angle))) for angle in angles]
        except InputError as error:
            return str(error)

    def _file(self, stamps: list[Any], angle: int) -> Path:
        info = self.encoder.info
        facts = [info.weights_sha256, info.preprocessing, info.dimension, RULES, angle, stamps]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
        readable = re.sub(r"[^A-Za-z0-9]+", "-", info.name)[-40:].strip("-")
        return self.folder / f"{readable}-{digest[:24]}.npy"


class FromSpace:
    """Takes the images' part of a space's vectors; what the space lacks has none. Nadirs are those of the catalogue."""

    def __init__(self, conn: psycopg.Connection[Any], space: str, device: str | None = None) -> None:
        """Raises UnknownNameError, InputError for a space without a model, ModelError, WeightsError."""
        self.conn, self.space = conn, get_space(conn, space)
        self._nadirs = _Nadirs(encoder_of(conn, self.space, device))
        self.name, self.scale, self.null = space, self._nadirs.scale, self._nadirs.null

    def blocks(self, images: Images, lat: Floats, lon: Floats, angles: tuple[int, ...] = (0,)) -> Iterator[Block]:
        """Yield blocks; see `VectorSource`. Raises InputError for rotations: a space holds pictures as they are."""
        if angles != (0,):
            raise InputError("a space holds no turned pictures; measure rotations with a model (--model)")
        select = sql.SQL(
            "select image_id, 0::bigint, embedding from {} where image_id = any (%(ids)s) order by image_id"
        ).format(self.space.table)
        dimension = self.space.dimension - (0 if self.null is None else len(self.null))
        for start in range(0, len(images), BLOCK):
            part = slice(start, min(start + BLOCK, len(images)))
            ids = images.ids[part]
            vectors, there = np.zeros((len(ids), dimension), np.float32), np.zeros(len(ids), bool)
            for found, _, halves in vector_rows(self.conn, select, self.space.dimension, {"ids": ids.tolist()}):
                rows = np.searchsorted(ids, found)
                image = halves[:, :dimension].astype(np.float32)
                vectors[rows] = image / np.linalg.norm(image, axis=1, keepdims=True)
                there[rows] = True
            yield Block(start, vectors[None], self._nadirs.vectors(lat[part], lon[part]), lat[part], lon[part], there)


def turned(picture: Image.Image, angle: int) -> Image.Image:
    """Return a picture turned anticlockwise by one of ANGLES; no pixel is changed."""
    ways = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    return picture.transpose(ways[angle]) if angle else picture


def _stamp(uri: str | None, root: str | None) -> list[Any]:
    """Return what tells whether a file is the same: its path, size and time; what is gone has none."""
    with suppress(InputError, OSError):
        path = files.locate(uri, root)
        facts = path.stat()
        return [str(path), facts.st_size, facts.st_mtime_ns]
    return [uri, root]


def _read(path: Path, count: int) -> NDArray[np.float16] | None:
    """Return the vectors (count, d) of a block; None where it is not there or damaged: then it is made anew."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            kept = np.load(file, allow_pickle=False)
    except DAMAGED:
        return None
    return kept if kept.dtype == np.float16 and kept.ndim == 2 and len(kept) == count else None


def _save(path: Path, vectors: NDArray[np.float16]) -> None:
    """Write beside and rename: a block is whole or not there."""
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            np.save(file, vectors)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _not_kept(path, error) from error


def _not_kept(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror or error}); name another folder (--cache)")
