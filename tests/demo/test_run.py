"""The whole demo, small: a tiny model with random weights, a real database, twice."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from geosearch_cli.main import app
from tiny_model import write_model
from typer.testing import CliRunner

from geosearch.database.archives import ensure_archive, list_archives
from geosearch.database.spaces import list_spaces
from geosearch.demo.run import run
from geosearch.encoders.pictures import open_image
from geosearch.errors import InputError
from geosearch.search.compose_page import composed_question
from geosearch.search.thumbnails import local_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny", size=64)


def check_page(page):
    text = page.read_text("utf-8")
    assert "The photographs are simulated" in text
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert "<script" not in text
    assert text.count("<svg") >= 5
    return text


def test_the_demo_runs_and_a_second_run_repeats_nothing(conn, database_url, home, model, tmp_path):
    told = []
    first = run(
        tmp_path / "out" / "demo.html",
        tiles=40,
        photographs=6,
        model=model,
        url=database_url,
        tell=lambda title, done, of: told.append(title),
    )
    assert first.page == tmp_path / "out" / "demo.html"
    check_page(first.page)
    archives = {found.name: found for found in list_archives(conn)}
    assert archives["bluemarble-demo"].images == archives["bluemarble-demo"].with_footprint == first.tiles
    assert archives["astronaut-demo"].images == archives["astronaut-demo"].with_nadir == 6
    assert archives["astronaut-demo"].with_footprint == 0  # the answer is not in the database
    assert {space.name: space.count for space in list_spaces(conn)} == {
        "demo": first.tiles + 6,
        "demo_colours": first.tiles + 6,
    }
    assert list(dict.fromkeys(told)) == list(first.seconds)
    # Every query is counted, and recall grows with k.
    for line in first.table:
        assert line.recall.counted + line.recall.without_relevant in (6, first.planned.held_out.sum())
        assert list(line.recall.at.values()) == sorted(line.recall.at.values())
    for asked in first.asked:
        assert {r.archive for r in asked.anywhere} == {"bluemarble-demo"}
        assert asked.anywhere.plan.candidates == first.tiles
        # Whatever a photograph shows lies within the circle round its nadir.
        assert asked.relevant <= {r.image_id for r in asked.nearby}

    conn.rollback()
    embedded = conn.execute("select max(embedded_at) from geosearch.space_demo").fetchone()
    updated = conn.execute("select max(updated_at) from geosearch.image").fetchone()
    second = run(tmp_path / "again.html", tiles=40, photographs=6, model=model, url=database_url)
    assert second.table == first.table
    assert [a.nearby for a in second.asked] == [a.nearby for a in first.asked]
    conn.rollback()
    assert conn.execute("select max(embedded_at) from geosearch.space_demo").fetchone() == embedded
    assert conn.execute("select max(updated_at) from geosearch.image").fetchone() == updated


def _sea_and_desert(result):
    """Whether a tenth of a tile is blue and a tenth the colour of sand."""
    red, green, blue = np.moveaxis(np.asarray(open_image(local_path(result.uri, result.root)), float), -1, 0)
    sand = (red > green) & (green > blue) & (red > 120)
    return ((blue > 1.3 * red).mean() > 0.1) and (sand.mean() > 0.1)


@pytest.mark.slow
def test_with_mini_clip_a_bank_is_built_and_asked(conn, database_url, home, tmp_path):
    def made():
        return run(tmp_path / "a.html", tiles=300, photographs=2, places=200, url=database_url)

    first = made()
    bank = conn.execute("select id, places, key_dimension, value_dimension from geosearch.bank").fetchone()
    assert bank[1:] == (200, 256, 1024)
    assert [place.name for place in first.expected] == [
        "the Sahara", "the Amazon", "the Himalaya", "the coast of Greenland"
    ]  # fmt: skip
    # From coordinates alone: north is north, and desert is brighter than rainforest.
    best = {place.name: place.ranking.results for place in first.expected}
    assert all(result.lat > 55 for result in best["the coast of Greenland"][:3])
    bright = {name: [np.asarray(open_image(local_path(r.uri, r.root))).mean() for r in best[name]] for name in best}
    assert min(bright["the Sahara"]) > max(bright["the Amazon"])
    assert not {result.name for result in best["the Sahara"]} & {result.name for result in best["the Amazon"]}
    assert "What a place is expected to look like" in check_page(first.page)
    # A desert and "coast": sea and desert in one picture, in more answers than the most desert-like have.
    coasts = first.composed[2]
    assert composed_question(coasts.parts).endswith("“coast”") and coasts.lam == 0.8
    assert sum(map(_sea_and_desert, coasts)) >= 3 > sum(map(_sea_and_desert, best["the Sahara"]))
    assert "Like this tile, but" in check_page(first.page)
    second = made()
    assert [ranking.results for ranking in second.composed] == [ranking.results for ranking in first.composed]
    conn.rollback()
    assert conn.execute("select id from geosearch.bank").fetchone()[0] == bank[0]
    assert [place.ranking for place in second.expected] == [place.ranking for place in first.expected]


def test_another_size_and_another_model_replace_the_first(conn, database_url, home, model, tmp_path):
    run(tmp_path / "a.html", tiles=40, photographs=4, model=model, url=database_url)
    other = write_model(tmp_path / "other", seed=1, size=64)
    found = run(tmp_path / "b.html", tiles=60, photographs=4, model=other, url=database_url)
    images = {archive.name: archive.images for archive in list_archives(conn)}
    assert images == {"bluemarble-demo": found.tiles, "astronaut-demo": 4}
    spaces = {space.name: space for space in list_spaces(conn)}
    assert spaces["demo"].count == found.tiles + 4
    assert spaces["demo"].model == other


def test_an_archive_of_that_name_that_is_not_the_demos_is_left_alone(conn, database_url, home, model, tmp_path):
    ensure_archive(conn, "bluemarble-demo", title="mine")
    conn.commit()
    with pytest.raises(InputError, match="not made by the demo"):
        run(tmp_path / "a.html", tiles=40, photographs=4, model=model, url=database_url)


@pytest.mark.slow
def test_killed_and_run_again(conn, database_url, home, model, tmp_path):
    """kill -9 in the middle of each step; the next run goes on, and the end is that of an undisturbed run."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom geosearch.demo.run import run\n"
        "def tell(title, done, of):\n"
        "    if title == sys.argv[1] and done:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
        "run(Path(sys.argv[2]), tiles=40, photographs=4, model=sys.argv[3], url=sys.argv[4], tell=tell)\n"
    )
    for title in ("tiles cut from Blue Marble", "photographs simulated", "images catalogued", "images embedded"):
        arguments = [sys.executable, "-c", script, title, str(tmp_path / "a.html"), model, database_url]
        killed = subprocess.run(arguments, env=os.environ, capture_output=True, text=True, timeout=300, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    found = run(tmp_path / "a.html", tiles=40, photographs=4, model=model, url=database_url)
    assert {archive.name: archive.images for archive in list_archives(conn)} == {
        "bluemarble-demo": found.tiles,
        "astronaut-demo": 4,
    }
    assert next(space.count for space in list_spaces(conn) if space.name == "demo") == found.tiles + 4
    check_page(tmp_path / "a.html")


def test_the_command_prints_one_document(conn, database_url, home, model, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    page = tmp_path / "page.html"
    small = ["--tiles", "40", "--photographs", "4", "--model", model, "--out", str(page)]
    result = CliRunner().invoke(app, ["demo", *small, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["page"] == str(page)
    assert {"tiles", "photographs", "table", "seconds", "model"} <= set(document)
    result = CliRunner().invoke(app, ["demo", *small])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == str(page)
    assert result.stdout.splitlines()[0].split() == ["photographs", "search", "by", "R@1", "R@5", "R@10", "R@100"]
