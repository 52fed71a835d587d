"""Images and texts as questions: a tiny model with random weights, real files, the whole way through the client."""

import numpy as np
import pytest
from pgvector import HalfVector
from PIL import Image
from tiny_model import write_model

from geosearch.database.archives import ensure_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry
from geosearch.errors import ModelError, UnknownNameError
from geosearch.item import Item
from geosearch.search.client import Client
from geosearch.search.page import ranking_page


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(2)
    paths = []
    for i, colour in enumerate([(200, 40, 30), (20, 180, 60), (30, 60, 200)]):
        pixels = np.clip(np.array(colour) + rng.normal(0, 12, (48, 48, 3)), 0, 255).astype(np.uint8)
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def client(conn, database_url, tmp_path, pictures):
    name = write_model(tmp_path / "model")
    encoder = registry.load(name, "cpu")
    create_space(conn, "tiny", encoder.info.dimension, record_model(conn, encoder.info))
    create_space(conn, "foreign", 3)
    archive = ensure_archive(conn, "colours")
    for path, vector in zip(pictures, encoder.encode([Item(image=path) for path in pictures]), strict=True):
        row = conn.execute(
            "insert into geosearch.image (archive_id, name, uri, nadir, reach_m)"
            " values (%s, %s, %s, st_makepoint(10, 45)::geography, 2.5e6) returning id",
            [archive, path.stem, str(path)],
        ).fetchone()
        conn.execute(
            "insert into geosearch.space_tiny (image_id, embedding) values (%s, %s)", [row[0], HalfVector(vector)]
        )
    conn.commit()
    with Client(connect(database_url, autocommit=True)) as opened:
        yield opened


def test_a_picture_finds_itself(client, pictures):
    for path in pictures:
        # A path, a path as text and a decoded picture are the same question.
        for question in (path, str(path), Image.open(path)):
            ranking = client.search(image=question, k=2)
            assert ranking.results[0].name == path.stem
            assert ranking.results[0].similarity == pytest.approx(1.0, abs=2e-3)
    assert ranking.space == "tiny"  # the one space that has a model


def test_a_text_is_encoded_by_the_spaces_model(client):
    ranking = client.search(text="a desert", near=(40, 5))
    assert len(ranking) == 3
    assert all(-1 <= result.similarity <= 1 for result in ranking)
    again = client.search(text="a desert", near=(40, 5))
    assert again == ranking


def test_another_models_weights_are_refused(client, conn, tmp_path):
    conn.execute("update geosearch.model set weights_sha256 = repeat('0', 64)")
    conn.commit()
    with pytest.raises(ModelError):
        client.search(text="a desert")


def test_an_archive_that_is_none_is_told_before_a_model_is_loaded(client, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(UnknownNameError, match="atlantis"):
        client.search(text="a desert", archive="atlantis")


def test_the_page_carries_the_pictures(client, pictures):
    page = ranking_page(client.search(image=pictures[0], near=(45, 10)))
    assert page.count("data:image/jpeg;base64,") == 4  # the question and three answers
    assert 'src="http' not in page
