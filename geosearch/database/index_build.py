"""Building an HNSW graph: memory, the defect of older pgvector in parallel builds, and how far it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from psycopg import sql

from geosearch.database.index_session import Progress, Say, Session
from geosearch.database.reorder_disk import is_private
from geosearch.database.server_config import machine_memory
from geosearch.database.server_programs import SAFE_PGVECTOR, version_tuple
from geosearch.errors import InputError

M, EF_CONSTRUCTION = 16, 64  # pgvector's own
_POLL_S = 0.5

# Phases of pg_stat_progress_create_index that a person should be told of by another name; others as they are.
_PHASES = {"building index: loading tuples": "building the graph", "building index": "building the graph"}


def graph_bytes(rows: int, dimension: int, form: str, m: int = M) -> int:
    """Return the memory that pgvector needs to build a graph without writing it out in between.

    Measured with pgvector 0.8.0, by how many rows fitted in: the vector and 774 bytes a row at m 16, 1283 at m 32.
    """
    vector = dimension // 8 + 8 if form == "bit" else 2 * dimension + 8
    return int(1.05 * rows * (vector + 262 + 32 * m)) + 2**20


def prepare(session: Session, rows: int, m: int, memory: str | None, say: Say) -> None:
    """Set the session's memory and parallel workers for building a graph of so many rows.

    memory: as PostgreSQL reads it ('2GB'); None takes what the graph needs, within what the server may be asked for.
    Raises InputError when PostgreSQL refuses it.
    """
    conn = session.conn
    if memory is not None:
        try:
            conn.execute("select set_config('maintenance_work_mem', %s, false)", [memory])
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.DataError) as error:
            raise InputError(f"{memory!r} is no amount of memory for PostgreSQL: write 2GB, or 500MB") from error
    need = graph_bytes(rows, session.space.dimension, session.form, m)
    have = _setting_bytes(conn, "maintenance_work_mem")
    if memory is None and need > have:
        have = max(have, min(need, _bound(conn)))
        conn.execute("select set_config('maintenance_work_mem', %s, false)", [f"{have // 1024}kB"])
    if need > have:
        say(
            f"the graph takes some {need >> 20} MB and {have >> 20} MB are allowed: what does not fit is built several "
            f"times slower. --memory {-(-need >> 20)}MB makes room, where the server's machine has it."
        )
    version = pgvector_version(conn)
    if (0, 6) <= version_tuple(version) < SAFE_PGVECTOR:
        say(f"pgvector {version} has CVE-2026-3172 in parallel builds, so one process builds; 0.8.2 uses several.")
        conn.execute("select set_config('max_parallel_maintenance_workers', '0', false)")


def pgvector_version(conn: psycopg.Connection) -> str:
    """Return the version of pgvector in the database."""
    row = conn.execute("select extversion from pg_catalog.pg_extension where extname = 'vector'").fetchone()
    assert row is not None
    return str(row[0])


def create(session: Session, index: str, table: sql.Identifier, options: dict[str, int], concurrently: bool) -> sql.SQL:
    """Return the statement that builds an index of the session's form on a table."""
    column = "code bit_hamming_ops" if session.form == "bit" else "embedding halfvec_cosine_ops"
    return sql.SQL("create index {how} {index} on {table} using hnsw ({column}) with ({options})").format(  # type: ignore[return-value]
        how=sql.SQL("concurrently" if concurrently else ""),
        index=sql.Identifier(index),
        table=table,
        column=sql.SQL(column),
        options=sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in options.items()
        ),
    )


@contextmanager
def watched(session: Session, rows: int, progress: Progress | None) -> Iterator[None]:
    """Report how far the session's index build is, asked on a connection of its own, while the body runs it."""
    if progress is None:
        yield
        return
    done = threading.Event()
    # With the rights of the login: others are not shown how far it is.
    with session.another(as_owner=False) as conn:
        thread = threading.Thread(target=_watch, args=(conn, session.pid, rows, progress, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _watch(conn: psycopg.Connection, pid: int, rows: int, progress: Progress, done: threading.Event) -> None:
    while not done.wait(_POLL_S):
        with suppress(psycopg.Error):  # the bar stands still; the build's own connection says what is wrong
            row = conn.execute(
                "select phase, tuples_done, blocks_done, blocks_total from pg_catalog.pg_stat_progress_create_index"
                " where pid = %s",
                [pid],
            ).fetchone()
            if row is None or row[0] is None:
                continue
            phase, tuples, blocks, total = row
            if "building" in str(phase):
                progress(_PHASES.get(str(phase), str(phase)), min(int(tuples or 0), rows), rows)
            else:
                progress(_PHASES.get(str(phase), str(phase)), int(blocks or 0), int(total) or None if total else None)


def _bound(conn: psycopg.Connection) -> int:
    """Return how much memory one build may take unasked: a quarter of this machine's where the private cluster runs on
    it, else as much as the server was given for its buffers, which is a quarter by the manual's advice.
    """
    return machine_memory() // 4 if is_private(conn) else _setting_bytes(conn, "shared_buffers")


def _setting_bytes(conn: psycopg.Connection, name: str) -> int:
    row = conn.execute("select pg_catalog.pg_size_bytes(current_setting(%s))", [name]).fetchone()
    assert row is not None
    return int(row[0])
