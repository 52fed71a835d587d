"""Questions as work: claimed by one worker at a time, handed in once, taken up again when a worker is gone.

The attempt is committed before the work begins, and held by a session advisory lock: however a worker ends, its lock
ends with its connection, and a question in state 'working' whose lock is free is one that its worker left.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from geosearch.item import Place

# First keys of advisory locks, also in sql/60_queries.sql: a question that is worked at, and workers that listen.
QUESTION, LISTENING = 1735458816, 1735458817
MAX_KILLED = 2  # attempts that end without a word, before the question is taken for what ends them
HELD_S = 2  # a question that somebody is deleting, in a transaction left open, holds no worker for longer

_NEXT = """
    select q.id, q.state, q.killed, q.worker from geosearch.query q
    where q.state in ('waiting', 'working') and not exists (
        select from pg_catalog.pg_locks l
        where l.locktype = 'advisory' and l.classid = %(question)s and l.objid = (q.id & 2147483647)::oid
          and l.objsubid = 2
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))
    order by q.id limit 1 for update of q skip locked
"""
_TAKE = """
    update geosearch.query q
    set state = 'working', attempts = q.attempts + (%(killed)s < %(most)s)::int, killed = %(killed)s,
        worker = %(worker)s, started_at = clock_timestamp()
    where q.id = %(id)s
    returning q.id, q.attempts as attempt, q.text, q.image, q.image_uri, q."like" as like_id, q.lambda as weight,
              q.archive, q.space,
              case when geometrytype(q.near::geometry) = 'POINT' then st_y(q.near::geometry) end as near_lat,
              case when geometrytype(q.near::geometry) = 'POINT' then st_x(q.near::geometry) end as near_lon
"""
# The fence: nothing is written by an attempt that is no longer the current one.
_DONE = """
    update geosearch.query set state = 'done', answers = %(answers)s, searched_space = %(space)s, model = %(model)s,
        lambda = coalesce(%(weight)s, lambda), reason = null, answered_at = clock_timestamp()
    where id = %(id)s and attempts = %(attempt)s and state = 'working'
"""
_ANSWERS = """
    insert into geosearch.ranking (query_id, rank, image_id, similarity, distance_m)
    select %s, * from unnest(%s::int[], %s::bigint[], %s::float8[], %s::float8[])
"""
_FAILED = """
    update geosearch.query set state = 'failed', reason = %(reason)s, answered_at = clock_timestamp()
    where id = %(id)s and attempts = %(attempt)s and state = 'working'
"""
_BACK = """
    update geosearch.query set state = 'waiting', worker = null, started_at = null
    where id = %(id)s and attempts = %(attempt)s and state = 'working'
"""


@dataclass(frozen=True)
class Question:
    """What a worker has to know to make a vector; dates, filters and k never leave the database.

    attempt: the number of this attempt, by which its answer is accepted. like_id: a catalogued image.
    weight: λ, of the text where there is a picture too; None: the default of the space's model.
    near_lat, near_lon: the place near which it asks, in degrees; None where there is none, or a line or an area.
    """

    id: int
    attempt: int
    text: str | None
    image: bytes | None
    image_uri: str | None
    like_id: int | None
    weight: float | None
    archive: str | None
    space: str | None
    near_lat: float | None
    near_lon: float | None

    @property
    def place(self) -> Place | None:
        """Where its picture was taken from, for a model that reads nadirs; None: not known."""
        return None if self.near_lat is None or self.near_lon is None else Place(self.near_lat, self.near_lon)


class Answer(NamedTuple):
    """One image found: a row of `ranking`."""

    rank: int
    image_id: int
    similarity: float
    distance_m: float | None


def claim(conn: psycopg.Connection, worker: str) -> Question | None:
    """Return the first question that nobody works at, now this worker's; None where there is none.

    A question that ended its workers twice is failed instead. conn: in autocommit mode; it holds the claim.
    """
    while True:
        with conn.transaction():
            found = conn.execute(_NEXT, {"question": QUESTION}).fetchone()
            if found is None:
                return None
            question_id, state, killed, last = found
            # Another worker may have taken it since it was looked for; then its lock is seen the next time.
            if not _lock(conn, question_id):
                continue
            killed += state == "working"
            facts = {"id": question_id, "killed": killed, "most": MAX_KILLED, "worker": worker}
            question = conn.cursor(row_factory=class_row(Question)).execute(_TAKE, facts).fetchone()
        assert question is not None
        if killed < MAX_KILLED:
            return question
        fail(conn, question, f"its worker ended {killed} times without an answer, the last time as {last}: killed, out "
             "of memory, or the database server ended")  # fmt: skip


def finish(
    conn: psycopg.Connection,
    question: Question,
    answers: Sequence[Answer],
    space: str,
    model: str | None,
    weight: float | None = None,
) -> bool:
    """Write the answers and let the question go; False, and nothing written, where the attempt is not current.

    weight: the λ that was used, where there was one.
    """
    facts = {"answers": len(answers), "space": space, "model": model, "weight": weight}
    columns = [list(column) for column in zip(*answers, strict=True)] or [[], [], [], []]
    return _hand_in(conn, question, _DONE, facts, columns)


def fail(conn: psycopg.Connection, question: Question, reason: str) -> bool:
    """Record why a question cannot be answered and let it go; False where the attempt is not current."""
    reason = reason.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:4000]
    return _hand_in(conn, question, _FAILED, {"reason": reason})


def give_back(conn: psycopg.Connection, question: Question) -> None:
    """Let a question go unanswered, for the next worker; this counts as no worker's end."""
    with suppress(psycopg.errors.LockNotAvailable), conn.transaction():
        _hold(conn, question)
        conn.execute(_BACK, {"id": question.id, "attempt": question.attempt})
    release(conn, question)
    _notify(conn, "geosearch_query", "")  # after the lock is free, or who is called finds it held


def release(conn: psycopg.Connection, question: Question) -> None:
    """Free the lock of a question."""
    conn.execute("select pg_advisory_unlock(%s, %s)", [QUESTION, question.id & 0x7FFFFFFF])


def listen(conn: psycopg.Connection) -> None:
    """Be called at new questions and images, and be seen to listen."""
    conn.execute("listen geosearch_query")
    conn.execute("listen geosearch_image")
    conn.execute("select pg_try_advisory_lock_shared(%s, 0)", [LISTENING])


def may_answer(conn: psycopg.Connection) -> bool:
    """Tell whether this login may claim questions and write answers."""
    row = conn.execute(
        "select has_column_privilege('geosearch.query', 'state', 'update')"
        " and has_table_privilege('geosearch.ranking', 'insert')"
    ).fetchone()
    return row == (True,)


def waiting(conn: psycopg.Connection) -> int:
    """Return how many questions wait or are worked at."""
    row = conn.execute("select count(*) from geosearch.query where state in ('waiting', 'working')").fetchone()
    assert row is not None
    return int(row[0])


def _lock(conn: psycopg.Connection, question_id: int) -> bool:
    row = conn.execute("select pg_try_advisory_lock(%s, %s)", [QUESTION, question_id & 0x7FFFFFFF]).fetchone()
    return bool(row and row[0])


def _hand_in(
    conn: psycopg.Connection,
    question: Question,
    statement: str,
    facts: dict[str, Any],
    columns: list[Any] | None = None,
) -> bool:
    """End a question, with its answers where there are any, and let it go; False where the attempt is not current."""
    current = False
    # Locked by who deletes it: there may be nobody left to answer. If it stays, it is taken up again.
    with suppress(psycopg.errors.LockNotAvailable), conn.transaction():
        _hold(conn, question)
        if conn.execute(statement, {**facts, "id": question.id, "attempt": question.attempt}).rowcount == 1:
            if columns is not None:
                conn.execute(_ANSWERS, [question.id, *columns])
            _notify(conn, "geosearch_answer", str(question.id))
            current = True
    release(conn, question)
    return current


def _hold(conn: psycopg.Connection, question: Question) -> None:
    """Lock the row of a question. Raises LockNotAvailable where somebody else holds it."""
    conn.execute("select set_config('lock_timeout', %s, true)", [f"{HELD_S}s"])
    conn.execute("select from geosearch.query where id = %s for update", [question.id])
    conn.execute("select set_config('lock_timeout', '0', true)")


def _notify(conn: psycopg.Connection, channel: str, payload: str) -> None:
    conn.execute("select pg_notify(%s, %s)", [channel, payload])
