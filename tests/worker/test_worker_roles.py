"""Who may do what with questions, tried with real logins."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from worker_helpers import ask

from geosearch.database.connection import connect
from geosearch.worker.run import Worker


@pytest.fixture
def asked(archive, login):
    """Two askers, each with an answered question: ((connection string, question), …)."""
    pairs = []
    for like in (0, 1):
        url = login("ask")
        with psycopg.connect(url, autocommit=True) as asker:
            pairs.append((url, ask(asker, like=archive.ids[like], k=2 + like)))
    assert Worker(archive.url, once=True, embed=False).run().answered == 2
    return pairs


def test_an_asker_asks_waits_and_sees_its_own_answers_and_no_others(archive, asked):
    for (url, question), images in zip(asked, (2, 3), strict=True):
        with connect(url) as asker:
            assert asker.execute("select geosearch.wait(%s, 1)", [question]).fetchone() == (images,)
            me = conninfo_to_dict(url)["user"]
            assert asker.execute("select id, asked_by from geosearch.query").fetchall() == [(question, me)]
            for view in ("ranking", "ranked_image", "latest_ranking"):
                rows = asker.execute(f"select distinct query_id, count(*) over () from geosearch.{view}").fetchall()
                assert rows == [(question, images)], view
    other = asked[1][1]
    with psycopg.connect(asked[0][0]) as asker:
        with pytest.raises(psycopg.errors.NoDataFound, match="no question"):
            asker.execute("select geosearch.wait(%s, 0)", [other])
        asker.rollback()
        assert asker.execute("delete from geosearch.query where id = %s", [other]).rowcount == 0
        assert asker.execute("delete from geosearch.query").rowcount == 1  # its own: that cancels it
    with psycopg.connect(archive.url) as owner:
        assert owner.execute("select id from geosearch.query").fetchall() == [(other,)]
        assert owner.execute("select count(*) from geosearch.ranking").fetchone() == (0 + 3,)


FORGERIES = [
    "insert into geosearch.query (text, asked_by) values ('x', 'geosearch')",
    "insert into geosearch.query (text, state) values ('x', 'done')",
    "insert into geosearch.query (text, answers) values ('x', 5)",
    "insert into geosearch.query (text, attempts) values ('x', 5)",
    "insert into geosearch.query (text, asked_in) values ('x', 5)",
    "insert into geosearch.query (text, asked_at) values ('x', '2000-01-01')",
    "insert into geosearch.query (id, text) overriding system value values (1, 'x')",
    "update geosearch.query set state = 'done'",
    "update geosearch.query set text = 'another'",
    "update geosearch.query set asked_by = 'geosearch'",
    "insert into geosearch.ranking (query_id, rank, image_id, similarity) select id, 99, 1, 1 from geosearch.query",
    "update geosearch.ranking set rank = 7",
    "delete from geosearch.ranking",
    "truncate geosearch.query cascade",
    "select id from geosearch.query for update",
    "alter table geosearch.query disable row level security",
    "drop policy query_see on geosearch.query",
    "create policy mine on geosearch.query using (true)",
    "select geosearch.call_workers()",
    "select * from geosearch.search('four', '[1,0,0,0]')",
    "insert into geosearch.image (archive_id, name, reach_m) select id, 'x', 0 from geosearch.archive",
    "delete from geosearch.image",
    "select * from geosearch.reject",
    "select geosearch.create_space('mine', 3)",
]


def test_an_asker_can_forge_nothing(archive, asked):
    before = _all(archive)
    with psycopg.connect(asked[0][0], autocommit=True) as asker:
        for statement in FORGERIES:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)):
                asker.execute(statement)
    assert _all(archive) == before


def test_row_security_hides_the_questions_of_others_whatever_the_asker_sets(asked):
    with psycopg.connect(asked[0][0], autocommit=True) as asker:
        asker.execute("set row_security = off")  # makes it an error, not a way in
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            asker.execute("select * from geosearch.query")
        asker.execute("set row_security = on")
        # A function that tells what it is shown, cheap enough to be run before the policy's own condition.
        asker.execute(
            "create function pg_temp.tell(text) returns bool language plpgsql cost 0.000001 as"
            " $$ begin raise notice '%', $1; return true; end $$"
        )
        told: list[str] = []
        asker.add_notice_handler(lambda notice: told.append(notice.message_primary))
        asker.execute("select 1 from geosearch.query where pg_temp.tell(asked_by)")
        assert told == [asker.info.user]


def test_only_an_asker_asks_and_only_a_worker_answers(archive, login):
    for groups in ((), ("read",), ("ingest",)):
        with psycopg.connect(login(*groups), autocommit=True) as other:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute("select geosearch.ask('x')")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute("insert into geosearch.query (text) values ('x')")
    question = archive.ask(like=2)
    with psycopg.connect(login("read"), autocommit=True) as reader:
        assert reader.execute("select count(*) from geosearch.query").fetchone() == (0,)
    worker = login("ingest")
    assert Worker(worker, once=True).run().answered == 1  # also looks for new images to embed
    assert archive.facts(question, "state", "answers") == ("done", 5)


def test_an_asker_may_delete_a_question_that_is_worked_at(archive, login, database_url):
    from geosearch.worker import claims

    with psycopg.connect(login("ask"), autocommit=True) as asker:
        question = ask(asker, like=archive.ids[0])
        with psycopg.connect(database_url, autocommit=True) as worker:
            claimed = claims.claim(worker, "here:1")
            assert asker.execute("delete from geosearch.query where id = %s", [question]).rowcount == 1
            assert claims.finish(worker, claimed, [claims.Answer(1, 1, 1.0, None)], "four", None) is False
    assert archive.conn.execute("select count(*) from geosearch.ranking").fetchone() == (0,)


def test_a_dump_by_the_owner_holds_the_questions_of_all(asked, database_url, tmp_path):
    import shutil
    import subprocess

    with psycopg.connect(database_url) as owner:
        version = owner.info.server_version // 10000
    program = shutil.which(f"/usr/lib/postgresql/{version}/bin/pg_dump") or shutil.which("pg_dump")
    if program is None:
        pytest.skip("pg_dump is not installed")
    dump = subprocess.run(
        [program, "--data-only", "--table", "geosearch.query", "--dbname", database_url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for url, question in asked:
        assert f"\n{question}\t{conninfo_to_dict(url)['user']}\t" in dump


def _all(archive):
    return [
        archive.conn.execute(f"select t::text from geosearch.{table} t order by 1").fetchall()
        for table in ("query", "ranking", "image", "archive")
    ]
