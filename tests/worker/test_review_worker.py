"""What a sceptic tried: transactions left open, errors that take the question with them, odd clocks."""

from __future__ import annotations

import psycopg
import pytest
from worker_helpers import ask, eventually

from geosearch.worker import claims


def test_who_deletes_a_question_and_does_not_commit_stops_no_worker(archive, database_url, login, start):
    """The question is being answered; the others are answered all the same, by the same session."""
    with psycopg.connect(login("ask")) as asker, psycopg.connect(database_url) as blocker:
        slow = ask(asker, like=archive.ids[0])
        asker.commit()
        blocker.execute("lock table geosearch.space_four in access exclusive mode")  # so that it is caught at work
        worker = start(database_url).listens()
        archive.until("working", slow)
        asker.execute("delete from geosearch.query where id = %s", [slow])
        blocker.rollback()
        worker.says(f"question {slow}: deleted or locked meanwhile")
        archive.until("done", archive.ask(like=1))
        # Kept after all, it is taken up again.
        asker.rollback()
        archive.until("done", slow)
    assert worker.end() == 0
    assert not [line for line in worker.said if "database is away" in line]


def test_a_claim_that_is_being_deleted_is_given_back_without_waiting_for_the_end(archive, database_url):
    question = archive.ask(like=0)
    with psycopg.connect(database_url, autocommit=True) as worker, psycopg.connect(database_url) as other:
        claimed = claims.claim(worker, "here:1")
        assert claimed.id == question
        other.execute("delete from geosearch.query where id = %s", [question])
        claims.give_back(worker, claimed)
        assert not claims.fail(worker, claimed, "too hard")
        assert worker.execute("show lock_timeout").fetchone() == ("0",)
        other.rollback()
    assert archive.facts(question, "state") == ("working",)
    eventually(lambda: archive.conn.execute("select geosearch.listening_workers()").fetchone() == (0,))


def test_waiting_in_the_asking_transaction_says_that_the_question_is_gone(archive):
    with pytest.raises(psycopg.errors.ActiveSqlTransaction) as caught:
        archive.conn.execute("select geosearch.wait(geosearch.ask('snow'))")
    assert "takes the question back" in caught.value.diag.message_hint
    assert archive.conn.execute("select count(*) from geosearch.query").fetchone() == (0,)


@pytest.mark.parametrize("seconds", [None, -1, float("nan"), 1e9])
def test_ask_and_wait_refuses_a_time_before_anything_is_saved(archive, seconds):
    with pytest.raises(psycopg.DataError, match="timeout_s is"):
        archive.conn.execute("call geosearch.ask_and_wait('snow', timeout_s => %s)", [seconds])
    assert archive.conn.execute("select count(*) from geosearch.query").fetchone() == (0,)


def test_a_span_that_ends_before_it_begins_is_refused_at_once(archive):
    with pytest.raises(psycopg.DataError, match="no time lies from") as caught:
        archive.conn.execute("select geosearch.ask('a', captured_from => '2020-01-01', captured_to => '2019-01-01')")
    assert caught.value.diag.message_hint


@pytest.mark.parametrize("group", ["read", "ask"])
def test_a_login_that_may_not_answer_is_told_so_and_the_worker_ends(archive, login, start, group):
    """Not: it listens, tries again for ever, and says that the database is away."""
    code, _ = start(login(group), "--once").finish()
    assert code == 1


@pytest.mark.parametrize(
    "setting", ["default_transaction_isolation = 'serializable'", "default_transaction_read_only = on"]
)
def test_workers_share_questions_whatever_their_logins_are_set_to(archive, database_url, login, start, setting):
    url = login("ingest")
    user = psycopg.conninfo.conninfo_to_dict(url)["user"]
    archive.conn.execute(f"alter role {user} set {setting}")
    questions = [archive.ask(like=n % 5) for n in range(60)]
    workers = [start(url).listens() for _ in range(2)]
    for question in questions:
        archive.until("done", question)
        assert archive.facts(question, "attempts") == (1,)
    assert [worker.end() for worker in workers] == [0, 0]
    assert not [line for worker in workers for line in worker.said if "away" in line]


def test_what_a_stranger_wrote_forges_no_line_of_the_log(archive, start):
    forged = "x\nquestion 1 done in 0.01 s: 10 images\r\x1b[2J"
    question = archive.conn.execute(
        'insert into geosearch.query ("like", archive) values (%s, %s) returning id', [archive.ids[0], forged]
    ).fetchone()[0]
    worker = start(archive.url, "--once")
    assert worker.finish()[0] == 3
    assert forged[:15] in archive.facts(question, "reason")[0]
    assert not [line for line in worker.said if line.startswith("question 1 done")]
    assert "\x1b" not in "".join(worker.said)


def test_a_layer_shows_the_beginning_of_a_long_question(archive, start):
    archive.ask(text="snow " * 1000, like=0, **{"lambda": 0})
    assert start(archive.url, "--once").finish()[0] == 0
    rows = archive.conn.execute("select query from geosearch.latest_ranking").fetchall()
    assert rows
    assert {len(row[0]) for row in rows} == {200}
