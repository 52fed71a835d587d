"""`geosearch range` as it is called: options, exit status, one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from geosearch_cli.main import app
from PIL import Image
from range_database import add_archive, location_encoder
from typer.testing import CliRunner

from geosearch.database.connection import connect

Run = Callable[..., Result]


@pytest.fixture
def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, str, psycopg.Connection]:
    """A call of the command, a location encoder, a connection; 60 images with vectors in spaces keys and vals."""
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    with connect(database_url) as conn:
        add_archive(conn)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["range", *map(str, arguments)])

    return call, location_encoder(tmp_path / "encoder"), database_url


def build(run: Run, encoder: str, *more: object) -> Result:
    return run(
        "build", "b", "--encoder", encoder, "--keys", "keys", "--values", "vals", "--places", "archive:atlas", *more
    )


def test_from_nothing_to_a_file_and_a_layer(world, tmp_path: Path) -> None:
    run, encoder, url = world
    made = build(run, encoder, "--fraction", 0.5, "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["places"] == 29
    assert [bank["name"] for bank in json.loads(run("list", "--json").stdout)] == ["b"]
    assert run("list").stdout.splitlines()[1].split()[0] == "b"

    (tmp_path / "p.csv").write_text("who,lat,lng\na,10,20\nb,-91,0\nc,0,0\n")
    out = run("embed", "--bank", "b", "--places", tmp_path / "p.csv", "--out", tmp_path / "o.parquet", "--json")
    assert out.exit_code == 3
    report = json.loads(out.stdout)
    assert (report["rows"], report["embedded"], report["problems"], report["dimension"]) == (3, 2, 1, 32)
    assert "1 of 3 rows have no embedding" in out.stderr
    table = pq.read_table(tmp_path / "o.parquet")
    assert table["who"].to_pylist() == ["a", "b", "c"]
    with connect(url) as conn:
        row = conn.execute("select geosearch.range_embedding('b', st_makepoint(20, 10)::geography)").fetchone()
    assert row is not None
    np.testing.assert_allclose(table["embedding"][0].as_py(), row[0].to_numpy(), rtol=1e-4, atol=1e-5)

    first, second = run("refresh", "b", "--json"), run("refresh", "b")
    assert (first.exit_code, json.loads(first.stdout)["added"]) == (0, 58)
    assert "Nothing to do" in second.stderr
    shown = json.loads(run("show", "b", "--json").stdout)
    assert (shown["stored"], shown["changed"], shown["key_space"]) == (58, False, "keys")

    dry = json.loads(run("drop", "b", "--dry-run", "--json").stdout)
    assert dry == {"bank": "b", "places": 29, "stored": 58, "dropped": False}
    assert run("drop", "b").exit_code == 1  # nobody is there to ask
    assert json.loads(run("drop", "b", "--yes", "--json").stdout)["dropped"]
    assert json.loads(run("list", "--json").stdout) == []


def test_similar_images(world) -> None:
    run, encoder, _ = world
    build(run, encoder)
    found = run("similar", "--bank", "b", "--near", "-3,-60", "-k", 5, "--json")
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0]["similarity"] >= rows[4]["similarity"]
    assert rows[0]["distance_m"] is None
    near = json.loads(run("similar", "--bank", "b", "--near=-3,-60", "--radius-km", 4000, "--json").stdout)
    assert near
    assert all(row["distance_m"] <= 4e6 for row in near)
    haver = json.loads(run("similar", "--bank", "b", "--near=-3,-60", "--beta", 0, "--mode", "top1", "--json").stdout)
    assert haver[0]["similarity"] == pytest.approx(1, abs=1e-3)  # the nearest place's own image


def test_maps_of_a_bank_and_of_an_encoder(world, tmp_path: Path) -> None:
    run, encoder, _ = world
    build(run, encoder)
    for what in (["--bank", "b"], ["--encoder", encoder, "--bbox", "-10,-20,30,40"]):
        out = run("map", *what, "--out", tmp_path / "map.png", "--width", 60)
        assert out.exit_code == 0, out.output
        with Image.open(tmp_path / "map.png") as picture:
            assert picture.width == 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "b"], "give either --places or --npz"),
        (["build", "b", "--places", "land:3"], "needs --keys"),
        (["build", "b", "--npz", "a.npz", "--keys", "k"], "its own keys"),
        (["build", "b", "--places", "land:3", "--keys", "k", "--key-model", "m"], "go with --npz"),
        (["embed", "--bank", "b", "--places", "a", "--out", "b", "--beta", "2"], "beta is a share"),
        (["refresh", "b", "--tau-geo", "0"], "tau_geo multiplies cosines"),
        (["refresh", "b", "--mode", "hard"], "hard"),
        (["similar", "--bank", "b", "--near", "95,0"], "latitude 95.0"),
        (["map", "--out", "m.png"], "give either --bank or --encoder"),
        (["map", "--out", "m.png", "--encoder", "e", "--bbox", "1,2,3"], "a box is"),
        (["map", "--out", "m.png", "--encoder", "e", "--bbox", "40,2,30,4"], "no box lies"),
    ],
)
def test_wrong_usage_is_status_2(world, arguments: list[str], said: str) -> None:
    result = world[0](*arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "other"],
        ["drop", "other", "--yes"],
        ["refresh", "other"],
        ["similar", "--bank", "other", "--near", "1,2"],
        ["embed", "--bank", "other", "--places", "a.csv", "--out", "o.parquet"],
        ["map", "--bank", "other", "--out", "m.png"],
    ],
)
def test_an_unknown_bank_is_status_1_and_lists_those_there_are(world, arguments: list[str]) -> None:
    run, encoder, _ = world
    build(run, encoder)
    result = run(*arguments)
    assert result.exit_code == 1
    assert "no bank is named 'other'; there is: b" in result.stderr


def test_a_name_that_is_neither_a_space_nor_a_model(world) -> None:
    run, encoder, _ = world
    arguments = ["build", "b", "--encoder", encoder, "--keys", "keys", "--places", "archive:atlas"]
    result = run(*arguments, "--values", "valeus")
    assert result.exit_code == 1
    assert "no space or model is named 'valeus'; there are: keys, vals. These are the spaces; models:" in result.stderr
    assert "satclip" in run(*arguments, "--values", "satclip:nothing").stderr


def test_an_unfinished_bank_is_said_to_be_one(world) -> None:
    run, _, url = world
    with connect(url) as conn:
        conn.execute("select geosearch.create_bank('hollow', 'an-encoder', 2, 1)")
    result = run("refresh", "hollow")
    assert result.exit_code == 1
    assert "bank hollow is not finished" in result.stderr


def test_similar_images_of_an_empty_catalogue(world) -> None:
    run, encoder, url = world
    build(run, encoder)
    with connect(url) as conn:
        conn.execute("truncate geosearch.image cascade")
        conn.execute("update geosearch.bank set value_space_id = null")
    result = run("similar", "--bank", "b", "--near", "1,2", "--space", "nope")
    assert result.exit_code == 1
    assert "no space is named 'nope'" in result.stderr
    assert run("similar", "--bank", "b", "--near", "1,2", "--space", "vals", "--json").stdout == "[]\n"
