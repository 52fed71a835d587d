"""The view and the table of a bank as map clients open them: no embedding is computed to list, count or draw them."""

from __future__ import annotations

import os
import shutil
import subprocess

import psycopg
import pytest
from bank_spaces import Spaces
from psycopg.conninfo import conninfo_to_dict

pytestmark = pytest.mark.skipif(
    not (shutil.which("ogrinfo") and shutil.which("ogr2ogr")), reason="ogrinfo and ogr2ogr (gdal-bin) are not installed"
)


@pytest.fixture
def source(conn: psycopg.Connection, database_url: str) -> str:
    """GDAL's connection to a database whose bank can no longer compute anything: its encoder's weights are gone."""
    Spaces(conn, 30, placeless=2).build()
    conn.execute(
        "insert into geosearch.range_bank_stored select id, array_fill(1, array[10])::vector, nadir::geometry"
        " from geosearch.image where nadir is not null"
    )
    conn.execute("delete from geosearch.location_weight")
    conn.commit()
    known = conninfo_to_dict(database_url)
    return "PG:" + " ".join(f"{key}='{value}'" for key, value in known.items() if key != "application_name")


def gdal(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize("layer", ["range_bank", "range_bank_stored"])
def test_layers_are_listed_and_described_without_an_embedding(source: str, layer: str) -> None:
    assert f"{layer} (Point)" in gdal("ogrinfo", "-ro", source).stdout
    about = gdal("ogrinfo", "-ro", "-so", source, f"geosearch.{layer}")
    assert about.returncode == 0, about.stderr
    assert "ERROR" not in about.stderr
    assert "Feature Count: 28" in about.stdout
    assert "Geometry: Point" in about.stdout
    assert "FID Column = image_id" in about.stdout or "id: Integer64" in about.stdout


def test_points_of_the_view_are_copied_without_an_embedding(source: str, tmp_path) -> None:
    out = tmp_path / "images.gpkg"
    select = "select id, archive, name, geom from geosearch.range_bank"
    done = gdal("ogr2ogr", "-f", "GPKG", str(out), source, "-sql", select, "-nln", "images")
    assert done.returncode == 0, done.stderr
    assert "Feature Count: 28" in gdal("ogrinfo", "-ro", "-so", str(out), "images").stdout
    # All columns of it are another matter: the cost that the view's COMMENT tells of.
    assert "weights" in gdal("ogrinfo", "-ro", "-al", source, "geosearch.range_bank").stderr
