"""The views for map clients, opened by GDAL as QGIS opens them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

needs_gdal = pytest.mark.skipif(
    not (shutil.which("ogrinfo") and shutil.which("ogr2ogr")), reason="ogrinfo and ogr2ogr (gdal-bin) are not installed"
)


@pytest.fixture
def archive(conn):
    """Four images: nadir only, footprint only, both, no place; one of them with doubts."""
    conn.execute("insert into geosearch.archive (name) values ('alps')")
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, footprint, reach_m, problems, properties)"
        " select id, v.name, st_geogfromtext(v.nadir), st_geogfromtext(v.footprint), 0, v.problems::text[],"
        ' \'{"mission": "ISS"}\' from geosearch.archive, (values'
        " ('nadir', 'POINT(7 46)', null, '{}'),"
        " ('footprint', null, 'MULTIPOLYGON(((8 47,9 47,9 48,8 48,8 47)))', '{}'),"
        " ('both', 'POINT(-170 -10)', 'MULTIPOLYGON(((170 1,180 1,180 2,170 2,170 1)),"
        '((-180 1,-179 1,-179 2,-180 2,-180 1)))\', \'{"nadir far off","no date"}\'),'
        " ('nowhere', null, null, '{}')) v(name, nadir, footprint, problems)"
    )
    conn.execute("select geosearch.create_space('toy', 3)")
    conn.execute("insert into geosearch.space_toy (image_id, embedding) select id, '[1,2,3]' from geosearch.image")
    conn.commit()
    return conn


@pytest.fixture
def source(database_url):
    """GDAL's connection string of the database."""
    known = conninfo_to_dict(database_url)
    return "PG:" + " ".join(f"{key}='{value}'" for key, value in known.items() if key != "application_name")


def gdal(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr + done.stdout, done.stderr
    return done.stdout


def test_views_are_registered_with_their_type_and_srid(archive):
    rows = archive.execute(
        "select f_table_name, f_geometry_column, type, srid, coord_dimension from geometry_columns"
        " where f_table_schema = 'geosearch' order by 1"
    ).fetchall()
    assert rows == [
        ("footprint_map", "geom", "MULTIPOLYGON", 4326, 2),
        ("image_map", "geom", "POINT", 4326, 2),
        ("latest_ranking", "geom", "POINT", 4326, 2),
        ("ranked_image", "geom", "POINT", 4326, 2),
    ]


def test_the_first_column_is_the_key_and_no_column_is_an_array_or_a_vector(archive):
    for view in ("image_map", "footprint_map"):
        columns = archive.execute(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = %s::regclass and attnum > 0 order by attnum",
            [f"geosearch.{view}"],
        ).fetchall()
        assert columns[0] == ("id", "bigint")
        plain = {"bigint", "text", "timestamp with time zone", "double precision", "boolean"}
        assert {type_ for _, type_ in columns[:-1]} <= plain
        assert columns[-1][0] == "geom"


def test_image_map_shows_every_image_with_a_place_at_its_nadir_or_on_its_footprint(archive):
    rows = archive.execute(
        "select m.name, st_x(m.geom), st_y(m.geom), m.problems, m.properties, m.has_footprint,"
        " coalesce(st_intersects(m.geom, i.footprint::geometry), false)"
        " from geosearch.image_map m join geosearch.image i on i.id = m.id order by m.id"
    ).fetchall()
    assert [row[0] for row in rows] == ["nadir", "footprint", "both"]
    assert rows[0][1:6] == (7, 46, "", '{"mission": "ISS"}', False)
    assert rows[1][5:] == (True, True)
    assert rows[2][1:4] == (-170, -10, "nadir far off; no date")
    names = archive.execute("select name from geosearch.footprint_map order by id").fetchall()
    assert names == [("footprint",), ("both",)]


@needs_gdal
def test_gdal_lists_the_views_and_no_vector_tables(archive, source):
    # GDAL leaves out the schema of a user who bears its name.
    listed = gdal("ogrinfo", "-q", "-ro", source).replace("geosearch.", "")
    layers = [line.split(": ", 1)[1] for line in listed.splitlines()]
    # The place of a question may be of any type.
    assert layers == [
        "image (Point, Multi Polygon)", "query", "image_map (Point)", "footprint_map (Multi Polygon)",
        "ranked_image (Point)", "latest_ranking (Point)",
    ]  # fmt: skip


@needs_gdal
@pytest.mark.parametrize(
    ("view", "count", "kind", "extent"),
    [
        ("image_map", 3, "Point", (-170, -10, 8.5, 47.5)),
        ("footprint_map", 2, "Multi Polygon", (-180, 1, 180, 48)),
    ],
)
def test_gdal_reads_type_srid_extent_and_key(archive, source, view, count, kind, extent):
    text = gdal("ogrinfo", "-ro", "-so", source, f"geosearch.{view}")
    assert f"Geometry: {kind}" in text
    assert f"Feature Count: {count}" in text
    assert "WGS 84" in text
    assert 'ID["EPSG",4326]]' in text
    assert "id: Integer64" in text
    assert "problems: String" in text
    numbers = text.split("Extent: ")[1].splitlines()[0].replace("(", "").replace(")", "").replace(" - ", ",")
    assert tuple(round(float(n), 6) for n in numbers.split(",")) == extent


@needs_gdal
@pytest.mark.parametrize("view", ["image_map", "footprint_map"])
def test_ogr2ogr_writes_a_geopackage_whose_fid_is_the_id(archive, source, view, tmp_path):
    ids = [row[0] for row in archive.execute(f"select id from geosearch.{view} order by id").fetchall()]
    out = tmp_path / "out.gpkg"
    gdal("ogr2ogr", "-f", "GPKG", str(out), source, f"geosearch.{view}", "-nln", view, "-lco", "FID=id")
    text = gdal("ogrinfo", "-ro", "-al", str(out))
    assert "FID Column = id" in text
    assert [int(line.split(":")[1]) for line in text.splitlines() if line.startswith("OGRFeature(")] == ids
    back = tmp_path / "out.geojson"
    gdal("ogr2ogr", "-f", "GeoJSON", str(back), str(out), view)
    features = json.loads(back.read_text(encoding="utf-8"))["features"]
    assert [feature["properties"]["name"] for feature in features][-1] == "both"
    assert features[-1]["properties"]["problems"] == "nadir far off; no date"


def test_the_views_show_what_their_reader_may_see(archive, superuser_url):
    """security_invoker: who may not read the tables cannot read them through a view."""
    assert urlsplit(superuser_url).scheme.startswith("postgres")
    assert unquote(urlsplit(superuser_url).path)
    with psycopg.connect(superuser_url) as admin:
        options = admin.execute(
            "select relname, reloptions from pg_class where relnamespace = 'geosearch'::regnamespace and relkind = 'v'"
        ).fetchall()
        assert {name: list(option) for name, option in options} == {
            "image_map": ["security_invoker=true"],
            "footprint_map": ["security_invoker=true"],
            "latest_ranking": ["security_invoker=true"],
            "ranked_image": ["security_invoker=true"],
        }
        admin.execute("create role geosearch_test_stranger")
        admin.execute("grant usage on schema geosearch to geosearch_test_stranger")
        admin.execute("grant select on geosearch.image_map to geosearch_test_stranger")
        admin.execute("set local role geosearch_test_stranger")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for table image"):
            admin.execute("select * from geosearch.image_map")
        admin.rollback()
