"""What a question is answered with: words, pictures, both, catalogued images; by a tiny model and by vectors alone."""

from __future__ import annotations

import signal
import struct
import time
import zlib

import psycopg
import pytest
from pgvector import HalfVector, Vector
from worker_helpers import answers, ask, work

from geosearch.database.spaces import create_space
from geosearch.item import Item
from geosearch.worker.run import Worker

SEARCH = "select image_id, similarity, distance_m from geosearch.search(%s, %s, {}) order by rank"


def searched(archive, vector, rest="k => 10"):
    return archive.conn.execute(SEARCH.format(rest), ["tiny", Vector(vector)]).fetchall()


@pytest.mark.parametrize("rerank", [False, True])
def test_answers_are_those_of_search_with_the_models_own_vector(archive, pictures, rerank, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    encoder, folder = pictures
    data = (folder / "3.png").read_bytes()
    words = encoder.encode([Item(text="a desert")])[0]
    seen = encoder.encode([Item(image=folder / "3.png")])[0]
    stored = archive.conn.execute("select id from geosearch.image where name = '5.png'").fetchone()[0]
    like = archive.conn.execute("select embedding::vector from geosearch.space_tiny where image_id = %s", [stored])
    like = like.fetchone()[0].to_numpy()
    near = "near => 'POINT(4 40)', radius_m => 200000, k => 3"
    dated = "captured_from => '2021-06-01', k => 5"
    cases = [
        ({"text": "a desert"}, words, "k => 10"),
        ({"text": "a desert", "near": "POINT(4 40)", "radius_m": 200_000, "k": 3}, words, near),
        ({"text": "a desert", "captured_from": "2021-06-01", "k": 5}, words, dated),
        ({"text": "a desert", "archive": "pictures", "k": 2}, words, "archive => 'pictures', k => 2"),
        ({"text": "a desert", "among": [stored]}, words, f"among => array[{stored}]"),
        ({"image": data}, seen, "k => 10"),
        ({"image_uri": str(folder / "3.png")}, seen, "k => 10"),
        ({"image_uri": (folder / "3.png").as_uri()}, seen, "k => 10"),
        ({"image_uri": "3.png", "archive": "pictures"}, seen, "archive => 'pictures'"),
        ({"like": stored, "space": "tiny"}, like, "k => 10"),
        (dict(text="a desert", image=data, **{"lambda": 0}), seen, "k => 10"),
        (dict(text="a desert", image=data, **{"lambda": 1}), words, "k => 10"),
        (dict(text="a desert", like=stored, **{"lambda": 0}), like, "k => 10"),
    ]  # fmt: skip
    questions = [ask(archive.conn, **arguments) for arguments, _, _ in cases]
    counts = work(archive, rerank=rerank)
    reasons = archive.conn.execute("select id, reason from geosearch.query where state <> 'done'").fetchall()
    assert (counts.answered, reasons) == (len(cases), [])
    for question, (_, vector, rest) in zip(questions, cases, strict=True):
        got, expected = answers(archive, question), searched(archive, vector, rest)
        assert [row[0] for row in got] == [row[0] for row in expected]
        assert [row[1] for row in got] == pytest.approx([row[1] for row in expected], abs=2e-6)
        assert [row[2] for row in got] == [row[2] for row in expected]
        assert archive.facts(question, "answers", "searched_space") == (len(expected), "tiny")
    assert archive.facts(questions[0], "model") == (encoder.info.name,)
    assert archive.facts(questions[9], "model") == (None,)  # a stored vector


def test_re_ranking_follows_the_database(archive, pictures, monkeypatch, tmp_path):
    """The same worker, its vectors in memory: rows that change, and a space that is made anew under the same name."""
    from geosearch.worker.search import Searcher

    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    searcher = Searcher(True, "cpu")

    def once(**arguments):
        question = ask(archive.conn, **arguments)
        worker = Worker(archive.url, once=True, embed=False, device="cpu", rerank=True)
        worker.searcher = searcher
        assert worker.run().failed == 0
        return [row[0] for row in answers(archive, question)]

    assert once(like=archive.ids[0], space="four") == archive.ids
    vector = HalfVector([0, 0, 0, 1])
    archive.conn.execute("update geosearch.space_four set embedding = %s where image_id = %s", [vector, archive.ids[1]])
    changed = once(like=archive.ids[0], space="four")
    assert changed == [archive.ids[i] for i in (0, 2, 1, 3, 4)]
    archive.conn.execute("select geosearch.drop_space('four')")
    create_space(archive.conn, "four", 3)
    archive.conn.execute(
        "insert into geosearch.space_four (image_id, embedding) select i, '[1,1,1]' from unnest(%s::bigint[]) i",
        [archive.ids[3:]],
    )
    assert once(like=archive.ids[4], space="four") == archive.ids[3:]


def test_bad_questions_fail_with_the_reason_and_good_ones_are_answered(archive, pictures, tmp_path):
    _, folder = pictures
    (folder / "text.png").write_text("this is no picture")
    (folder / "bomb.png").write_bytes(bomb(40_000, 40_000))
    bad = {
        ask(archive.conn, text="x", space="four"): "space four has no model",
        ask(archive.conn, image=b"not a picture"): "cannot be read as a picture",
        ask(archive.conn, image_uri="text.png", archive="pictures"): "cannot be read as a picture",
        ask(archive.conn, image_uri="bomb.png", archive="pictures"): "more than 400,000,000 allowed",
        ask(archive.conn, image=bomb(40_000, 40_000)): "more than 400,000,000 allowed",
        ask(archive.conn, image_uri="gone.png", archive="pictures"): "No such file",
        ask(archive.conn, image_uri="row.png"): "relative path",
        ask(archive.conn, like=4711): "there is no image 4711",
        ask(archive.conn, like=archive.ids[0]): "has no vector in space tiny",
        ask(archive.conn, text="x", strategy="hnsw"): "no approximate index",
    }
    row = archive.conn.execute(
        "insert into geosearch.query (text, captured_from, captured_to) values ('x', '2021-01-01', '2020-01-01')"
        " returning id"
    ).fetchone()
    bad[row[0]] = "no time lies"
    insert = "insert into geosearch.query (text, {}) values ('x', %s) returning id"
    for column, value, reason in [
        ("space", "nowhere", "no space is named 'nowhere'"),
        ("archive", "atlantis", "no archive is named"),
        ("strategy", "magic", "no strategy is named"),
        ("near", "SRID=4269;POINT(1 1)", "near has SRID 4269"),
    ]:  # what ask() would have refused
        try:
            row = archive.conn.execute(insert.format(column), [value]).fetchone()
        except psycopg.DataError:
            assert column == "near"  # the column's own type refuses it
            continue
        bad[row[0]] = reason
    good = ask(archive.conn, text="x")
    counts = work(archive)
    assert (counts.answered, counts.failed) == (1, len(bad))
    assert archive.facts(good, "state") == ("done",)
    for question, reason in bad.items():
        state, said = archive.facts(question, "state", "reason")
        assert state == "failed"
        assert reason in said


def test_a_space_is_named_where_several_could_answer(archive, pictures):
    create_space(archive.conn, "five", 4)
    only = ask(archive.conn, text="x")  # the one with a model
    archive.conn.execute("update geosearch.space set active = false where name = 'tiny'")
    none = ask(archive.conn, text="x")
    several = ask(archive.conn, like=archive.ids[0])
    named = ask(archive.conn, like=archive.ids[0], space="four")
    archive.conn.execute("update geosearch.space set active = true where name = 'tiny'")
    work(archive)
    assert archive.facts(only, "state") == archive.facts(none, "state") == ("done",)
    assert archive.facts(named, "state") == ("done",)
    archive.conn.execute("update geosearch.space set active = false where name = 'tiny'")
    none, several = ask(archive.conn, text="x"), ask(archive.conn, like=archive.ids[0])
    work(archive)
    assert "no active space with a model" in archive.facts(none, "reason")[0]
    assert "several spaces: five, four" in archive.facts(several, "reason")[0]


def test_a_picture_that_crashes_or_hangs_its_decoder_fails_alone(archive, pictures, monkeypatch):
    """The decoder is killed in the middle, as a defect in a codec would, and stopped for good, as an endless loop."""
    from geosearch.worker import pictures as module

    _, folder = pictures
    for number, seconds, reason in (
        (signal.SIGSEGV, 60.0, "crashed the decoder"),
        (signal.SIGSTOP, 1.0, "longer than"),
    ):
        asked, running = ask(archive.conn, image_uri=str(folder / "1.png")), module.Decoder._running

        def hurt(self, number=number, running=running):
            process = running(self)
            process.send_signal(number)
            time.sleep(0.05)
            return process

        with monkeypatch.context() as patch:
            patch.setattr(module.Decoder, "_running", hurt)
            assert work(archive, time_limit=seconds).failed == 1
        assert reason in archive.facts(asked, "reason")[0]
    after = ask(archive.conn, image_uri=str(folder / "1.png"))
    assert work(archive).answered == 1
    assert archive.facts(after, "state") == ("done",)


def bomb(width, height):
    """A PNG that says it is so large, and is a few hundred bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
