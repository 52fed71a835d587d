"""Vectors made elsewhere → a space without a model: checked row by row, written in batches, rejects kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.database.archives import get_archive_id
from geosearch.database.connection import connect
from geosearch.database.reorder import restore_order
from geosearch.database.spaces import Space, get_space
from geosearch.database.statistics import refresh_statistics
from geosearch.embedding.address import address
from geosearch.embedding.kept_moments import KeptMoments
from geosearch.embedding.vector_files import Block, open_vectors
from geosearch.embedding.write import Rejected, VectorWriter, payload
from geosearch.errors import InputError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportCounts:
    """The account of an import: every row of the file is in exactly one; gone: its image was removed meanwhile."""

    added: int
    updated: int
    unchanged: int
    rejected: int
    gone: int


def import_vectors(
    database: psycopg.Connection | str | None,
    space: str,
    source: Path,
    archive: str,
    *,
    name_column: str | None = None,
    vector_column: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ImportCounts:
    """Fill a space without a model from a file of names and vectors; see `vector_files.open_vectors` for its forms.

    Vectors are brought to length 1: similarity is the cosine. A row is rejected, and kept in `reject` with its number,
    when its name is missing, not in the archive, or came before in the file, or when its vector has another dimension,
    is zero or not finite. Each block of rows is committed by itself; running it again changes nothing.
    database, say: as for `embed`.

    Raises InputError when the file as a whole or the space cannot be used, UnknownNameError.
    """
    url = address(database)
    with connect(url, autocommit=True) as conn:
        found = get_space(conn, space)
        if found.model is not None:
            raise InputError(
                f"space {space} holds vectors of {found.model}; others cannot be compared with them. Make a space for "
                f"yours: `geosearch space create NAME --dimension {found.dimension}`"
            )
        archive_id = get_archive_id(conn, archive)
        file = open_vectors(source, found.dimension, name_column, vector_column)
        moments = KeptMoments(conn, found)
        counts = _Import(conn, found, archive_id, archive, source, moments).go(file.rows, file.blocks, progress)
        refresh_statistics(conn, found.table, counts.added + counts.updated)
        moments.finish(conn, url, say)
    if counts.added + counts.updated:
        restore_order(url, space, say)
    return counts


class _Import:
    def __init__(
        self,
        conn: psycopg.Connection,
        space: Space,
        archive_id: int,
        archive: str,
        source: Path,
        moments: KeptMoments,
    ) -> None:
        self.moments = moments
        self.conn, self.space, self.archive_id, self.archive = conn, space, archive_id, archive
        self.source = str(source.absolute())
        self.writer = VectorWriter(conn, space)
        self.seen: set[int] = set()  # some 60 MB for a million images

    def go(self, rows: int, blocks: Iterator[Block], progress: Progress | None) -> ImportCounts:
        # What an earlier import of this file rejected is said anew or no longer true.
        self.conn.execute(
            "delete from geosearch.reject where stage = 'embed' and archive_id = %s and source = %s and payload = %s",
            [self.archive_id, self.source, payload(self.space)],
        )
        added = updated = unchanged = rejected = gone = done = 0
        for block in blocks:
            ids, vectors, rejects = self._check(block)
            with self.conn.transaction():
                written = self.writer.write(ids, vectors, None)
                self.writer.reject(rejects)
            self.moments.add(vectors, written)
            added, updated = added + written.added, updated + written.updated
            unchanged, gone = unchanged + written.unchanged, gone + written.gone
            rejected, done = rejected + len(rejects), done + len(block.names)
            if progress:
                progress(done, rows)
        if done != added + updated + unchanged + rejected + gone or done != rows:
            raise AssertionError(f"{self.source}: {rows} rows in, {done} read, not all of them out")
        return ImportCounts(added, updated, unchanged, rejected, gone)

    def _check(self, block: Block) -> tuple[list[int], NDArray[np.float32], list[Rejected]]:
        problems = dict(block.problems)
        units, wrong = _to_units(block.vectors)
        for i, why in wrong.items():
            problems.setdefault(i, why)
        for i, name in enumerate(block.names):
            if not name:
                problems[i] = "the row has no name"
            elif not _storable(name):
                problems[i] = "the name holds characters that no database can store"
        wanted = [name for i, name in enumerate(block.names) if i not in problems]
        found = self.conn.execute(
            "select name, id from geosearch.image where archive_id = %s and name = any(%s)", [self.archive_id, wanted]
        ).fetchall()
        known: dict[str, int] = {str(name): int(image_id) for name, image_id in found}
        ids: list[int] = []
        rows: list[int] = []
        for i, name in enumerate(block.names):
            if i in problems:
                continue
            image_id = known.get(name or "")
            if image_id is None:
                problems[i] = f"archive {self.archive} has no image of this name"
            elif image_id in self.seen:
                problems[i] = "the name came before in this file; the first row counts"
            else:
                self.seen.add(image_id)
                ids.append(image_id)
                rows.append(i)
        rejects = [
            Rejected(self.archive_id, block.names[i] or None, why, self.source, block.first + i)
            for i, why in sorted(problems.items())
        ]
        return ids, units[rows], rejects


def _to_units(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Return vectors (n, d) at length 1 and, by row, why others have none."""
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(vectors).all(axis=1))
    largest = np.abs(np.where(finite[:, None], vectors, 0.0)).max(axis=1, initial=0.0)
    good = finite & (largest > 0)
    scaled = np.where(good[:, None], vectors, 1.0) / np.where(good, largest, 1.0)[:, None]  # squares cannot overflow
    units = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
    wrong = {int(i): "the vector has numbers that are not finite" for i in np.flatnonzero(~finite)}
    wrong |= {int(i): "the vector is zero: it has no direction" for i in np.flatnonzero(finite & (largest == 0))}
    return units, wrong


def _storable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name
