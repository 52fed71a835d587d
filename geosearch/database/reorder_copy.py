"""A space's table built anew beside the old one, in the order of cell, and put in its place.

1. A log and its trigger on the old table are committed: from then on every change there is noted.
2. The new table is filled, gets its keys and its index, and rows that changed meanwhile are copied again, round by
   round, until few are left. All columns are copied as they are: versions, too, are those of the old table.
3. Rows and versions of both tables are compared.
4. The tables are swapped (`reorder_swap`).
A run that is killed leaves a second table, a log and a trigger, which the next run takes away.
"""

from __future__ import annotations

from contextlib import suppress

import psycopg
from psycopg import sql

from geosearch.database import index_build
from geosearch.database.index_session import Progress, Say, Session
from geosearch.database.reorder_beside import PATIENCE_S, Beside, catch_up
from geosearch.database.reorder_swap import swap
from geosearch.database.reorder_table import carry_over, columns_of, present_index, use_tablespace_of
from geosearch.database.reorder_wait import lock_patiently
from geosearch.errors import DatabaseError

CLEANING_PATIENCE_S = 5.0  # after a failure; what cannot be removed then, the next run removes


def rebuild(
    work: Session,
    *,
    centre: str | None = None,
    index_options: dict[str, int] | None = None,
    memory: str | None = None,
    patience_s: float = PATIENCE_S,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> int:
    """Build the table anew in the order of cell and put it in the old one's place; return how many rows it has.

    centre: a new centre of the space, from which all signs are made anew. index_options: also build an index; None
    builds one only where the space has one. Readers and writers go on all the while but for less than a second.
    Raises DatabaseError, with nothing changed, when objects of others hang on the table, or when transactions of
    others hold it for longer than patience_s.
    """
    remove_leftovers(work)
    beside = Beside(work, centre, index_options, patience_s)
    beside.columns = columns_of(work)
    if beside.index_options is None:
        beside.index_options = present_index(work)
    try:
        _start_log(beside)
        _report(progress, "copying in the order of cells")
        _fill(beside)
        if beside.index_options is not None:
            index_build.prepare(work, work.space.count, beside.index_options["m"], memory, say)
            statement = index_build.create(
                work, beside.new_name + "_hnsw_idx", beside.new, beside.index_options, concurrently=False
            )
            with index_build.watched(work, work.space.count, progress):
                work.conn.execute(statement)
        _report(progress, "catching up")
        catch_up(beside, work.conn)
        _report(progress, "comparing both tables")
        rows = _compare(beside)
        _report(progress, "waiting for a moment to swap")
        swap(beside, say)
    except BaseException:
        with suppress(psycopg.Error, DatabaseError):
            remove_leftovers(work, CLEANING_PATIENCE_S)
        raise
    # First what this session has not yet reported of its own inserts: later they would count as changes since.
    work.conn.execute("select pg_stat_force_next_flush()")
    beside.run(work.conn, "vacuum (analyze) {old}")
    return rows


def remove_leftovers(work: Session, patience_s: float = PATIENCE_S) -> None:
    """Remove what a killed rebuild left of this space, and of spaces that are no more."""
    beside = Beside(work, None, None)
    conn = work.conn
    if conn.execute(
        "select 1 from pg_catalog.pg_trigger"
        " where tgrelid = pg_catalog.to_regclass(%s) and tgname in ('reorder_log', 'reorder_log_all')",
        [work.space.table.as_string(conn)],
    ).fetchone():
        # The trigger before the table that it writes into: writers would fail in between.
        with lock_patiently(conn, [beside.old], "access exclusive", patience_s):
            beside.run(conn, "drop trigger if exists reorder_log on {old}")
            beside.run(conn, "drop trigger if exists reorder_log_all on {old}")
    beside.run(conn, "set client_min_messages = warning")
    beside.run(conn, "drop table if exists {new}, {log}")
    rows = conn.execute(
        "select c.relname from pg_catalog.pg_class c where c.relnamespace = 'geosearch'::regnamespace"
        " and c.relkind = 'r' and c.relname ~ '^reorder_[0-9]+(_log)?$'"
        " and not exists (select from geosearch.space s where s.id = split_part(c.relname, '_', 2)::int)"
    ).fetchall()
    for (name,) in rows:
        conn.execute(sql.SQL("drop table if exists {}").format(sql.Identifier("geosearch", str(name))))
    beside.run(conn, "reset client_min_messages")


def _start_log(beside: Beside) -> None:
    conn = beside.work.conn
    # After every running writer has ended, so that there is none whose changes are neither copied nor noted.
    with lock_patiently(conn, [beside.old], "share row exclusive", beside.patience_s):
        beside.run(conn, "create table {log} (image_id bigint)")
        conn.execute(
            sql.SQL("comment on table {} is {}").format(
                beside.log,
                sql.Literal(f"Rows of space {beside.work.space.name} that changed while `space reorder` copies them."),
            )
        )
        trigger = sql.SQL(
            "create trigger reorder_log after insert or update or delete on {old} for each row"
            " execute function geosearch.log_space_change({log});"
            "create trigger reorder_log_all after truncate on {old} for each statement"
            " execute function geosearch.log_space_change({log})"
        )
        conn.execute(trigger.format(old=beside.old, log=sql.Literal(beside.new_name + "_log")))


def _fill(beside: Beside) -> None:
    work, conn = beside.work, beside.work.conn
    with conn.transaction():
        use_tablespace_of(work)
        # The sort takes whole rows. Its files, where they do not fit, are as large as the table.
        conn.execute("select set_config('work_mem', current_setting('maintenance_work_mem'), true)")
        conn.execute(
            "select geosearch.create_space_table(%s, %s, %s)",
            [beside.new_name, work.space.name, work.space.dimension],
        )
        carry_over(work, beside.new)
        beside.run(conn, "insert into {new} ({columns}) select {values} from {old} order by cell, image_id")
        conn.execute("select geosearch.add_space_keys(%s)", [beside.new_name])
    beside.run(conn, "analyze {new}")


def _compare(beside: Beside) -> int:
    """Return how many rows the old table has; in one snapshot, whatever differs in the new one must be in the log."""
    told = [column for column in beside.columns if column not in ("image_id", "embedding", "code")]
    differs = sql.SQL(" or ").join(
        sql.SQL("o.{0} is distinct from n.{0}").format(sql.Identifier(column)) for column in told
    )
    statement = sql.SQL(
        "select count(o.image_id), count(n.image_id), count(*) filter (where ({differs}) and not exists"
        " (select from {log} l where l.image_id is null or l.image_id = coalesce(o.image_id, n.image_id)))"
        " from {old} o full join {new} n on n.image_id = o.image_id"
    )
    row = beside.work.conn.execute(statement.format(differs=differs, **beside.names())).fetchone()
    assert row is not None
    before, after, wrong = row
    if wrong:  # a defect here, never the user's
        raise AssertionError(f"{before} rows in, {after} rows out, {wrong} of them not the same; nothing was changed")
    return int(before)


def _report(progress: Progress | None, what: str) -> None:
    if progress:
        progress(what, 0, None)
