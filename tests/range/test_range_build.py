"""Banks out of archives, of land and of files: what goes into them, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector
from PIL import Image
from range_database import DIMENSION, VALUES, add_archive, location_encoder
from tiny_model import write_model
from toy_bank import random_bank

from geosearch.database.archives import ensure_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space
from geosearch.encoders import registry
from geosearch.errors import InputError, ModelError, UnknownNameError
from geosearch.item import Item
from geosearch.range.build import build, build_npz
from geosearch.range.land import land_places
from geosearch.range.store import list_banks, read_bank

WIDE = 24  # numbers that the tiny model makes


@pytest.fixture
def conn(database_url: str) -> Iterator[psycopg.Connection]:
    with connect(database_url, autocommit=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    return location_encoder(tmp_path / "encoder")


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8))


def save_pictures(conn: psycopg.Connection, ids: np.ndarray, folder: Path) -> None:
    for number, image in enumerate(ids.tolist()):
        picture(number).save(folder / f"{image}.png")
        conn.execute("update geosearch.image set uri = %s where id = %s", [str(folder / f"{image}.png"), image])


def test_two_spaces_are_done_in_sql(conn: psycopg.Connection, encoder: str) -> None:
    ids = add_archive(conn)
    row = build(conn, "whole", encoder=encoder, keys="keys", values="vals", places="archive:atlas")
    assert (row.places, row.key_space, row.value_space) == (58, "keys", "vals")
    bank = read_bank(conn, "whole")
    assert bank.image_ids is not None
    assert set(bank.image_ids) == set(ids[2:])
    stored = dict(conn.execute("select image_id, embedding from geosearch.space_vals").fetchall())
    np.testing.assert_array_equal(bank.values, [stored[i].to_numpy() for i in bank.image_ids])
    some = build(conn, "some", encoder=encoder, keys="keys", places="archive:atlas", fraction=0.25, seed=4)
    assert (some.places, some.value_dimension) == (14, DIMENSION)  # 14.5: the even number, as Python and PostgreSQL say


def test_values_of_a_model_come_from_the_files(
    conn: psycopg.Connection, encoder: str, model: str, tmp_path: Path
) -> None:
    ids = add_archive(conn, count=30)
    save_pictures(conn, ids, tmp_path)
    row = build(conn, "b", encoder=encoder, keys="keys", values=model, places="archive:atlas")
    bank = read_bank(conn, "b")
    assert (row.places, row.value_dimension, row.value_model) == (28, WIDE, model)
    assert row.properties == {"without_place": 2}
    assert bank.image_ids is not None
    loaded = registry.load(model)
    expected = loaded.encode([Item(image=picture(int(np.flatnonzero(ids == i)[0]))) for i in bank.image_ids])
    np.testing.assert_allclose(bank.values, expected, atol=1e-5)
    stored = dict(conn.execute("select image_id, embedding from geosearch.space_keys").fetchall())
    keys = np.array([stored[i].to_numpy() for i in bank.image_ids], float)
    np.testing.assert_allclose(bank.keys, keys / np.linalg.norm(keys, axis=1, keepdims=True), atol=1e-6)
    places = dict(conn.execute("select id, st_y(nadir::geometry) from geosearch.image").fetchall())
    np.testing.assert_allclose(bank.lat, [places[i] for i in bank.image_ids], atol=1e-9)
    fifth = build(conn, "fifth", encoder=encoder, keys="keys", values=model, places="archive:atlas", fraction=0.2)
    assert fifth.places == 6
    assert fifth.properties == {"fraction": 0.2, "seed": 0, "candidates": 28, "without_place": 2}


def test_keys_and_values_of_models(conn: psycopg.Connection, model: str, tmp_path: Path) -> None:
    ids = add_archive(conn, count=12, spaces=False)
    save_pictures(conn, ids, tmp_path)
    asker = location_encoder(tmp_path / "wide", dimension=WIDE)
    row = build(conn, "b", encoder=asker, keys=model, places="archive:atlas")
    assert (row.places, row.key_dimension, row.value_dimension) == (10, WIDE, WIDE)
    conn.execute("update geosearch.image set uri = '/gone.png' where id = %s", [int(ids[5])])
    with pytest.raises(InputError, match=r"image p005: /gone\.png: there is no such file"):
        build(conn, "c", encoder=asker, keys=model, places="archive:atlas")
    assert [bank.name for bank in list_banks(conn)] == ["b"]


def test_land_is_rendered(conn: psycopg.Connection, model: str, tmp_path: Path) -> None:
    asker = location_encoder(tmp_path / "wide", dimension=WIDE)
    row = build(conn, "earth", encoder=asker, keys=model, places="land:40", fraction=0.5)
    assert (row.places, row.source) == (20, "land:40")
    assert row.properties["candidates"] == 40
    bank = read_bank(conn, "earth")
    from geosearch.bluemarble import camera, raster

    patch = camera.tile_view(bank.lat, bank.lon, 300_000.0, 16)
    assert ((raster.load().surface(*patch) == raster.LAND).mean((1, 2)) >= 0.05).all()
    assert len(np.unique(bank.values.round(4), axis=0)) == 20


def test_places_over_land_are_as_many_as_asked_and_everywhere() -> None:
    for count in (1, 500, 3000):
        assert len(land_places(count)[0]) == count
    lat, lon = land_places(2000)
    # Land south and north of the equator is about 1 to 2; Antarctica and Asia are there.
    assert 0.25 < (lat < 0).mean() < 0.45
    assert (lat < -75).sum() > 20
    assert ((lat > 50) & (lon > 60)).sum() > 50
    for count in (0, 10**6):
        with pytest.raises(InputError, match="land:N"):
            land_places(count)


def test_a_space_stands_for_its_model_over_land(conn: psycopg.Connection, model: str, tmp_path: Path) -> None:
    from geosearch.embedding.identity import record_model

    create_space(conn, "tiny", WIDE, record_model(conn, registry.describe(model)))
    asker = location_encoder(tmp_path / "wide", dimension=WIDE)
    row = build(conn, "earth", encoder=asker, keys="tiny", places="land:5")
    assert (row.places, row.key_model) == (5, model)


def test_refusals_come_before_the_work(conn: psycopg.Connection, encoder: str, model: str) -> None:
    add_archive(conn)
    common = {"encoder": encoder, "places": "archive:atlas"}
    with pytest.raises(InputError, match="places are archive:NAME or land:N, not 'atlas'"):
        build(conn, "b", keys="keys", **{**common, "places": "atlas"})
    with pytest.raises(InputError, match="a fraction of the places"):
        build(conn, "b", keys="keys", fraction=0, **common)
    with pytest.raises(ModelError, match=rf"makes vectors of {DIMENSION} numbers, the keys have {WIDE}"):
        build(conn, "b", keys=model, **common)
    with pytest.raises(InputError, match="dimensions"):
        build(conn, "b", keys="vals", **common)
    with pytest.raises(ModelError, match="not places alone; a bank is asked by a location encoder"):
        build(conn, "b", keys="keys", **{**common, "encoder": model})
    with pytest.raises(UnknownNameError, match="nothing-such"):
        build(conn, "b", keys="nothing-such", **common)
    with pytest.raises((UnknownNameError, InputError), match="elsewhere"):
        build(conn, "b", keys="keys", **{**common, "places": "archive:elsewhere"})
    build(conn, "b", keys="keys", **common)
    with pytest.raises(InputError, match="there is a bank b already"):
        build(conn, "b", keys="keys", **common)


def test_twins_are_named(conn: psycopg.Connection, encoder: str, model: str, tmp_path: Path) -> None:
    ids = add_archive(conn, count=8)
    save_pictures(conn, ids, tmp_path)
    row = conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m, uri) select archive_id, 'twin', nadir, 0, uri"
        " from geosearch.image where id = %s returning id",
        [int(ids[4])],
    ).fetchone()
    assert row is not None
    conn.execute(
        "insert into geosearch.space_keys (image_id, embedding) select %s, embedding from geosearch.space_keys"
        " where image_id = %s",
        [row[0], int(ids[4])],
    )
    with pytest.raises(InputError, match="image p004 of archive atlas and image twin of archive atlas"):
        build(conn, "b", encoder=encoder, keys="keys", values=model, places="archive:atlas")


def test_an_archive_without_places_is_said(conn: psycopg.Connection, encoder: str, model: str) -> None:
    archive = ensure_archive(conn, "bare")
    row = conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m) values (%s, 'a', 0) returning id", [archive]
    ).fetchone()
    assert row is not None
    create_space(conn, "keys", DIMENSION)
    conn.execute(
        "insert into geosearch.space_keys (image_id, embedding) values (%s, %s)",
        [row[0], HalfVector([1.0] * DIMENSION)],
    )
    with pytest.raises(InputError, match="archive bare has no image with a place and a vector in space keys"):
        build(conn, "b", encoder=encoder, keys="keys", values=model, places="archive:bare")


def test_a_published_file(conn: psycopg.Connection, encoder: str, tmp_path: Path) -> None:
    bank = random_bank(100, DIMENSION, VALUES)
    np.savez(
        tmp_path / "b.npz",
        locs=np.stack([bank.lon, bank.lat], 1),
        image_embeddings=bank.values,
        satclip_embeddings=bank.keys,
    )
    row = build_npz(conn, "paper", tmp_path / "b.npz", encoder=encoder, value_model="SINR", fraction=0.1)
    assert (row.places, row.value_model, row.source) == (10, "SINR", "b.npz")
    found = conn.execute("select geosearch.range_embedding('paper', st_makepoint(10, 50)::geography)").fetchone()
    assert found is not None
    assert found[0].dimensions() == DIMENSION + VALUES
    baseline = "coordinates:unit-vector"
    with pytest.raises(ModelError, match="makes vectors of 3 numbers, the keys have 12"):
        build_npz(conn, "other", tmp_path / "b.npz", encoder=baseline)
