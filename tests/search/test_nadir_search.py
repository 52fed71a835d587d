"""Pictures asked in a nadir-aware space: `near` is also where they were taken from, by the client and the command."""

import json

import numpy as np
import pytest
from geosearch_cli.main import app
from pgvector import HalfVector
from PIL import Image
from tiny_model import write_model, write_nadir_model
from typer.testing import CliRunner

from geosearch.database.archives import ensure_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry
from geosearch.errors import ModelError
from geosearch.item import Item, Place
from geosearch.search.client import Client
from geosearch.settings import settings

# One picture for all of them: only the nadirs tell them apart. The last one has none.
NADIRS = {"alps": Place(46, 8), "fiji": Place(-17, 180), "toshka": Place(23, 30), "nowhere": None}
EVERYWHERE_KM = 20_100  # more than half round the Earth


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return registry.load(write_nadir_model(tmp_path_factory.mktemp("nadir") / "tiny", scale=2), "cpu")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (80, 80, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def client(conn, database_url, encoder, picture):
    create_space(conn, "seen", encoder.info.dimension, record_model(conn, encoder.info))
    archive = ensure_archive(conn, "crew")
    for name, nadir in NADIRS.items():
        row = conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m)"
            " values (%s, %s, st_makepoint(%s, %s)::geography, 0) returning id",
            [archive, name, nadir and nadir.lon, nadir and nadir.lat],
        ).fetchone()
        vector = HalfVector(encoder.encode([Item(image=picture, place=nadir)])[0])
        conn.execute("insert into geosearch.space_seen (image_id, embedding) values (%s, %s)", [row[0], vector])
    conn.commit()
    with Client(connect(database_url, autocommit=True)) as opened:
        yield opened


def found(ranking):
    return {result.name: result.similarity for result in ranking}


@pytest.mark.parametrize("name", [name for name, nadir in NADIRS.items() if nadir])
def test_the_place_tells_equal_pictures_apart(client, picture, name):
    ranking = client.search(image=picture, near=NADIRS[name], radius_km=EVERYWHERE_KM)
    assert len(ranking) == 3  # an image without a place is near none
    assert ranking.results[0].name == name
    assert ranking.results[0].similarity == pytest.approx(1, abs=2e-3)
    assert ranking.results[1].similarity < 0.995


def test_without_near_the_nadir_is_unknown(client, encoder, picture):
    likeness = found(client.search(image=picture))
    assert likeness["nowhere"] == pytest.approx(1, abs=2e-3)
    assert max(likeness[name] for name in NADIRS if NADIRS[name]) < 0.995
    unknown = encoder.encode([Item(image=picture)])[0]
    assert found(client.search(vector=unknown)) == pytest.approx(likeness, abs=1e-6)


def test_an_area_is_no_nadir(client, picture):
    box = {"type": "Polygon", "coordinates": [[[7, 45], [9, 45], [9, 47], [7, 47], [7, 45]]]}
    inside = found(client.search(image=picture, area=box))
    assert inside == pytest.approx({"alps": found(client.search(image=picture))["alps"]}, abs=1e-6)


def test_east_and_west_of_the_date_line_are_one_place(client, picture):
    east, west = (found(client.search(image=picture, near=(-17, lon), radius_km=EVERYWHERE_KM)) for lon in (180, -180))
    assert east == pytest.approx(west, abs=1e-6)


def test_catalogued_images_bring_their_own_place(client):
    near = found(client.search(like="alps", near=NADIRS["fiji"], radius_km=EVERYWHERE_KM))
    assert near["alps"] == pytest.approx(1, abs=2e-3)


def test_words_are_refused(client):
    with pytest.raises(ModelError, match="does not read text; it reads image, place"):
        client.search(text="a desert")


def test_a_space_that_reads_words_is_meant_before_this_one(client, conn, tmp_path, picture):
    name = write_model(tmp_path / "words")
    create_space(conn, "words", 24, record_model(conn, registry.describe(name)))
    conn.commit()
    assert client.search(image=picture).space == "words"
    assert client.search(image=picture, space="seen").space == "seen"


def test_pictures_are_composed_as_seen_from_there(client, encoder, picture, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (80, 80, 3), np.uint8)).save(other)
    near = NADIRS["toshka"]
    first, second = (encoder.encode([Item(image=path, place=near)])[0] for path in (picture, other))
    composed = client.compose(image=[picture, other], near=near, radius_km=EVERYWHERE_KM, method="mean", space="seen")
    stored = {name: encoder.encode([Item(image=picture, place=NADIRS[name])])[0] for name in NADIRS}
    for result in composed:
        likeness = [part.similarity for part in result.parts]
        expected = [float(vector @ stored[result.name]) for vector in (first, second)]
        assert likeness == pytest.approx(expected, abs=2e-3)


def test_the_command_and_its_lines(client, database_url, picture, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    settings.cache_clear()

    def call(*arguments):
        result = CliRunner().invoke(app, ["search", *map(str, arguments), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    document = call("--image", picture, "--near", "-17,-180", "--radius-km", EVERYWHERE_KM, "--space", "seen")
    assert document["results"][0]["name"] == "fiji"
    lines = [{"image": "picture.png", "near": [place.lat, place.lon]} for place in NADIRS.values() if place]
    lines += [{"image": "picture.png"}]
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    many = call("--queries", tmp_path / "queries.jsonl", "--radius-km", EVERYWHERE_KM)
    assert [ranking["results"][0]["name"] for ranking in many["rankings"]] == list(NADIRS)
