"""A text and a picture in one question: answered as `geosearch.compose` answers, in SQL and from memory."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector, Vector
from worker_helpers import answers, ask, work

from geosearch.compose.parts import Parts
from geosearch.compose.reference import compose_parts
from geosearch.database.moments import compute_moments
from geosearch.item import Item
from geosearch.search.scoring import half_queries
from geosearch.worker.run import Worker
from geosearch.worker.search import Searcher

COMPOSE = (
    "select image_id, similarity, distance_m from geosearch.compose("
    "'tiny', image => %s, text => %s, lambda => %s, {}) order by rank"
)


@pytest.fixture
def vectors(archive, pictures):
    """Vectors of a picture, of some words and of a catalogued image; the picture's bytes, the catalogued image's id."""
    encoder, folder = pictures
    seen = encoder.encode([Item(image=folder / "3.png")])[0]
    words = encoder.encode([Item(text="a desert")])[0]
    row = archive.conn.execute(
        "select i.id, s.embedding::vector from geosearch.image i join geosearch.space_tiny s on s.image_id = i.id"
        " where i.name = '5.png'"
    ).fetchone()
    return seen, words, row[1].to_numpy(), (folder / "3.png").read_bytes(), row[0]


def composed(archive, image, text, weight, rest="k => 10"):
    facts = [Vector(image), Vector(text), weight]
    return archive.conn.execute(COMPOSE.format(rest), facts).fetchall()


def assert_same(got, expected):
    """Both sum cosines of float32 rows in their own way, equal within 1e-6; deviations are small here."""
    assert [row[0] for row in got] == [row[0] for row in expected]
    assert [row[1] for row in got] == pytest.approx([row[1] for row in expected], abs=1e-3)
    assert [row[2] for row in got] == [row[2] for row in expected]


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("rerank", [False, True])
def test_answers_are_those_of_compose(archive, pictures, vectors, rerank, kept, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    seen, words, like, data, stored = vectors
    _, folder = pictures
    if kept:
        compute_moments(archive.url, "tiny")
    near = {"near": "POINT(4 40)", "radius_m": 200_000, "k": 3}
    in_sql = "near => 'POINT(4 40)', radius_m => 200000, k => 3"
    dates = "captured_from => '2020-06-01', captured_to => '2024-06-01'"
    cases = [
        ({"image": data}, 0.3, seen, "k => 10"),
        ({"image": data, **near}, 0.3, seen, in_sql),
        ({"image_uri": str(folder / "3.png")}, 0.9, seen, "k => 10"),
        ({"image_uri": "3.png", "archive": "pictures"}, 0.5, seen, "archive => 'pictures'"),
        ({"like": stored}, 0.4, like, "k => 10"),
        ({"like": stored, "captured_from": "2020-06-01", "captured_to": "2024-06-01"}, 0.4, like, dates),
        ({"like": stored, "among": [stored]}, 0.4, like, f"among => array[{stored}]"),
        ({"like": stored, "strategy": "exact"}, 0.4, like, "strategy => 'exact'"),
        ({"image": data}, None, seen, "k => 10"),
        ({"like": stored, "k": 2}, None, like, "k => 2"),
    ]
    questions = [
        ask(archive.conn, text="a desert", **arguments, **{"lambda": weight}) for arguments, weight, *_ in cases
    ]
    counts = work(archive, rerank=rerank)
    failed = archive.conn.execute("select id, reason from geosearch.query where state <> 'done'").fetchall()
    assert (counts.answered, failed) == (len(cases), [])
    for question, (_, weight, image, rest) in zip(questions, cases, strict=True):
        expected = composed(archive, image, words, weight, rest)
        assert expected
        assert_same(answers(archive, question), expected)
        assert archive.facts(question, "answers", "searched_space") == (len(expected), "tiny")
        assert archive.facts(question, "model")[0].startswith("open_clip:")
    # Which weight was used is seen afterwards; what was asked for stays.
    default = archive.conn.execute("select geosearch.default_lambda('tiny')").fetchone()[0]
    used = [archive.facts(question, "lambda")[0] for question in questions]
    assert used == [default if weight is None else weight for _, weight, *_ in cases]
    shown = archive.conn.execute("select distinct query_id, lambda from geosearch.ranked_image order by 1").fetchall()
    assert shown == list(zip(questions, used, strict=True))


@pytest.mark.parametrize("rerank", [False, True])
def test_scores_are_those_of_the_paper(archive, vectors, rerank, monkeypatch, tmp_path):
    """The reference in NumPy, over all images, on vectors that differ as much as those of real models do."""
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    seen, words, *_, data, _ = vectors
    ids = [row[0] for row in archive.conn.execute("select image_id from geosearch.space_tiny order by 1").fetchall()]
    spread = np.random.default_rng(3).standard_normal((len(ids), 24)).astype(np.float16)
    for number, vector in zip(ids, spread, strict=True):
        archive.conn.execute(
            "update geosearch.space_tiny set embedding = %s where image_id = %s", [HalfVector(vector), number]
        )
    for weight in (0.1, 0.5, 0.9):
        question = ask(archive.conn, text="a desert", image=data, **{"lambda": weight})
        work(archive, rerank=rerank)
        parts = Parts.of(half_queries([seen, words], 24), [1 - weight, weight])
        best = compose_parts(spread, parts)
        got = answers(archive, question)
        assert [row[0] for row in got] == [ids[place] for place in best.order]
        assert [row[1] for row in got] == pytest.approx(best.scores[best.order], abs=1e-5)


@pytest.mark.parametrize("rerank", [False, True])
def test_where_one_has_all_the_weight_the_other_is_not_looked_at(
    archive, pictures, vectors, rerank, monkeypatch, tmp_path
):
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    seen, words, like, data, stored = vectors
    cases = [
        ({"image": data, "lambda": 0}, seen),
        ({"image": data, "lambda": 1}, words),
        ({"like": stored, "lambda": 0}, like),
        ({"like": stored, "lambda": 1}, words),
        ({"image": b"no picture at all", "lambda": 1}, words),
    ]
    questions = [ask(archive.conn, text="a desert", **arguments) for arguments, _ in cases]
    assert work(archive, rerank=rerank).failed == 0
    for question, (_, vector) in zip(questions, cases, strict=True):
        expected = archive.conn.execute(
            "select image_id, similarity, distance_m from geosearch.search('tiny', %s) order by rank", [Vector(vector)]
        ).fetchall()
        got = answers(archive, question)
        assert [row[0] for row in got] == [row[0] for row in expected]
        assert [row[1] for row in got] == pytest.approx([row[1] for row in expected], abs=2e-6)
    assert archive.facts(questions[2], "model") == (None,)  # no model was needed
    assert archive.facts(questions[3], "model") != (None,)
    # A space without a model answers, where the text has no weight.
    asked = archive.ask(text="a desert", like=0, space="four", **{"lambda": 0})
    refused = archive.ask(text="a desert", like=0, space="four")
    work(archive, rerank=rerank)
    assert archive.ranked(asked) == archive.ids
    assert "space four has no model" in archive.facts(refused, "reason")[0]


def test_alone_neither_is_composed_nor_has_a_weight(archive, vectors):
    _, words, *_, data, _ = vectors
    questions = [ask(archive.conn, text="a desert"), ask(archive.conn, image=data)]
    given = ask(archive.conn, text="a desert", **{"lambda": 0.2})
    work(archive)
    assert [archive.facts(question, "lambda") for question in questions] == [(None,), (None,)]
    assert archive.facts(given, "lambda") == (0.2,)
    assert archive.conn.execute("select distinct lambda from geosearch.ranked_image").fetchall() == [(None,)]
    expected = archive.conn.execute(
        "select image_id from geosearch.search('tiny', %s) order by rank", [Vector(words)]
    ).fetchall()
    assert [row[:1] for row in answers(archive, questions[0])] == expected


def test_a_walk_through_the_index_is_fast(archive, vectors):
    seen, words, *_, data, _ = vectors
    asked = ask(archive.conn, text="a desert", image=data, strategy="hnsw")
    work(archive)
    assert "no approximate index" in archive.facts(asked, "reason")[0]
    archive.conn.execute(
        "create index space_tiny_hnsw_idx on geosearch.space_tiny using hnsw (embedding halfvec_cosine_ops)"
    )
    archive.conn.execute("update geosearch.space set indexed_as = 'halfvec' where name = 'tiny'")
    asked = ask(archive.conn, text="a desert", image=data, strategy="hnsw")
    work(archive, rerank=True)
    assert archive.facts(asked, "state", "reason") == ("done", None)
    assert_same(answers(archive, asked), composed(archive, seen, words, None, "strategy => 'fast'"))


def test_composed_answers_from_memory_follow_the_database(archive, vectors, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    seen, words, *_, data, _ = vectors
    searcher = Searcher(True, "cpu")

    def once():
        question = ask(archive.conn, text="a desert", image=data, **{"lambda": 0.5})
        worker = Worker(archive.url, once=True, embed=False, device="cpu", rerank=True)
        worker.searcher = searcher
        assert worker.run().failed == 0
        assert_same(answers(archive, question), composed(archive, seen, words, 0.5))
        return [row[0] for row in answers(archive, question)]

    first = once()
    assert first == once()
    archive.conn.execute("delete from geosearch.space_tiny where image_id = %s", [first[0]])
    second = once()
    assert set(second) == set(first[1:])
    vector = HalfVector(words)
    archive.conn.execute("update geosearch.space_tiny set embedding = %s where image_id = %s", [vector, second[-1]])
    assert once() != second


def test_the_default_weight_may_be_asked_for_by_null_and_by_a_form(archive, vectors):
    *_, data, _ = vectors
    null = ask(archive.conn, text="a desert", image=data, **{"lambda": None})
    row = archive.conn.execute(
        "insert into geosearch.query (text, image) values ('a desert', %s) returning id, lambda", [data]
    ).fetchone()
    assert row[1] is None
    half = ask(archive.conn, text="a desert", image=data, **{"lambda": 0.5})
    work(archive)
    default = archive.conn.execute("select geosearch.default_lambda('tiny')").fetchone()
    assert archive.facts(null, "lambda") == archive.facts(row[0], "lambda") == default
    assert answers(archive, null) == answers(archive, row[0])
    assert archive.facts(half, "lambda") == (0.5,)


def test_ask_and_wait_takes_the_weight_too(archive, vectors, start):
    *_, data, _ = vectors
    start(archive.url, "--device", "cpu").listens()
    for given, kept in (("", "geosearch.default_lambda('tiny')"), (", lambda => 0.25", "0.25")):
        row = archive.conn.execute(
            f"call geosearch.ask_and_wait('a desert', image => %s, timeout_s => 60{given})", [data]
        ).fetchone()
        assert archive.conn.execute(
            f"select lambda = {kept} from geosearch.query where id = %s", [row[0]]
        ).fetchone() == (True,)
    with pytest.raises(psycopg.DataError, match="lambda is NaN"):
        archive.conn.execute("call geosearch.ask_and_wait('a desert', image => %s, lambda => 'NaN')", [data])


@pytest.mark.parametrize("rerank", [False, True])
def test_a_workers_login_needs_no_more_rights_than_before(archive, vectors, login, rerank, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    seen, words, *_, data, _ = vectors
    with psycopg.connect(login("ask"), autocommit=True) as asker:
        question = ask(asker, text="a desert", image=data)
    counts = Worker(login("ingest"), once=True, embed=False, device="cpu", rerank=rerank).run()
    assert archive.facts(question, "state", "reason") == ("done", None)
    assert counts.answered == 1
    assert_same(answers(archive, question), composed(archive, seen, words, None))
