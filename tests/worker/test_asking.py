"""Asking and waiting in SQL: what is refused, when, and what is said. No worker works here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from worker_helpers import ask, eventually

from geosearch.worker import claims
from geosearch.worker.run import Worker

REFUSED = [
    ({}, "nothing is asked for"),
    ({"text": " \n"}, "the text is empty"),
    ({"like": 1, "image_uri": "x.png"}, "two pictures"),
    ({"image": b"x", "image_uri": "x.png"}, "two pictures"),
    ({"image": b""}, "the picture is empty"),
    ({"text": "x" * 10_001}, "too large"),
    ({"image": bytes(20 * 1024 * 1024 + 1)}, "too large"),
    ({"text": "x", "k": 0}, "k is 0"),
    ({"text": "x", "k": 10_001}, "k is 10001"),
    ({"text": "x", "lambda": 1.5}, "lambda is 1.5"),
    ({"text": "x", "lambda": float("nan")}, "lambda is NaN"),
    ({"text": "x", "radius_m": float("inf")}, "radius_m is Infinity"),
    ({"text": "x", "near": "POINT EMPTY"}, "empty geography"),
    ({"text": "x", "strategy": "magic"}, "no strategy"),
    ({"text": "x", "space": "nowhere"}, "no space is named 'nowhere'"),
    ({"text": "x", "archive": "atlantis"}, "no archive is named 'atlantis'"),
]


def test_what_cannot_be_answered_is_refused_at_once_with_a_hint(archive):
    for arguments, words in REFUSED:
        with pytest.raises((psycopg.DataError, psycopg.errors.UndefinedObject), match=words) as caught:
            ask(archive.conn, **arguments)
        assert caught.value.diag.message_hint
    assert archive.conn.execute("select count(*) from geosearch.query").fetchone() == (0,)


def test_like_needs_no_quotation_marks_and_the_order_of_arguments_is_as_documented(archive):
    row = archive.conn.execute(
        "select geosearch.ask(like => %s, near => 'POINT(1 2)', radius_m => 5, k => 3)", [archive.ids[0]]
    ).fetchone()
    facts = archive.facts(row[0], "like", "radius_m", "k", "lambda", "state", "asked_by")
    assert facts == (archive.ids[0], 5.0, 3, None, "waiting", "geosearch")
    positional = archive.conn.execute("select geosearch.ask('snow')").fetchone()[0]
    assert archive.facts(positional, "text", "like") == ("snow", None)


def test_a_question_calls_those_who_listen_however_it_was_inserted(archive):
    heard = []
    archive.conn.add_notify_handler(lambda notify: heard.append(notify.channel))
    archive.conn.execute("listen geosearch_query")
    archive.ask(text="snow")
    archive.conn.execute("insert into geosearch.query (text) values ('a form in a map client')")
    archive.conn.execute("select 1")
    assert heard == ["geosearch_query"] * 2


def test_wait_says_that_nobody_listens_and_when_somebody_does_what_comes_first(archive, database_url):
    first, second = archive.ask(text="one"), archive.ask(text="two")
    with pytest.raises(psycopg.errors.QueryCanceled, match="no worker is listening") as caught:
        archive.conn.execute("select geosearch.wait(%s, 0.05)", [first])
    assert "geosearch worker" in caught.value.diag.message_hint
    with psycopg.connect(database_url, autocommit=True) as worker:
        claims.listen(worker)
        assert archive.conn.execute("select geosearch.listening_workers()").fetchone() == (1,)
        with pytest.raises(psycopg.errors.QueryCanceled, match="1 question is before it"):
            archive.conn.execute("select geosearch.wait(%s, 0.05)", [second])
        question = claims.claim(worker, "here:1")
        assert question.id == first
        with pytest.raises(psycopg.errors.QueryCanceled, match="a worker is at it"):
            archive.conn.execute("select geosearch.wait(%s, 0.05)", [first])
        claims.fail(worker, question, "too \0 hard")
        with pytest.raises(psycopg.errors.RaiseException, match=f"question {first} failed: too . hard"):
            archive.conn.execute("select geosearch.wait(%s, 0)", [first])
    eventually(lambda: archive.conn.execute("select geosearch.listening_workers()").fetchone() == (0,))


def test_a_lock_that_anybody_may_take_makes_nobody_a_worker(archive, login):
    with psycopg.connect(login("ask"), autocommit=True) as pretender:
        claims.listen(pretender)
        assert archive.conn.execute("select geosearch.listening_workers()").fetchone() == (0,)


def test_wait_sees_an_answer_that_comes_while_it_waits(archive, database_url):
    question = archive.ask(like=0)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(database_url, autocommit=True) as worker:
        waiting = pool.submit(lambda: archive.conn.execute("select geosearch.wait(%s, 30)", [question]).fetchone())
        claimed = claims.claim(worker, "here:1")
        assert not waiting.done()
        claims.finish(worker, claimed, [claims.Answer(1, archive.ids[0], 1.0, None)], "four", None)
        assert waiting.result(30) == (1,)


def test_wait_is_refused_where_no_answer_can_be_seen(archive):
    question = archive.ask(text="snow")
    for level in ("repeatable read", "serializable"):
        archive.conn.execute(f"set default_transaction_isolation = '{level}'")
        for statement in (f"select geosearch.wait({question})", "call geosearch.ask_and_wait('snow')"):
            with pytest.raises(psycopg.errors.ActiveSqlTransaction, match="never sees an answer") as caught:
                archive.conn.execute(statement)
            assert "read committed" in caught.value.diag.message_hint.lower()
    assert archive.conn.execute("select count(*) from geosearch.query").fetchone() == (1,)


def test_wait_is_refused_in_the_asking_transaction_also_below_a_savepoint(archive):
    refused = psycopg.errors.ActiveSqlTransaction
    with pytest.raises(refused, match="in this very transaction") as caught, archive.conn.transaction():
        question = archive.ask(text="snow")
        archive.conn.execute("select geosearch.wait(%s)", [question])
    assert "takes the question back" in caught.value.diag.message_hint
    with pytest.raises(refused, match="in this very transaction"), archive.conn.transaction():
        with archive.conn.transaction():
            question = archive.ask(text="snow")
        archive.conn.execute("select geosearch.wait(%s)", [question])


def test_wait_in_another_transaction_than_the_asking_one_is_not_refused(archive):
    question = archive.ask(text="snow")
    with pytest.raises(psycopg.errors.QueryCanceled, match="no worker"), archive.conn.transaction():
        archive.conn.execute("insert into geosearch.archive (name) values ('gives this transaction a number')")
        archive.conn.execute("select geosearch.wait(%s, 0)", [question])


def test_wait_wants_a_time_and_a_question(archive):
    for timeout in (-1, float("nan"), float("inf"), None, 1e6):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="timeout_s is"):
            archive.conn.execute("select geosearch.wait(1, %s)", [timeout])
    for question in (None, 4711):
        with pytest.raises(psycopg.errors.NoDataFound, match="no question"):
            archive.conn.execute("select geosearch.wait(%s)", [question])


def test_ask_and_wait_keeps_the_question_when_the_time_is_over(archive):
    with pytest.raises(psycopg.errors.QueryCanceled, match="no worker is listening"):
        archive.conn.execute("call geosearch.ask_and_wait('snow', k => 3, timeout_s => 0.05)")
    assert archive.conn.execute("select text, k, state from geosearch.query").fetchall() == [("snow", 3, "waiting")]


def test_ask_and_wait_names_the_two_steps_where_it_may_not_commit_and_saves_nothing(archive):
    call = "call geosearch.ask_and_wait('snow', timeout_s => 0"
    in_function = f"declare id bigint; begin {call}, id => id); end"
    for statement in (
        f"begin; {call})",
        f"select 1; {call})",
        f"create function pg_temp.f() returns void language plpgsql as $$ {in_function} $$; select pg_temp.f()",
        f"begin; do $$ {in_function} $$",
    ):
        for part in statement.split("; ", 1) if statement.startswith("begin") else [statement]:
            if part == "begin":
                archive.conn.execute(part)
                continue
            with pytest.raises(psycopg.errors.InvalidTransactionTermination, match="ask_and_wait commits") as caught:
                archive.conn.execute(part)
        hint = caught.value.diag.message_hint
        assert "geosearch.ask" in hint
        assert "geosearch.wait" in hint
        archive.conn.execute("rollback")
    assert archive.conn.execute("select count(*) from geosearch.query").fetchone() == (0,)


HOSTILE = [
    "'",
    "''; drop table geosearch.query; --",
    "$$; select 1; $$",
    "%s %(id)s {0} {}",
    "\\'; --",
    '"; --',
    "a\nb",
]


def test_no_text_becomes_sql(archive):
    for text in HOSTILE:
        for arguments in ({"text": text}, {"image_uri": text}):
            question = ask(archive.conn, **arguments)
            assert archive.facts(question, *arguments) == (text,)
        for name in ("space", "archive", "strategy"):
            with pytest.raises((psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue)) as caught:
                ask(archive.conn, text="x", **{name: text})
            assert caught.value.diag.message_primary.startswith("no ")
            # The same by an insert, which nothing checks: the worker is asked.
            archive.conn.execute(
                f'insert into geosearch.query ("like", {name}) values (%s, %s)', [archive.ids[0], text]
            )
    counts = Worker(archive.url, once=True, embed=False).run()
    assert (counts.answered, counts.failed) == (0, 5 * len(HOSTILE))
    reasons = {reason for (reason,) in archive.conn.execute("select reason from geosearch.query").fetchall()}
    assert not [reason for reason in reasons if "syntax" in reason]
