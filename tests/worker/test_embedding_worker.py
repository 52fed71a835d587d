"""New images are embedded between questions; metrics tell what was done."""

from __future__ import annotations

import threading
import urllib.request

import numpy as np
import pytest
from moments_truth import never_wrong
from PIL import Image
from tiny_model import write_model
from worker_helpers import eventually

from geosearch.database.archives import ensure_archive
from geosearch.database.moments import compute_moments
from geosearch.database.spaces import create_space
from geosearch.embedding import run as embedding
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry
from geosearch.errors import InputError
from geosearch.worker import embed as worker_embed
from geosearch.worker.metrics import PrometheusMetrics
from geosearch.worker.run import Worker


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("worker") / "tiny")


@pytest.fixture
def add(archive, model, tmp_path):
    """A function that catalogues so many new pictures; their space is `tiny`."""
    create_space(archive.conn, "tiny", 24, record_model(archive.conn, registry.describe(model)))
    number = ensure_archive(archive.conn, "new", root=str(tmp_path))
    rng = np.random.default_rng(1)

    def more(names):
        for name in names:
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"{name}.png")
        with archive.conn.cursor() as cursor:
            cursor.executemany(
                "insert into geosearch.image (archive_id, name, uri, reach_m) values (%s, %s, %s, 0)",
                [(number, str(name), f"{name}.png") for name in names],
            )

    return more


@pytest.fixture
def working(archive):
    """A function: start a worker in a thread, ended at the end."""
    threads = []

    def begin(**options):
        worker = Worker(archive.url, device="cpu", poll=60, **options)
        thread = threading.Thread(target=worker.run)
        thread.start()
        threads.append((worker, thread))
        return worker

    yield begin
    for worker, thread in threads:
        worker.stop.wish()
        thread.join(30)
        assert not thread.is_alive()
        worker.stop.close()


def count(archive):
    return archive.conn.execute("select count(*) from geosearch.space_tiny").fetchone()[0]


def test_images_are_embedded_when_they_are_catalogued_and_damaged_ones_rejected(archive, add, working, monkeypatch):
    monkeypatch.setattr(worker_embed, "AFTER_CHANGE_S", 0.1)
    add(range(3))
    said: list[str] = []
    worker = working(report=said.append)
    eventually(lambda: count(archive) == 3)
    add(range(3, 8))  # polled for every minute only: this must be the call
    archive.conn.execute(
        "insert into geosearch.image (archive_id, name, uri, reach_m)"
        " select id, 'gone', 'gone.png', 0 from geosearch.archive where name = 'new'"
    )
    # What the catalogue's own images (without files) and the gone one are, is in the rejects.
    eventually(lambda: count(archive) == 8)
    reject = "select count(*) from geosearch.reject where name = 'gone'"
    eventually(lambda: archive.conn.execute(reject).fetchone() == (1,))
    eventually(lambda: worker.counts.embedded == 8)
    assert not [line for line in said if "not embedded" in line]


def test_a_question_is_answered_between_two_images(archive, add, working, monkeypatch):
    """Embedding is slowed down so much that the question would wait for minutes if it had to wait for its end."""
    load, embedded_when_answered = embedding._Run._load, []

    def slow(self, image):
        archive_ready.wait(0.05)
        return load(self, image)

    archive_ready = threading.Event()
    monkeypatch.setattr(embedding._Run, "_load", slow)
    monkeypatch.setattr(embedding, "decode_threads", lambda: 1)
    monkeypatch.setattr(worker_embed, "CPU_BATCH", 4)
    add(range(400))
    working()
    eventually(lambda: 0 < count(archive) < 300)
    question = archive.ask(like=0, space="four")
    archive.until("done", question)
    embedded_when_answered.append(count(archive))
    assert 0 < embedded_when_answered[0] < 400
    archive_ready.set()
    eventually(lambda: count(archive) == 400)


def test_embedding_that_is_told_to_end_commits_what_it_began_and_the_next_goes_on(archive, add):
    add(range(40))
    calls = iter(range(1000))
    counts = embedding.embed(archive.url, "tiny", "new", device="cpu", batch_size=4, go_on=lambda: next(calls) < 20)
    assert 0 < counts.embedded == count(archive) <= 20
    rest = embedding.embed(archive.url, "tiny", "new", device="cpu", batch_size=4, go_on=lambda: True)
    assert (rest.embedded, count(archive)) == (40 - counts.embedded, 40)


def test_moments_are_added_to_now_and_then_and_at_the_end(archive, add, monkeypatch):
    compute_moments(archive.url, "tiny")
    embedder = worker_embed.Embedder(archive.url, "cpu", lambda _: None)

    def embed_more(names):
        add(names)
        assert embedder.run(archive.conn, lambda: True).embedded == len(names)
        return never_wrong(archive.conn, "tiny")

    assert embed_more(range(5)).current, "after a quiet time at once"
    late = [embed_more([5]), embed_more([6, 7])]
    assert [(state.current, state.counted, state.changes_since) for state in late] == [(False, 5, 1), (False, 5, 2)]
    assert embedder.due_in() <= worker_embed.MOMENTS_S
    monkeypatch.setattr(embedder, "_moments_from", 0.0)
    assert embedder.due_in() == 0
    assert embedder.run(archive.conn, lambda: True).embedded == 0
    assert never_wrong(archive.conn, "tiny").current
    assert embedder.due_in() > worker_embed.MOMENTS_S

    embed_more([8])
    compute_moments(archive.url, "tiny")  # has read what waits to be added
    assert not embed_more([9]).current
    embedder.finish(archive.conn)
    state = never_wrong(archive.conn, "tiny")
    assert (state.current, state.counted) == (True, 10)


def test_a_worker_that_ends_adds_what_waits(archive, add, working):
    compute_moments(archive.url, "tiny")
    add(range(3))
    worker = working()
    eventually(lambda: worker.counts.embedded == 3)
    add(range(3, 6))
    eventually(lambda: worker.counts.embedded == 6)
    assert not never_wrong(archive.conn, "tiny").current
    worker.stop.wish()
    eventually(lambda: never_wrong(archive.conn, "tiny").current)


def test_a_page_that_another_run_holds_is_waited_for_without_standing_still(archive, add, database_url):
    import psycopg

    from geosearch.database.spaces import get_space
    from geosearch.embedding.missing import _LOCKS

    add(range(5))
    key = _LOCKS + get_space(archive.conn, "tiny").id
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s, 0)", [key])
        calls = []

        def go_on():
            calls.append(1)
            if len(calls) == 3:
                other.execute("select pg_advisory_unlock(%s, 0)", [key])
            return True

        assert embedding.embed(archive.url, "tiny", "new", device="cpu", go_on=go_on).embedded == 5
        assert len(calls) >= 3


def test_a_space_whose_model_is_not_here_is_told_and_questions_go_on(archive, add):
    add(range(2))
    archive.conn.execute("update geosearch.model set weights_sha256 = repeat('0', 64)")
    said: list[str] = []
    question = archive.ask(like=0, space="four")
    counts = Worker(archive.url, once=True, device="cpu", report=said.append).run()
    assert (counts.answered, counts.embedded) == (1, 0)
    assert archive.facts(question, "state") == ("done",)
    assert [line for line in said if line.startswith("space tiny is not embedded")]


def test_metrics_tell_what_was_done(archive, add):
    import socket

    add(range(3))
    archive.ask(like=0, space="four")
    archive.conn.execute("insert into geosearch.query (\"like\", space) values (4711, 'four')")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    metrics = PrometheusMetrics(port, "127.0.0.1")
    try:
        Worker(archive.url, once=True, device="cpu", metrics=metrics).run()
        archive.ask(like=0)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            lines = page.read().decode().splitlines()
        for line in (
            'geosearch_questions_total{state="done"} 1.0', 'geosearch_questions_total{state="failed"} 1.0',
            "geosearch_question_seconds_count 2.0", 'geosearch_images_total{state="embedded"} 3.0',
            "geosearch_questions_open 0.0", "geosearch_connected 1.0",
        ):  # fmt: skip
            assert line in lines, line
        with pytest.raises(InputError, match="choose another port"):
            PrometheusMetrics(port, "127.0.0.1")
    finally:
        metrics.close()


def test_without_prometheus_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InputError, match=r"pip install 'geosearch\[metrics\]'"):
        PrometheusMetrics(9000, "127.0.0.1")
