"""A file of places → Parquet with their embeddings, block by block: memory does not grow with the number of places."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geosearch.errors import InputError
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.places_file import PlaceBlock, open_places
from geosearch.range.queries import load_encoder

if TYPE_CHECKING:
    from geosearch.encoders.places import PlaceEncoder
    from geosearch.range.soft import Precision, SoftRetrieval

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class EmbedReport:
    """The account of a run: embedded + problems is every row of the file.

    mass_sem, mass_geo: mean share of each softmax that the kept places have (1 unless the mode cuts it). seconds: read,
    encode (the location encoder), retrieve, write, total.
    """

    out: str
    rows: int
    embedded: int
    problems: int
    dimension: int
    mass_sem: float
    mass_geo: float
    seconds: dict[str, float]


def embed_file(
    bank: Bank,
    source: Path,
    out: Path,
    options: Retrieval | None = None,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    half: bool = False,
    lat: str | None = None,
    lon: str | None = None,
    layer: str | None = None,
    encoder: PlaceEncoder | None = None,
    progress: Progress | None = None,
) -> EmbedReport:
    """Write a Parquet file of a file of places (see `places_file.open_places`), wholly or not at all.

    Its rows are those of the file in their order: `row` (from 1), the file's columns, `embedding` (a fixed-size list of
    dv + dk float32, or float16 where half), `problem` (why a row has no embedding, null where it has). device,
    precision: as for `soft.SoftRetrieval`. lat, lon: columns; layer: of a file that has several. encoder: instead of
    the bank's. progress: called with (done, of); of is about right, and None where a file does not say how long it is.
    Raises InputError when the file as a whole cannot be used.
    """
    from geosearch.range.soft import SoftRetrieval

    if half:
        _check_half(bank)
    encoder = encoder or load_encoder(bank)
    retrieval = SoftRetrieval(bank, options, device, precision, encoder)
    kind = pa.list_(pa.float16() if half else pa.float32(), bank.dimension)
    with open_places(source, lat, lon, layer=layer) as places:
        if out.exists() and out.samefile(source):
            raise InputError(f"{out} is the file of places itself, which would be lost; give another --out")
        own = [pa.field("row", pa.int64())] if "row" not in places.schema.names else []
        schema = pa.schema([*own, *places.schema, pa.field("embedding", kind), pa.field("problem", pa.string())])
        work = _Work(retrieval, encoder, schema)
        with written_whole(out, schema) as file:
            for block in work.timed("read", places.blocks):
                batch = work.embed(block)
                try:
                    file.write_batch(batch, row_group_size=len(block.lat))
                except OSError as error:
                    raise _unwritable(out, error) from error
                work.mark("write")
                if progress:
                    progress(work.rows, places.rows and max(places.rows, work.rows))
    return work.report(out)


class _Work:
    """Embeds blocks and keeps the account."""

    def __init__(self, retrieval: SoftRetrieval, encoder: PlaceEncoder, schema: pa.Schema) -> None:
        self.retrieval, self.encoder, self.schema = retrieval, encoder, schema
        self.rows = self.problems = 0
        self.mass = np.zeros(2)
        self.seconds = dict.fromkeys(("read", "encode", "retrieve", "write"), 0.0)
        self._since = self._began = time.perf_counter()

    def mark(self, what: str) -> None:
        """Count the time since the last mark as spent on this."""
        now = time.perf_counter()
        self.seconds[what] += now - self._since
        self._since = now

    def timed(self, what: str, blocks: Iterator[PlaceBlock]) -> Iterator[PlaceBlock]:
        self._since = time.perf_counter()
        for block in blocks:
            self.mark(what)
            yield block

    def embed(self, block: PlaceBlock) -> pa.RecordBatch:
        problems = dict(block.problems)
        for row in np.flatnonzero(self.retrieval.lonely(block.lat, block.lon)).tolist():
            problems.setdefault(row, f"no place of the bank within min_cos {self.retrieval.options.min_cos}")
        n = len(block.lat)
        good = np.ones(n, bool)
        good[list(problems)] = False
        lat, lon = block.lat[good], block.lon[good]
        asked = self.encoder.encode_places(lat, lon)
        self.mark("encode")
        found = self.retrieval.retrieve(lat, lon, asked)
        vectors = np.zeros((n, found.embedding.shape[1]), np.float32)
        vectors[good] = found.embedding.cpu().numpy()
        self.mass += [float(found.mass_sem.sum()), float(found.mass_geo.sum())]
        self.mark("retrieve")
        return self._batch(block, vectors, good, problems)

    def _batch(
        self, block: PlaceBlock, vectors: np.ndarray, good: np.ndarray, problems: dict[int, str]
    ) -> pa.RecordBatch:
        field = self.schema.field("embedding").type
        flat = pa.array(vectors.astype(np.float16 if field.value_type == pa.float16() else np.float32).ravel())
        embedding = pa.FixedSizeListArray.from_arrays(flat, type=field, mask=pa.array(~good))
        columns: list[Any] = list(block.columns.columns)
        if len(self.schema) > len(columns) + 2:
            columns.insert(0, pa.array(np.arange(self.rows + 1, self.rows + len(good) + 1)))
        why = pa.array([problems.get(i) for i in range(len(good))], pa.string())
        self.rows, self.problems = self.rows + len(good), self.problems + len(problems)
        return pa.RecordBatch.from_arrays([*columns, embedding, why], schema=self.schema)

    def report(self, out: Path) -> EmbedReport:
        embedded = self.rows - self.problems
        sem, geo = (self.mass / embedded).tolist() if embedded else (1.0, 1.0)
        seconds = {**self.seconds, "total": time.perf_counter() - self._began}
        return EmbedReport(
            str(out), self.rows, embedded, self.problems, self.retrieval.bank.dimension, sem, geo, seconds
        )


def _check_half(bank: Bank) -> None:
    """Refuse values that float16 cannot hold (65 504 is the greatest), or only with far fewer digits than it has."""
    greatest, middling = np.abs(bank.values).max(), np.sqrt(np.square(bank.values, dtype=np.float64).mean())
    if greatest > np.finfo(np.float16).max or 0 < middling < 1e-3:
        raise InputError(
            f"the values of bank {bank.name} (up to {greatest:.3g}, {middling:.3g} in the mean) do not fit into "
            "float16; leave out --half"
        )


@contextmanager
def written_whole(out: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer of a Parquet file that appears under its name when all is written, and not at all otherwise.

    A run that is killed leaves `.NAME.unfinished`, which the next run over the same name writes anew.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; give a file")
    others = [field.name for field in schema if field.name != "embedding"]
    # Floats of a network do not get smaller by compression; it would only cost time.
    compression = {**dict.fromkeys(others, "zstd"), "embedding.list.element": "none"}
    with _claimed(out) as unfinished:
        try:
            writer = pq.ParquetWriter(unfinished, schema, use_dictionary=others, compression=compression)
        except OSError as error:
            raise _unwritable(out, error) from error
        try:
            yield writer
        except BaseException:
            with suppress(OSError):  # what went wrong first is what is told
                writer.close()
            raise
        try:
            writer.close()
            unfinished.replace(out)
        except OSError as error:
            raise _unwritable(out, error) from error


@contextmanager
def _claimed(out: Path) -> Iterator[Path]:
    """Yield the path under which a file is written until it is whole; no other run writes there meanwhile."""
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle = unfinished.open("ab")
    except OSError as error:
        raise _unwritable(out, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = unfinished.exists() and os.path.samestat(os.fstat(handle.fileno()), unfinished.stat())
        except BlockingIOError:
            mine = False
        if not mine:
            raise InputError(f"{out} is being written by another run; wait until it has ended, or give another --out")
        try:
            yield unfinished
        finally:
            unfinished.unlink(missing_ok=True)


def _unwritable(out: Path, error: OSError) -> InputError:
    why = os.strerror(error.errno) if error.errno else str(error)
    return InputError(f"{out} cannot be written: {why}; nothing of it is left. Make room, or give another --out")
