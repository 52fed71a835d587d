"""Workers that are killed, many at once, servers that go away: every question is answered, and once."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from worker_helpers import Archive, eventually, fill

from geosearch.worker import claims


@contextmanager
def held(archive: Archive) -> Iterator[None]:
    """While this lasts no search ends: the vectors are locked."""
    with psycopg.connect(archive.url) as other:
        other.execute("lock table geosearch.space_four in access exclusive mode")
        yield
        other.rollback()


@contextmanager
def answers_held(archive: Archive) -> Iterator[None]:
    """While this lasts no answer can be written down."""
    with psycopg.connect(archive.url) as other:
        other.execute("lock table geosearch.ranking in exclusive mode")
        yield
        other.rollback()


def test_a_question_of_a_killed_worker_is_taken_up_by_the_next(archive, start):
    """Killed in the search, then in writing the answer: two deaths of two questions, and no answer is half there."""
    for hold in (held, answers_held):
        question = archive.ask(like=1, k=3)
        with hold(archive):
            first = start(archive.url).listens()
            archive.until("working", question)
            time.sleep(0.2)  # well inside
            first.kill()
        assert archive.facts(question)[:3] == ("working", 1, 0)
        assert archive.ranked(question) == []
        second = start(archive.url)
        archive.until("done", question)
        assert archive.facts(question)[:3] == ("done", 2, 1)
        assert archive.ranked(question) == [archive.ids[i] for i in (1, 2, 0)]
        assert second.end() == 0


def test_a_question_that_kills_its_worker_twice_is_failed_and_others_go_on(archive, start):
    deadly, harmless = archive.ask(like=0), archive.ask(like=1)
    for killed in range(2):
        with held(archive):
            worker = start(archive.url).listens()
            eventually(lambda times=killed + 1: archive.facts(deadly)[:3] == ("working", times, times - 1))
            worker.kill()
    worker = start(archive.url)
    archive.until("done", harmless)
    state, attempts, killed, reason = archive.facts(deadly)
    assert (state, attempts, killed) == ("failed", 2, 2)
    assert "its worker ended 2 times without an answer" in reason
    with pytest.raises(psycopg.errors.RaiseException, match="ended 2 times"):
        archive.conn.execute("select geosearch.wait(%s, 0)", [deadly])


def test_several_workers_answer_many_questions_each_once_while_some_are_killed(archive, start):
    archive.conn.execute("create table answered (id bigint, attempt int, worker text)")
    archive.conn.execute(
        "create function note() returns trigger language plpgsql as $$ begin if new.state = 'done' then"
        " insert into answered values (new.id, new.attempts, new.worker); end if; return null; end $$"
    )
    archive.conn.execute("create trigger note after update on geosearch.query for each row execute function note()")
    questions = [archive.ask(like=i % 5, k=1 + i % 5) for i in range(150)]
    workers = [start(archive.url) for _ in range(3)]
    workers[0].listens()
    eventually(lambda: archive.conn.execute("select count(*) > 20 from answered").fetchone() == (True,))
    workers[0].kill()
    questions += [archive.ask(like=i % 5, k=1 + i % 5) for i in range(150)]
    eventually(
        lambda: archive.conn.execute("select count(*) from geosearch.query where state <> 'done'").fetchone() == (0,)
    )
    for worker in workers[1:]:
        assert worker.end() == 0
    answered = Counter(row[0] for row in archive.conn.execute("select id from answered").fetchall())
    assert answered == dict.fromkeys(questions, 1)
    for i, question in enumerate(questions):
        expected = archive.conn.execute(
            "select image_id from geosearch.similar(%s, 'four', k => %s) order by rank",
            [archive.ids[i % 5], 1 + (i % 150) % 5],
        ).fetchall()
        assert archive.ranked(question) == [row[0] for row in expected]
    both = archive.conn.execute("select count(distinct worker) from answered").fetchone()
    assert both is not None
    assert both[0] >= 2


def test_an_attempt_that_is_no_longer_the_current_one_writes_nothing(archive, database_url):
    """A machine that slept: its connection ended, another worker took the question, and then it wakes."""
    question = archive.ask(like=0)
    with (
        psycopg.connect(database_url, autocommit=True) as slow,
        psycopg.connect(database_url, autocommit=True) as next_,
    ):
        old = claims.claim(slow, "slow:1")
        claims.release(slow, old)  # as the end of its connection does
        new = claims.claim(next_, "next:1")
        assert (new.id, new.attempt) == (question, 2)
        answer = claims.Answer(1, archive.ids[0], 1.0, None)
        assert claims.finish(slow, old, [answer], "four", None) is False
        assert claims.fail(slow, old, "too late") is False
        claims.give_back(slow, old)
        assert archive.facts(question)[:3] == ("working", 2, 1)
        assert claims.finish(next_, new, [answer], "four", None) is True
        assert claims.finish(next_, new, [answer], "four", None) is False
    assert archive.ranked(question) == [archive.ids[0]]


def test_no_two_workers_claim_one_question(archive, database_url):
    questions = {archive.ask(like=0) for _ in range(3)}
    with psycopg.connect(database_url, autocommit=True) as one, psycopg.connect(database_url, autocommit=True) as two:
        taken = [claims.claim(one, "1"), claims.claim(two, "2"), claims.claim(one, "1")]
        assert {question.id for question in taken} == questions
        assert claims.claim(two, "2") is None
        claims.give_back(one, taken[0])
        assert claims.claim(two, "2").id == taken[0].id
        assert archive.facts(taken[0].id)[:3] == ("working", 2, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_gives_back_what_it_has_in_hand(archive, start, number):
    question = archive.ask(like=0)
    with held(archive):
        worker = start(archive.url).listens()
        archive.until("working", question)
        time.sleep(0.2)
        began = time.monotonic()
        assert worker.end(number) == 0
        assert time.monotonic() - began < 20  # not after the search's own limit of a minute
        assert archive.facts(question) == ("waiting", 1, 0, None)
    assert f"question {question}: given back" in worker.said
    assert archive.conn.execute("select geosearch.listening_workers()").fetchone() == (0,)


def test_a_search_that_takes_too_long_fails_and_the_worker_goes_on(archive, start):
    slow = archive.ask(like=0)
    with held(archive):
        worker = start(archive.url, "--time-limit", "1").listens()
        archive.until("failed", slow)
    assert "longer than 1 s" in archive.facts(slow, "reason")[0]
    quick = archive.ask(like=0)
    archive.until("done", quick)
    assert worker.end() == 0


def test_a_worker_whose_connection_is_ended_comes_back(archive, start, superuser_url):
    worker = start(archive.url).listens()
    with psycopg.connect(superuser_url, autocommit=True) as admin:
        ended = admin.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'geosearch worker' and datname = current_database()"
        ).fetchone()
        assert ended == (1,)
    worker.says("the database is away")
    question = archive.ask(like=0)
    archive.until("done", question)
    assert worker.end() == 0


def test_a_server_that_restarts_while_a_question_is_worked_at_is_survived(start):
    from geosearch.database import server
    from geosearch.database.connection import connect
    from geosearch.database.migrate import migrate

    home = Path(tempfile.mkdtemp(prefix="gs-worker-"))
    home.chmod(0o755)
    try:
        url = server.ensure_running(home)
        migrate(url)
        with connect(url) as conn:
            archive = fill(url, conn)
            question = archive.ask(like=2)
            holding = psycopg.connect(url)
            holding.execute("lock table geosearch.space_four in access exclusive mode")
            worker = start(url).listens()
            archive.until("working", question)
        pid = server.status(home).pid
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)  # at once, as a crash
        holding.close()
        worker.says("the database is away")
        assert worker.process.poll() is None
        eventually(lambda: server.status(home).state != "running")
        # It must not start a server that somebody stopped; whoever wants one starts it.
        time.sleep(1)
        assert server.status(home).state == "stopped"
        server.ensure_running(home)
        with connect(url, autocommit=True) as archive.conn:
            assert archive.conn.execute("select geosearch.wait(%s, 30)", [question]).fetchone() == (5,)
            assert archive.facts(question)[:3] == ("done", 2, 1)
        assert worker.end() == 0
    finally:
        server.stop(home)
        import shutil

        shutil.rmtree(home)


def test_once_answers_what_waits_and_says_by_its_status_whether_some_failed(archive, start):
    good = archive.ask(like=0)
    status, out = start(archive.url, "--once", "--json").finish()
    assert status == 0
    assert '"answered": 1' in out
    assert archive.ranked(good)
    archive.ask(like=0)
    archive.conn.execute('insert into geosearch.query ("like") values (4711)')
    status, out = start(archive.url, "--once").finish()
    assert status == 3
    assert "answered: 1" in out
    assert "failed:   1" in out


def test_a_database_that_is_not_there_at_the_start_is_an_error(start, database_url):
    worker = start(database_url.replace("gstest_", "gsgone_"))
    status, _ = worker.finish()
    assert status == 1
    assert "error: the database cannot be reached" in "\n".join(worker.said)
