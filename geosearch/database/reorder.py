"""`geosearch space reorder`: a space's table is looked at, and brought back into order where that is worth it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from geosearch.database import index_build
from geosearch.database.connection import connect
from geosearch.database.index import drop_invalid
from geosearch.database.index_session import Progress, Say, Session, become_owner, session
from geosearch.database.reorder_beside import PATIENCE_S
from geosearch.database.reorder_copy import rebuild, remove_leftovers
from geosearch.database.reorder_disk import bytes_free, bytes_needed, check_disk
from geosearch.database.reorder_look import Look, look
from geosearch.database.spaces import get_space
from geosearch.errors import DatabaseError, GeosearchError, UnknownNameError

TINY = 5000  # vectors; below, a search reads all of them in a few milliseconds
AUTOMATIC_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Reordered:
    """What was found and done. done: reorder, reindex, vacuum, analyze or nothing; after: the look that followed."""

    space: str
    done: str
    dry_run: bool
    vectors: int
    out_of_order: float
    dead: float
    out_of_order_after: float
    seconds: float


def reorder(
    url: str | None,
    name: str,
    *,
    rebuild_always: bool = False,
    force: bool = False,
    dry_run: bool = False,
    memory: str | None = None,
    patience_s: float = PATIENCE_S,
    progress: Progress | None = None,
    say: Say = lambda _: None,
) -> Reordered:
    """Look at a space's table and do what it needs, while others read and write.

    Out of order: a new table and index are built beside and swapped in. In order, but a tenth of its rows dead: its
    index is built anew, then the table vacuumed; without an index it is vacuumed. Else its statistics are taken anew,
    or nothing is done. rebuild_always: build anew whatever is found. force: also where free disk cannot be seen.
    dry_run: say what would be done.

    Raises UnknownNameError, and DatabaseError: not the owner, another session is at it, too little disk, objects of
    others on the table, or no moment for the swap within patience_s.
    """
    start = time.monotonic()
    if dry_run:
        with connect(url, autocommit=True) as conn:
            before = look(conn, get_space(conn, name))
        done = "reorder" if rebuild_always and before.vectors else before.action
        return _account(before, before, done, True, start)
    with session(url, name) as work:
        remove_leftovers(work)
        before = look(work.conn, work.space)
        done = "reorder" if rebuild_always and before.vectors else before.action
        work.conn.add_notice_handler(lambda notice: say(notice.message_primary or ""))
        if done == "reorder":
            check_disk(work, force, say)
            rebuild(work, memory=memory, patience_s=patience_s, progress=progress, say=say)
        elif done == "reindex":
            _reindex(work, memory, progress, say)
        elif done in ("vacuum", "analyze"):
            how = "vacuum (analyze)" if done == "vacuum" else "analyze"
            work.conn.execute(sql.SQL(how + " {}").format(work.space.table))
        work.conn.execute("select geosearch.count_cells(%s)", [name])
        return _account(before, look(work.conn, get_space(work.conn, name)), done, False, start)


def restore_order(
    database: str | None,
    name: str,
    say: Say = lambda _: None,
    *,
    only_tell: bool = False,
    progress: Progress | None = None,
) -> None:
    """Do after a run that wrote many rows what searches need: count the cells, and restore the order where it is lost.

    Never fails the run: where the order cannot be restored (not the owner, too little or unknown disk, another session
    at it), or only_tell is set, `say` is told the command to run later.
    """
    with connect(database, autocommit=True) as conn:
        (count,) = conn.execute("select geosearch.count_cells(%s)", [name]).fetchone() or (0,)
        if int(str(count)) < TINY:
            return
        space = get_space(conn, name)
        found = look(conn, space)
        if found.action != "reorder":
            return
        later = f"searches of space {name} would be faster in order; run: geosearch space reorder {name}"
        if only_tell:
            say(later)
            return
        try:
            become_owner(conn, space)
        except DatabaseError:
            say(f"{later}, as the owner of its table")
            return
        free = bytes_free(conn, space)
        if free is None or free < bytes_needed(conn, space):
            say(f"{later} --force" if free is None else f"{later}, when the server has more free disk")
            return
    say(f"putting space {name} in order")
    try:
        reorder(database, name, patience_s=AUTOMATIC_PATIENCE_S, progress=progress, say=say)
    except (GeosearchError, psycopg.Error) as error:
        if isinstance(error, UnknownNameError):
            return  # dropped meanwhile
        say(f"{later} ({str(error).strip()})")


def _reindex(work: Session, memory: str | None, progress: Progress | None, say: Say) -> None:
    """Build the index anew and only then let VACUUM look through it: the other way round takes twice the build."""
    drop_invalid(work)
    index_build.prepare(work, work.space.count, index_build.M, memory, say)
    statement = sql.SQL("reindex index concurrently {}").format(sql.Identifier("geosearch", work.index))
    try:
        with index_build.watched(work, work.space.count, progress):
            work.conn.execute(statement)
    except BaseException:
        with suppress(psycopg.Error):
            drop_invalid(work)
        raise
    work.conn.execute(sql.SQL("vacuum (analyze) {}").format(work.space.table))


def _account(before: Look, after: Look, done: str, dry_run: bool, start: float) -> Reordered:
    return Reordered(
        before.space, done, dry_run, after.vectors, before.out_of_order, before.dead, after.out_of_order,
        round(time.monotonic() - start, 1),
    )  # fmt: skip
