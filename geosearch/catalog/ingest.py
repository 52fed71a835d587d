"""From a source to rows of `image`: batches, each committed by itself, so that a run that dies is simply run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from geosearch.catalog.ahead import ahead
from geosearch.catalog.batch import Batch
from geosearch.catalog.options import Options
from geosearch.catalog.problems import flag, refuse
from geosearch.catalog.readers import choose
from geosearch.catalog.staging import Written, prepare, to_copy, write, write_rejects
from geosearch.database.archives import ensure_archive
from geosearch.database.statistics import refresh_statistics
from geosearch.errors import CatalogError, InputError
from geosearch.geometry import PHOTO_REACH_M

LOCK_WAIT = "30s"
_ATTEMPTS = 5
_LOCK_CLASS = 0x67656F63  # "geoc": catalogue runs, one an archive


@dataclass(frozen=True)
class Counts:
    """Every row in, counted out: rows = added + updated + unchanged + rejected. `flagged` are among the first three."""

    reader: str
    rows: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    flagged: int = 0
    seconds: float = 0.0


Progress = Callable[[Counts, float | None], None]


def add(
    conn: psycopg.Connection,
    source: Path | str,
    archive: str,
    reader: str | None = None,
    *,
    progress: Progress | None = None,
    facts: dict[str, Any] | None = None,
    **options: Any,
) -> Counts:
    """Catalogue a source into an archive, made when there is none; what is unchanged is left alone.

    reader: one of `readers.READERS`; None recognises it. options: see Options. facts: title, licence, … of the archive.
    progress: called after each batch with the counts so far and the share of the source read (None: not known).
    Commits batch by batch. Killed at any moment, the same call completes it. Images that left the source stay.
    Raises CatalogError when nothing of the source can be read, InputError for options that do not fit.
    """
    source = Path(source).absolute()
    try:
        chosen = Options(**options)
    except TypeError as error:
        raise InputError(f"the catalogue has no such option: {error}") from error
    if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        raise InputError("the connection is within a transaction; a catalogue run commits by itself: commit first")
    found = choose(source, reader, chosen)
    reach = PHOTO_REACH_M if chosen.reach_km is None else chosen.reach_km * 1000
    counts, since = Counts(found.name), time.monotonic()
    seen: dict[str, int] = {}

    def ready() -> Iterator[tuple[Batch, bytes]]:
        for batch in found.read(source, chosen):
            kept = flag(refuse(batch, seen))
            yield kept, to_copy(kept, reach)

    # The next batch is read and packed while the database writes this one.
    with ahead(ready()) as batches:
        first = next(batches, None)  # a source that cannot be read fails here, before anything is touched
        with conn.transaction():
            archive_id = ensure_archive(conn, archive, **(facts or {}))
        with _alone(conn, archive_id, archive):
            with conn.transaction():
                prepare(conn)
                conn.execute(
                    "delete from geosearch.reject where archive_id = %s and stage = 'catalog' and source = %s",
                    [archive_id, str(source)],
                )
            while first is not None:
                batch, payload = first
                done = _written(conn, archive_id, str(source), batch, payload)
                rejects = batch.rejects + done.refused
                refused = {reject.name for reject in done.refused}
                flagged = sum(
                    1 for name, p in zip(batch.name, batch.problems, strict=True) if p and name not in refused
                )
                counts = replace(
                    counts,
                    rows=counts.rows + len(batch) + len(batch.rejects),
                    added=counts.added + done.added,
                    updated=counts.updated + done.updated,
                    unchanged=counts.unchanged + done.unchanged,
                    rejected=counts.rejected + len(rejects),
                    flagged=counts.flagged + flagged,
                    seconds=time.monotonic() - since,
                )
                if progress:
                    progress(counts, batch.done)
                first = next(batches, None)
            refresh_statistics(conn, sql.Identifier("geosearch", "image"), counts.added + counts.updated)
    return replace(counts, seconds=time.monotonic() - since)


def _written(conn: psycopg.Connection, archive_id: int, source: str, batch: Batch, payload: bytes) -> Written:
    """Write a batch and its rejects in one transaction; again where PostgreSQL ended it to part two writers."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            with conn.transaction():
                done = write(conn, archive_id, batch, payload)
                rejects = batch.rejects + done.refused
                if rejects:
                    write_rejects(conn, archive_id, source, rejects)
            return done
        except psycopg.errors.DeadlockDetected:
            if not left:
                raise
    raise AssertionError  # the last attempt returns or raises


@contextmanager
def _alone(conn: psycopg.Connection, archive_id: int, archive: str) -> Iterator[None]:
    """Hold the archive's catalogue lock; two runs at once would count each other's rows."""
    try:
        with conn.transaction():
            conn.execute("select set_config('lock_timeout', %s, true)", [LOCK_WAIT])
            conn.execute("select pg_advisory_lock(%s, %s)", [_LOCK_CLASS, archive_id])
    except psycopg.errors.LockNotAvailable as error:
        raise CatalogError(
            f"another run has been cataloguing into archive {archive!r} for {LOCK_WAIT}; try again when it is done"
        ) from error
    try:
        yield
    finally:
        if not conn.closed and not conn.broken:
            with conn.transaction():
                conn.execute("select pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, archive_id])
