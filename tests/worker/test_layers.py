"""The answers as map layers, opened by GDAL as QGIS opens them, with an asker's own login."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from worker_helpers import ask

from geosearch.worker.run import Worker

needs_gdal = pytest.mark.skipif(
    not (shutil.which("ogrinfo") and shutil.which("ogr2ogr")), reason="ogrinfo and ogr2ogr (gdal-bin) are not installed"
)


def gdal(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr + done.stdout, done.stderr
    return done.stdout


@needs_gdal
def test_layers_open_at_once_and_a_new_answer_needs_a_refresh_only(archive, login, tmp_path):
    archive.conn.execute("update geosearch.image set nadir = null where id = %s", [archive.ids[4]])  # without a place
    url = login("ask")
    source = "PG:" + " ".join(f"{key}='{value}'" for key, value in conninfo_to_dict(url).items())
    with psycopg.connect(url, autocommit=True) as asker:
        first = ask(asker, like=archive.ids[0], k=2)
        Worker(archive.url, once=True, embed=False).run()
        listed = gdal("ogrinfo", "-q", "-ro", source)
        assert "geosearch.ranked_image (Point)" in listed
        assert "geosearch.latest_ranking (Point)" in listed
        text = gdal("ogrinfo", "-ro", "-so", source, "geosearch.latest_ranking")
        for words in ("Geometry: Point", "Feature Count: 2", 'ID["EPSG",4326]]', "id: Integer64", "rank: Integer",
                      "similarity: Real", "query: String", "captured_at: DateTime"):  # fmt: skip
            assert words in text
        second = ask(asker, like=archive.ids[1], k=5, near="POINT(0 0)", radius_m=1e7)
        third = ask(asker, like=archive.ids[3], k=5)
        waiting_only = asker.execute("select distinct query_id from geosearch.latest_ranking").fetchall()
        assert waiting_only == [(first,)]  # what is asked anew does not empty the map
        Worker(archive.url, once=True, embed=False).run()
    out = tmp_path / "out.gpkg"
    gdal("ogr2ogr", "-f", "GPKG", str(out), source, "geosearch.ranked_image", "-nln", "answers", "-lco", "FID=id")
    back = tmp_path / "out.geojson"
    gdal("ogr2ogr", "-f", "GeoJSON", str(back), str(out), "answers")
    features = json.loads(back.read_text(encoding="utf-8"))["features"]
    rows = [(f["properties"]["query_id"], f["properties"]["rank"], f["properties"]["name"]) for f in features]
    assert [row[:2] for row in rows] == [(first, 1), (first, 2), *[(second, i) for i in (1, 2, 3, 4)],
                                         *[(third, i) for i in (1, 2, 3, 4, 5)]]  # fmt: skip
    assert [f["geometry"] is None for f in features] == [row[2] == "i4" for row in rows]
    assert features[0]["properties"]["query"] == f"image {archive.ids[0]}"
    assert features[2]["properties"]["distance_m"] == pytest.approx(111319.5, abs=1)


def test_the_latest_ranking_is_that_of_who_looks(archive, login):
    urls = login("ask"), login("ask")
    questions = []
    for url in urls:
        with psycopg.connect(url, autocommit=True) as asker:
            questions.append(ask(asker, like=archive.ids[0]))
    mine = archive.ask(text="fails: no model")
    Worker(archive.url, once=True, embed=False).run()
    latest = "select distinct query_id from geosearch.latest_ranking"
    for url, question in zip(urls, questions, strict=True):
        with psycopg.connect(url) as asker:
            assert asker.execute(latest).fetchall() == [(question,)]
    assert archive.conn.execute(latest).fetchall() == []  # the owner sees all answers, but asked none that was answered
    assert archive.facts(mine, "state") == ("failed",)
    assert archive.conn.execute("select count(distinct query_id) from geosearch.ranked_image").fetchone() == (2,)
