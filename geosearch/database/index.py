"""`geosearch space index`: the HNSW index of a space, built beside the work of others and begun anew after a kill."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from geosearch.database import index_build
from geosearch.database.index_session import LONGEST_INLINE, Progress, Say, Session, session
from geosearch.database.reorder_copy import rebuild
from geosearch.database.reorder_disk import check_disk
from geosearch.errors import InputError

SAMPLE = 20_000  # vectors of which the centre of a space is the mean


@dataclass(frozen=True)
class Indexed:
    """The index of a space as it now is. built: False where there was a valid one already."""

    space: str
    index: str
    form: str
    built: bool
    vectors: int
    megabytes: float
    seconds: float


def index_space(
    url: str | None,
    name: str,
    *,
    form: str | None = None,
    m: int = index_build.M,
    ef_construction: int = index_build.EF_CONSTRUCTION,
    memory: str | None = None,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> Indexed:
    """Build the HNSW index of a space and record it, while others read and write; say why it takes long where it does.

    form: 'halfvec' (of the vectors) or 'bit' (of their signs, the only form above 3 900 dimensions, and only there);
    None takes the one that fits. memory: see :func:`index_build.prepare`. A run that was killed, and what it left
    behind, is begun anew by the next. In bit form the centre of the space is learned first, and all signs with it.

    Raises UnknownNameError, InputError (another form, settings that pgvector refuses, no vectors to learn from),
    DatabaseError (not the owner; another session is at it).
    """
    start = time.monotonic()
    with session(url, name) as work:
        if form not in (None, work.form):
            raise InputError(
                f"space {name} has {work.space.dimension} dimensions and is indexed as {work.form}: vectors of up to "
                f"{LONGEST_INLINE} dimensions as halfvec, longer ones as bit"
            )
        if ef_construction < 2 * m:
            raise InputError(f"ef_construction must be at least twice m, and {ef_construction} is less than 2 × {m}")
        built = not is_valid(work)
        if built:
            work.conn.add_notice_handler(lambda notice: say(notice.message_primary or ""))
            index_build.prepare(work, work.space.count, m, memory, say)
            options = {"m": m, "ef_construction": ef_construction}
            if work.form == "bit" and not _has_centre(work):
                _build_with_centre(work, options, progress, say)
            else:
                _build(work, options, progress)
        record(work)
        row = work.conn.execute(
            "select pg_catalog.pg_relation_size(pg_catalog.to_regclass(%s))",
            [sql.Identifier("geosearch", work.index).as_string(work.conn)],
        ).fetchone()
        assert row is not None
        size = round(int(row[0]) / 1e6, 1)
        return Indexed(name, work.index, work.form, built, work.space.count, size, round(time.monotonic() - start, 1))


def drop_index(url: str | None, name: str) -> bool:
    """Remove the index of a space, and what a killed build left; return whether there was a valid one."""
    with session(url, name) as work:
        was = is_valid(work)
        # Searches stop to ask for it first.
        work.conn.execute("update geosearch.space set indexed_as = null where id = %s", [work.space.id])
        drop_invalid(work)
        if was:
            statement = sql.SQL("drop index concurrently if exists {}")
            work.conn.execute(statement.format(sql.Identifier("geosearch", work.index)))
        return was


def is_valid(work: Session) -> bool:
    """Return whether the space has its index, whole."""
    row = work.conn.execute(
        "select i.indisvalid and i.indisready from pg_catalog.pg_index i"
        " where i.indexrelid = pg_catalog.to_regclass(%s) and i.indrelid = pg_catalog.to_regclass(%s)",
        [sql.Identifier("geosearch", work.index).as_string(work.conn), work.space.table.as_string(work.conn)],
    ).fetchone()
    return row == (True,)


def drop_invalid(work: Session) -> int:
    """Drop the unfinished HNSW indexes that killed builds left: they cost every writer and serve nobody."""
    rows = work.conn.execute(
        "select c.relname from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid"
        " join pg_catalog.pg_am a on a.oid = c.relam"
        " where i.indrelid = pg_catalog.to_regclass(%s) and not i.indisvalid and a.amname = 'hnsw'",
        [work.space.table.as_string(work.conn)],
    ).fetchall()
    for (index,) in rows:
        statement = sql.SQL("drop index concurrently if exists {}")
        work.conn.execute(statement.format(sql.Identifier("geosearch", str(index))))
    return len(rows)


def record(work: Session) -> None:
    """Tell searches of the index, now that it is whole."""
    work.conn.execute(
        "update geosearch.space set indexed_as = %s where id = %s and indexed_as is distinct from %s",
        [work.form, work.space.id, work.form],
    )


def _build(work: Session, options: dict[str, int], progress: Progress | None) -> None:
    drop_invalid(work)
    statement = index_build.create(work, work.index, work.space.table, options, concurrently=True)
    try:
        with index_build.watched(work, work.space.count, progress):
            work.conn.execute(statement)
    except BaseException:
        with suppress(psycopg.Error):
            drop_invalid(work)
        raise
    if not is_valid(work):
        raise AssertionError(f"index {work.index} was built and is not valid")


def _has_centre(work: Session) -> bool:
    row = work.conn.execute("select centre is not null from geosearch.space where id = %s", [work.space.id]).fetchone()
    return row == (True,)


def _build_with_centre(work: Session, options: dict[str, int], progress: Progress | None, say: Say) -> None:
    """Learn the centre and put a table with the signs less that centre, and their index, in the place of the old one.

    Signs of vectors that all lie to one side of the origin say little; less the mean they halve every dimension.
    """
    if not work.space.count:
        raise InputError(
            f"space {work.space.name} has no vectors yet, and its index is of signs about their mean. Fill it first."
        )
    check_disk(work, True, say)
    if progress:
        progress("learning the centre", 0, None)
    share = min(100.0, 110.0 * SAMPLE / work.space.count)
    statement = sql.SQL(
        "select avg(l2_normalize(embedding))::text from (select embedding from {table} tablesample bernoulli ({share})"
        " limit {sample}) picked"
    ).format(table=work.space.table, share=sql.Literal(share), sample=sql.Literal(SAMPLE))
    row = work.conn.execute(statement).fetchone()
    if row is None or row[0] is None:
        raise InputError(f"no vector of space {work.space.name} was left to learn its centre from. Fill it first.")
    rebuild(work, centre=str(row[0]), index_options=options, progress=progress, say=say)
