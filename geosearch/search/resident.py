"""The vectors of a space, resident in memory and true to the database.

Every row of a space carries a version: a number that is drawn anew whenever its vector changes and is never given
twice. So (image id, version) names one vector for good. Versions are compared for equality alone, since transactions
commit in another order than they draw; what is not here under the version that is wanted is fetched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.pq import TransactionStatus

from geosearch.errors import DatabaseError, SchemaError, UnknownNameError
from geosearch.search.binary_copy import key_rows, vector_rows
from geosearch.search.candidates import Candidates
from geosearch.search.resident_form import Form, choose_form, measure_free
from geosearch.search.vector_store import Fetched, VectorStore
from geosearch.settings import settings

log = logging.getLogger(__name__)
_REFRESH_EVERY_S = 60.0


class ResidentVectors(VectorStore):
    """The vectors of one space of a database. Several threads may share them, each with a connection of its own."""

    def __init__(self, space: str, dimension: int, made: object, form: Form, rows: int, folder: Path) -> None:
        """Take the memory; use `load`."""
        super().__init__(space, dimension, form, rows, folder)
        self._made, self._refreshed = made, time.monotonic()
        self._everything: tuple[tuple[int, int], Candidates] | None = None

    @classmethod
    def load(
        cls,
        conn: psycopg.Connection[Any],
        space: str,
        *,
        dtype: Literal["auto", "float32", "float16"] = "auto",
        device: str | None = None,
        memory_bytes: int | None = None,
        folder: Path | None = None,
    ) -> Self:
        """Read a whole space in one snapshot and return it.

        dtype, device, memory_bytes: see `choose_form`; None takes the device of the settings. folder: of the file,
        where the vectors fit no memory; by default `cache` in the data folder. Raises UnknownNameError, SchemaError,
        and InputError where the vectors fit nowhere.
        """
        folder = folder or settings().home / "cache"
        began = time.perf_counter()
        with one_snapshot(conn):
            dimension, made = _facts(conn, space)
            counted = conn.execute(sql.SQL("select count(*) from {}").format(_table(space))).fetchone()
            assert counted is not None
            rows = int(counted[0])
            form = choose_form(rows, dimension, measure_free(folder), dtype, device or settings().device, memory_bytes)
            resident = cls(space, dimension, made, form, rows, folder)
            select = sql.SQL("select image_id, version, embedding from {}").format(_table(space))
            for ids, versions, halves in vector_rows(conn, select, dimension):
                resident.put(ids, versions, halves)
        log.info(
            "space %s: %d vectors of %d dimensions resident as %s; read in %.1f s",
            space, len(resident), dimension, form, time.perf_counter() - began,
        )  # fmt: skip
        return resident

    def follow(self, conn: psycopg.Connection[Any]) -> None:
        """Check that a connection's database holds the very space that was loaded. Raises DatabaseError."""
        if _facts(conn, self.space) != (self.dimension, self._made):
            raise DatabaseError(
                f"space {self.space} of database {conn.info.dbname!r} is not the one that was loaded: it was made "
                "anew, or the database is another one. Load it again: ResidentVectors.load(conn, space)"
            )

    def everything(self, conn: psycopg.Connection[Any]) -> Candidates:
        """Return ids and versions of all rows that the table holds in the snapshot of the connection.

        Kept as long as the database counts no change of the space's vectors.
        """
        state, own = self._changes(conn)
        kept = self._everything
        # A transaction's own changes count for itself alone, until it commits, or for nobody, if it does not.
        if kept is not None and kept[0] == state and not own:
            return kept[1]
        select = sql.SQL("select image_id, version from {}").format(_table(self.space))
        with conn.transaction():
            found = Candidates.of(*key_rows(conn, select))
        # Where every statement has a snapshot of its own, there may have been changes between the two.
        if (state, False) == self._changes(conn):
            self._everything = state, found
        return found

    def _changes(self, conn: psycopg.Connection[Any]) -> tuple[tuple[int, int], bool]:
        """Return the space's id and how often its vectors changed; and whether this transaction may have done so."""
        with conn.transaction():
            row = conn.execute(
                "select s.id, geosearch.change_count('vectors ' || s.id), pg_current_xact_id_if_assigned() is not null"
                " from geosearch.space s where s.name = %s",
                [self.space],
            ).fetchone()
        if row is None:
            raise DatabaseError(f"space {self.space} is not there any more: it was dropped since it was loaded")
        return (int(row[0]), int(row[1])), bool(row[2])

    def refresh(self, conn: psycopg.Connection[Any]) -> tuple[int, int]:
        """Compare with the table: drop images that left it, fetch what is new or changed; return (fetched, dropped).

        Ranking needs it not: it frees the memory of images that nobody asks for any more, and spares later fetches.
        """
        self.follow(conn)
        select = sql.SQL("select image_id, version from {}").format(_table(self.space))
        with conn.transaction():
            ids, versions = key_rows(conn, select)
        with self.lock:
            gone = np.setdiff1d(self._index.ids(), ids)
            self.drop(gone)
            missing = ids[~self._matches(self._index.find(ids), versions)]
            self.drop(missing)
        fetched = 0
        page = max(1, (32 << 20) // (2 * self.dimension))
        for at in range(0, len(missing), page):
            found = Fetched(self.dimension)
            self.fetch(conn, missing[at : at + page], found)
            fetched += len(found.ids)
        self._refreshed = time.monotonic()
        if fetched or len(gone):
            log.info("space %s: %d vectors fetched, %d dropped", self.space, fetched, len(gone))
        return fetched, len(gone)

    def fetch(self, conn: psycopg.Connection[Any], ids: NDArray[np.int64], into: Fetched) -> None:
        """Read the rows of ids from the table as they are now; keep them here while there is room, and give them."""
        # No lock is held while the database is waited for: who holds it there might be waiting for us here.
        select = sql.SQL("select image_id, version, embedding from {} where image_id = any(%(ids)s::bigint[])").format(
            _table(self.space)
        )
        empty = (into.ids[:0], into.versions[:0], into.halves[:0])
        with conn.transaction():
            parts = [empty, *vector_rows(conn, select, self.dimension, {"ids": ids.tolist()})]
        found, versions, halves = (np.concatenate(column) for column in zip(*parts, strict=True))
        into.add(ids, found, versions, halves)
        with self.lock:
            self.drop(np.setdiff1d(ids, found))
            left = self.put(found, versions, halves)
        if left and time.monotonic() - self._refreshed > _REFRESH_EVERY_S:
            self._refreshed = time.monotonic()
            log.warning("space %s: no room for %d more vectors; looking for images that left", self.space, left)
            self.refresh(conn)


@contextmanager
def one_snapshot(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Let all that follows see one state of the database; inside a transaction that runs already, as that one does."""
    fresh = conn.info.transaction_status == TransactionStatus.IDLE
    with conn.transaction():
        if fresh:
            conn.execute("set transaction isolation level repeatable read, read only")
        yield


def _table(space: str) -> sql.Identifier:
    return sql.Identifier("geosearch", f"space_{space}")


def _facts(conn: psycopg.Connection[Any], space: str) -> tuple[int, object]:
    """Return a space's dimension and what tells it from others of its name, in this database and elsewhere."""
    with conn.transaction():
        row = conn.execute(
            "select s.dimension, s.layout_version, s.id, s.created_at, d.oid, c.system_identifier"
            " from geosearch.space s, pg_database d, pg_control_system() c"
            " where s.name = %s and d.datname = current_database()",
            [space],
        ).fetchone()
        if row is None:
            known = conn.execute("select name from geosearch.space order by name").fetchall()
            raise UnknownNameError("space", space, [str(name[0]) for name in known])
    if row[1] < 2:
        raise SchemaError(f"space {space} is of an older layout. Bring it to this release: geosearch db migrate")
    return int(row[0]), row[2:]
