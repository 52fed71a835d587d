"""Pictures asked by SQL in a nadir-aware space: the worker takes the place they ask near as their nadir."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pgvector import HalfVector, Vector
from PIL import Image
from tiny_model import write_nadir_model
from worker_helpers import Archive, answers, ask, work

from geosearch.database.spaces import create_space
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry
from geosearch.encoders.base import Encoder
from geosearch.item import Item, Place
from geosearch.worker import embed as worker_embed
from geosearch.worker.run import Worker

WIDE = {"radius_m": 2.1e7, "space": "seen"}
LINE = "LINESTRING(0 0, 8 46)"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return registry.load(write_nadir_model(tmp_path_factory.mktemp("nadir") / "tiny", scale=2), "cpu")


@pytest.fixture
def picture(archive: Archive, encoder: Encoder, tmp_path: Path) -> Path:
    """Space `seen`: the images of the row, one picture for all, each with its own nadir."""
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (80, 80, 3), np.uint8)).save(path)
    create_space(archive.conn, "seen", encoder.info.dimension, record_model(archive.conn, encoder.info))
    for i, image in enumerate(archive.ids):
        vector = HalfVector(encoder.encode([Item(image=path, place=Place(0, 30 * i))])[0])
        archive.conn.execute("insert into geosearch.space_seen (image_id, embedding) values (%s, %s)", [image, vector])
    return path


def test_a_point_is_the_nadir_of_the_picture(archive: Archive, encoder: Encoder, picture: Path) -> None:
    data = picture.read_bytes()
    cases: list[tuple[dict[str, Any], Place | None]] = [
        ({"image": data, "near": "POINT(90 0)"}, Place(0, 90)),
        ({"image": data, "near": "POINT(-180 12.5)"}, Place(12.5, 180)),
        ({"image": data, "near": LINE}, None),
        ({"image": data}, None),
    ]
    questions = [ask(archive.conn, **WIDE, **arguments) for arguments, _ in cases]
    refused = ask(archive.conn, text="a desert", **WIDE)
    work(archive, rerank=False)
    for question, (_, place) in zip(questions, cases, strict=True):
        vector = Vector(encoder.encode([Item(image=picture, place=place)])[0])
        expected = archive.conn.execute(
            "select image_id, similarity from geosearch.search('seen', %s) order by rank", [vector]
        ).fetchall()
        got = answers(archive, question)
        assert [row[0] for row in got] == [row[0] for row in expected]
        assert [row[1] for row in got] == pytest.approx([row[1] for row in expected], abs=2e-6)
    assert answers(archive, questions[0])[0][0] == archive.ids[3]
    state, reason = archive.facts(refused, "state", "reason")
    assert (state, "does not read text" in reason) == ("failed", True)


def test_a_corrected_nadir_is_embedded_again(archive: Archive, encoder: Encoder, picture: Path) -> None:
    archive.conn.execute("update geosearch.image set uri = %s", [str(picture)])
    archive.conn.execute("delete from geosearch.space_seen")

    def embedded() -> int:
        return Worker(archive.url, once=True, device="cpu").run().embedded

    def stored() -> Any:
        return archive.conn.execute(
            "select embedding::vector from geosearch.space_seen where image_id = %s", [archive.ids[2]]
        ).fetchone()[0].to_numpy()  # fmt: skip

    assert (embedded(), embedded()) == (5, 0)
    assert stored() @ encoder.encode([Item(image=picture, place=Place(0, 2))])[0] == pytest.approx(1, abs=2e-3)
    archive.conn.execute(
        "update geosearch.image set nadir = 'POINT(100 60)'::geography where id = %s", [archive.ids[2]]
    )
    assert (embedded(), embedded()) == (1, 0)
    assert stored() @ encoder.encode([Item(image=picture, place=Place(60, 100))])[0] == pytest.approx(1, abs=2e-3)


def test_places_are_compared_no_more_often_than_they_take(archive: Archive, picture: Path, monkeypatch: Any) -> None:
    looks: list[float] = []
    clock = [1000.0]

    def slow(*_: Any) -> bool:
        looks.append(clock[0])
        clock[0] += 3
        return False

    monkeypatch.setattr(worker_embed, "any_moved", slow)
    monkeypatch.setattr(worker_embed, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    embedder = worker_embed.Embedder(archive.url, "cpu", lambda _: None)
    for _ in range(3):  # called again and again
        embedder.run(archive.conn, lambda: True)
    assert looks == [1000.0]
    assert embedder.due_in() == pytest.approx(147)  # 2 % of the time: 3 s each 150 s
    clock[0] += 147
    embedder.run(archive.conn, lambda: True)
    assert looks == [1000.0, 1150.0]
