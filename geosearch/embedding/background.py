"""The thread that writes: batches come through a short queue, and what waits there is committed together."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import psycopg

from geosearch.database.spaces import Space
from geosearch.embedding.kept_moments import KeptMoments
from geosearch.embedding.write import Rejected, VectorWriter
from geosearch.encoders.base import Vectors
from geosearch.item import Place

_ATTEMPTS = 5
_AHEAD = 16  # batches that may wait


class Batch(NamedTuple):
    """What is written together. pages: how many images of each page it settles. places: for a model that reads them."""

    ids: list[int]
    vectors: Vectors
    hashes: list[bytes]
    rejected: list[Rejected]
    pages: Counter[int]
    places: list[Place | None] | None = None


class BackgroundWriter:
    """Writes batches while the next is being encoded; a context manager that ends its thread, writing what it has.

    committed: pages of batches that are in the database, for the caller to take. An error of the thread is raised by
    the next call. conn: in autocommit mode, of this thread alone. moments: is told of what was committed.
    """

    def __init__(self, conn: psycopg.Connection, space: Space, moments: KeptMoments) -> None:
        self.conn, self.moments = conn, moments
        self.writer = VectorWriter(conn, space)
        self.embedded = self.rejected = self.gone = 0
        self.seconds = 0.0
        self.committed: deque[Counter[int]] = deque()
        self._queue: queue.Queue[Batch | None] = queue.Queue(maxsize=_AHEAD)
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)

    @property
    def done(self) -> int:
        """How many images are settled."""
        return self.embedded + self.rejected + self.gone

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def put(self, batch: Batch) -> None:
        """Hand a batch over; waits while too many wait already."""
        self._raise()
        self._queue.put(batch)

    def drain(self) -> None:
        """Wait until all that was handed over is committed."""
        self._queue.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while batches := self._waiting():
            start = time.perf_counter()
            try:
                if self._error is None:  # after an error the queue is only emptied, so that nobody waits for it
                    self._write(_together(batches))
            except BaseException as error:
                self._error = error
            finally:
                self.seconds += time.perf_counter() - start
                for _ in batches:
                    self._queue.task_done()

    def _waiting(self) -> list[Batch]:
        """Return all batches that wait, at least one; none at the end. A fast encoder makes larger transactions."""
        batches: list[Batch] = []
        while not self._ended and (not batches or not self._queue.empty()):
            batch = self._queue.get()
            if batch is None:
                self._ended = True
            else:
                batches.append(batch)
        return batches

    def _write(self, batch: Batch) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                with self.conn.transaction():
                    written = self.writer.write(batch.ids, batch.vectors, batch.hashes, batch.places)
                    self.writer.reject(batch.rejected)
                break
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                # Another program locked the same images in another order; PostgreSQL ended one of the two.
                if attempt == _ATTEMPTS - 1:
                    raise
        self.moments.add(batch.vectors, written)
        self.embedded += len(batch.ids) - written.gone
        self.gone += written.gone
        self.rejected += len(batch.rejected)
        self.committed.append(batch.pages)


def _together(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    return Batch(
        [i for batch in batches for i in batch.ids],
        np.concatenate([batch.vectors for batch in batches]),
        [h for batch in batches for h in batch.hashes],
        [r for batch in batches for r in batch.rejected],
        sum((batch.pages for batch in batches), Counter()),
        None if batches[0].places is None else [p for batch in batches for p in batch.places or []],
    )
