"""A location encoder taken into a database, by COPY and by a script for psql, gives the vectors that Python gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import psycopg
import pytest
from geosearch_cli.main import app
from typer.testing import CliRunner

from geosearch.database.connection import connect
from geosearch.encoders import registry
from geosearch.errors import InputError, ModelError
from geosearch.range.install import install_network, write_sql

PLACES = [(90.0, 0.0), (-90.0, 12.0), (0.0, 180.0), (0.0, -180.0), (46.95, 7.45), (-33.9, 18.4), (71.2, -156.8)]


@pytest.fixture(scope="module")
def name(tmp_path_factory) -> str:
    """The name of a small encoder in a folder, whose path needs quoting in SQL."""
    import torch

    from geosearch.encoders.location_folder import write_folder
    from geosearch.encoders.satclip import SirenLocation

    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("O'Brien's $1 :id ü")
    aligned = {"aligned_with": {"model": "mini-clip", "weights_sha256": "0" * 64}}
    write_folder(folder, SirenLocation(6, width=40, hidden_layers=2, dimension=12), aligned)
    return f"satclip:local-dir:{folder}"


def assert_equal_vectors(url: str, name: str) -> None:
    expected = registry.load(name).encode_places(*np.array(PLACES).T)
    with connect(url) as conn:
        for (lat, lon), vector in zip(PLACES, expected, strict=True):
            row = conn.execute(
                "select geosearch.encode_place(%s, st_makepoint(%s, %s)::geography)", [name, lon, lat]
            ).fetchone()
            assert np.linalg.norm(row[0].to_numpy() - vector) < 1e-5


def run_psql(url: str, script: Path) -> subprocess.CompletedProcess[str]:
    psql = shutil.which("psql")
    if psql is None:
        pytest.skip("psql is not installed")
    command = [psql, "--no-psqlrc", "--quiet", "--dbname", url, "--file", str(script)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})


def test_an_installed_encoder_gives_pythons_vectors(conn, database_url, name):
    done = install_network(conn, name)
    conn.commit()
    assert (done.name, done.family, done.dimension, done.nets) == (name, "satclip", 12, 1)
    assert done.numbers == 36 * 40 + 40 + 40 * 40 + 40 + 40 * 12 + 12
    assert_equal_vectors(database_url, name)
    again = install_network(conn, name)
    conn.commit()
    assert again == done
    assert_equal_vectors(database_url, name)


def test_mini_location_and_geoclip_give_pythons_vectors(conn, database_url, tmp_path):
    import torch

    from geosearch.encoders.geoclip import GeoClipLocation

    torch.manual_seed(5)
    path = tmp_path / "geoclip.pth"
    torch.save(GeoClipLocation().state_dict(), path)
    for name in ("mini-location", f"geoclip/file:{path}"):
        install_network(conn, name)
        conn.commit()
        assert_equal_vectors(database_url, name)


def test_the_row_of_the_model_says_what_the_registry_says(conn, name):
    from geosearch.embedding.identity import record_model

    install_network(conn, name)
    assert record_model(conn, registry.describe(name)) == name
    assert conn.execute("select count(*) from geosearch.model").fetchone() == (1,)


def test_psql_alone_installs_the_script(database_url, tmp_path, name):
    script = tmp_path / "a script.sql"
    done = write_sql(name, script)
    assert done.file == str(script)
    assert [path.name for path in tmp_path.iterdir()] == [script.name]
    for _ in range(2):  # the second time it replaces what is there
        ran = run_psql(database_url, script)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert str(done.numbers) in ran.stdout
        assert_equal_vectors(database_url, name)
    with psycopg.connect(database_url) as conn:
        assert conn.execute("select count(*) from geosearch.location_weight").fetchone() == (92,)


def test_script_and_copy_bring_exactly_the_same_weights(conn, database_url, tmp_path, name):
    look = "select net, layer, unit, bias, weights::text from geosearch.location_weight order by 1, 2, 3"
    install_network(conn, name)
    conn.commit()
    copied = conn.execute(look).fetchall()
    write_sql(name, tmp_path / "x.sql")
    conn.execute("delete from geosearch.location_weight")
    conn.commit()
    assert run_psql(database_url, tmp_path / "x.sql").returncode == 0
    assert conn.execute(look).fetchall() == copied
    network = registry.load(name).network()
    weights = np.array([json.loads(row[4]) for row in copied if row[1] == 0], np.float32)
    np.testing.assert_array_equal(weights, network.nets[0][0].weights)


def test_a_script_that_is_cut_short_leaves_nothing_behind(database_url, tmp_path, name):
    script = tmp_path / "x.sql"
    write_sql(name, script)
    lines = script.read_text("utf-8").splitlines(keepends=True)
    script.write_text("".join([*lines[:40], *lines[45:]]), "utf-8")  # some units are gone
    ran = run_psql(database_url, script)
    assert ran.returncode == 3
    assert "is missing" in ran.stderr
    assert "geosearch model install-sql" in ran.stderr
    with psycopg.connect(database_url) as conn:
        assert conn.execute("select count(*) from geosearch.model").fetchone() == (0,)


def test_baselines_and_image_models_have_nothing_to_install(conn, tmp_path):
    with pytest.raises(ModelError, match="has no weights"):
        install_network(conn, "coordinates:wrap")
    with pytest.raises(ModelError, match=r"mini-clip reads image, text, no places"):
        write_sql("mini-clip", tmp_path / "x.sql")
    assert list(tmp_path.iterdir()) == []


def test_layers_too_wide_for_a_page_are_refused(conn, tmp_path):
    from geosearch.encoders.location_folder import write_folder
    from geosearch.encoders.satclip import SirenLocation

    aligned = {"aligned_with": {"model": "mini-clip", "weights_sha256": "0" * 64}}
    write_folder(tmp_path / "wide", SirenLocation(2, width=2001, hidden_layers=1, dimension=3), aligned)
    with pytest.raises(ModelError, match="net 0, layer 1 has 2001 inputs; a row of a table holds at most 2000"):
        install_network(conn, f"satclip:local-dir:{tmp_path / 'wide'}")
    write_folder(tmp_path / "wide", SirenLocation(2, width=2000, hidden_layers=1, dimension=3), aligned)
    assert install_network(conn, f"satclip:local-dir:{tmp_path / 'wide'}").numbers == 4 * 2000 + 2000 + 3 * 2000 + 3


def test_a_file_that_cannot_be_written_is_said(tmp_path, name):
    with pytest.raises(InputError, match="cannot be written: No such file or directory"):
        write_sql(name, tmp_path / "nowhere" / "x.sql")


def test_the_command_installs_or_writes(database_url, tmp_path, name, monkeypatch):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    runner = CliRunner()
    done = runner.invoke(app, ["model", "install-sql", name, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["dimension"] == 12
    assert_equal_vectors(database_url, name)
    script = tmp_path / "x.sql"
    done = runner.invoke(app, ["model", "install-sql", name, "--out", str(script)])
    assert done.exit_code == 0, done.output
    assert script.exists()


def test_admins_install_and_readers_encode(conn, name):
    """Who only embeds may not change the weights by which others ask."""
    conn.execute("set role geosearch_ingest")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
        install_network(conn, name)
    conn.execute("set role geosearch_admin")
    install_network(conn, name)
    install_network(conn, name)
    conn.commit()
    conn.execute("set role geosearch_read")
    conn.execute("set transaction read only")
    row = conn.execute("select vector_norm(geosearch.encode_place(%s, 'POINT(7 46)'))", [name]).fetchone()
    assert row[0] == pytest.approx(1, abs=1e-6)
