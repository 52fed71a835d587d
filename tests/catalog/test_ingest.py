"""Cataloguing into a database: every row counted, nothing changed without cause, one bad row costs itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psycopg
import pytest
import shapely
from catalog_helpers import ISS_HEADER, counted, iss_row

from geosearch.catalog import ingest, staging
from geosearch.catalog.batch import from_records
from geosearch.catalog.ingest import add
from geosearch.catalog.readers import READERS, recognise
from geosearch.catalog.rejects import list_rejects
from geosearch.errors import CatalogError, InputError, UnknownNameError

Write = Callable[..., Path]


def test_again_changes_nothing_and_a_changed_row_updates(conn: psycopg.Connection, write_csv: Write) -> None:
    rows = [iss_row(i) for i in range(50)]
    path = write_csv(ISS_HEADER, rows)
    assert counted(add(conn, path, "a")) == (50, 0, 0, 0, 0)
    before = conn.execute("select id, xmin, ctid, updated_at from geosearch.image order by id").fetchall()
    conn.commit()
    assert counted(add(conn, path, "a")) == (0, 0, 50, 0, 0)
    assert conn.execute("select id, xmin, ctid, updated_at from geosearch.image order by id").fetchall() == before
    conn.commit()

    rows[7] = iss_row(7, lat=50.0)
    rows[8] = iss_row(8, ORIENTATION="12.5")
    path = write_csv(ISS_HEADER, [*rows, iss_row(50)])
    assert counted(add(conn, path, "a")) == (1, 2, 48, 0, 0)
    changed = conn.execute(
        "select name, st_ymin(footprint::geometry), properties->>'orientation' from geosearch.image"
        " where updated_at > added_at order by name"
    ).fetchall()
    assert changed == [("ISS001-E-7", 50.0, "0.0"), ("ISS001-E-8", 10.0, "12.5")]
    ids = [row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()]
    assert ids[:50] == [row[0] for row in before]  # an update keeps the image's id, and so its vectors


def test_an_image_keeps_all_that_was_read(conn: psycopg.Connection, write_csv: Write) -> None:
    add(conn, write_csv(ISS_HEADER, [iss_row(1)]), "a", facts={"title": "Test", "licence": "CC0-1.0"})
    row = conn.execute(
        "select uri, captured_at, st_astext(nadir), st_astext(footprint), reach_m, properties, content_sha256, problems"
        " from geosearch.image"
    ).fetchone()
    assert row == (
        "https://example.org/ISS001-E-1.JPG",
        datetime(2020, 1, 2, tzinfo=UTC),
        "POINT(20 9)",
        "MULTIPOLYGON(((20 10,20 11,21 11,21 10,20 10)))",
        0.0,
        {"mission": "ISS001", "roll": "E", "frame": 1, "sq_km_area": 12000, "orientation": 0.0},
        None,
        [],
    )
    assert conn.execute("select title, licence from geosearch.archive").fetchone() == ("Test", "CC0-1.0")


@pytest.mark.parametrize(("reach_km", "reach_m"), [(None, 2_500_000.0), (0, 0.0), (10.5, 10_500.0)])
def test_reach(conn: psycopg.Connection, write_csv: Write, reach_km: float | None, reach_m: float) -> None:
    add(conn, write_csv(["name", "lat", "lon"], [["a", 1, 2]]), "a", reach_km=reach_km)
    assert conn.execute("select reach_m from geosearch.image").fetchone() == (reach_m,)


def test_rejects_are_kept_and_replaced_and_flags_counted(conn: psycopg.Connection, write_csv: Write) -> None:
    late = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y%m%d")
    rows = [
        iss_row(1), iss_row(2, YYYYMMDD=late), iss_row(3, NADIR_LAT=-60), iss_row(4, UL_LAT=10.0, LL_LAT=11.0),
        iss_row(5, LL_LAT="x"), iss_row(1), iss_row(6, LR_LON=300),
    ]  # fmt: skip
    path = write_csv(ISS_HEADER, rows)
    for expected in ((4, 0, 0, 3, 3), (0, 0, 4, 3, 3)):
        assert counted(add(conn, path, "a")) == expected
        found = list_rejects(conn, "a")
        assert [(r.line, r.name) for r in found] == [(6, "ISS001-E-5"), (7, "ISS001-E-1"), (8, "ISS001-E-6")]
        conn.commit()
    assert "came before, on line 2" in found[1].reason
    assert found[0].source == str(path) and "12000" in (found[0].payload or "")
    problems = dict(conn.execute("select name, problems from geosearch.image where problems <> '{}'").fetchall())
    assert problems == {
        "ISS001-E-2": ["date in the future"], "ISS001-E-3": ["impossible nadir"],
        "ISS001-E-4": ["self-crossing footprint"],
    }  # fmt: skip
    conn.commit()

    other = write_csv(ISS_HEADER, [iss_row(9, LL_LAT="x")], "other.csv")
    add(conn, other, "a")
    assert len(list_rejects(conn, "a")) == 4  # another source's rejects stay
    conn.commit()
    write_csv(ISS_HEADER, rows[:4])  # the source is mended
    assert counted(add(conn, path, "a")) == (0, 0, 4, 0, 3)
    assert [r.source for r in list_rejects(conn, "a")] == [str(other)]
    assert len(list_rejects(conn, limit=1)) == 1 and not list_rejects(conn, stage="embed")
    with pytest.raises(UnknownNameError):
        list_rejects(conn, "b")


def test_a_source_that_cannot_be_read_touches_nothing(
    conn: psycopg.Connection, write_csv: Write, tmp_path: Path
) -> None:
    with pytest.raises(CatalogError, match="does not exist"):
        add(conn, tmp_path / "nothing.csv", "a")
    with pytest.raises(CatalogError, match="no column for an image's name"):
        add(conn, write_csv(["lat", "lon"], [[1, 2]]), "a")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(CatalogError, match="is empty"):
        add(conn, tmp_path / "empty.csv", "a")
    assert conn.execute("select count(*) from geosearch.archive").fetchone() == (0,)


def test_a_header_alone_is_no_rows(conn: psycopg.Connection, write_csv: Write) -> None:
    assert counted(add(conn, write_csv(["name", "lat", "lon"], []), "a")) == (0, 0, 0, 0, 0)


def test_options_must_fit(conn: psycopg.Connection, write_csv: Write, tmp_path: Path) -> None:
    path = write_csv(ISS_HEADER, [iss_row(1)])
    with pytest.raises(InputError, match="reader iss takes no option layer; its options: files, longitudes, reach_km"):
        add(conn, path, "a", layer="x")
    with pytest.raises(InputError, match="no such option"):
        add(conn, path, "a", colour="red")
    with pytest.raises(UnknownNameError, match="there are: geotiff, iss"):
        add(conn, path, "a", reader="isss")
    with pytest.raises(InputError, match="reach"):
        add(conn, path, "a", reach_km=-1)
    with pytest.raises(InputError, match="not a folder"):
        add(conn, path, "a", files=tmp_path / "nowhere")
    conn.execute("select 1")
    with pytest.raises(InputError, match="commit first"):
        add(conn, path, "a")


def test_progress_is_told(conn: psycopg.Connection, write_csv: Write) -> None:
    seen: list[tuple[int, float | None]] = []
    path = write_csv(["name", "lat", "lon"], [[i, 1, 2] for i in range(25_000)])
    add(conn, path, "a", progress=lambda counts, done: seen.append((counts.rows, done)))
    assert [rows for rows, _ in seen] == [10_000, 20_000, 25_000]
    shares = [done for _, done in seen if done is not None]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_two_runs_into_one_archive_wait_for_each_other(
    conn: psycopg.Connection, database_url: str, write_csv: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(["name", "lat", "lon"], [["a", 1, 2]])
    add(conn, path, "a")
    monkeypatch.setattr(ingest, "LOCK_WAIT", "200ms")
    with psycopg.connect(database_url) as other:
        archive = other.execute("select id from geosearch.archive").fetchone()
        other.execute("select pg_advisory_lock(%s, %s)", [ingest._LOCK_CLASS, archive[0] if archive else 0])
        with pytest.raises(CatalogError, match="another run"):
            add(conn, path, "a")
    assert counted(add(conn, path, "a")) == (0, 0, 1, 0, 0)


def test_an_image_without_a_place_is_kept(conn: psycopg.Connection, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert counted(add(conn, tmp_path, "a", placeless=True)) == (1, 0, 0, 0, 0)
    assert conn.execute("select nadir, footprint, reach_m, length(content_sha256) from geosearch.image").fetchone() == (
        None, None, 0, 32
    )  # fmt: skip


def test_the_ingest_role_is_enough(conn: psycopg.Connection, superuser_url: str, write_csv: Write) -> None:
    with psycopg.connect(superuser_url) as plain:
        plain.execute("set role geosearch_ingest")
        plain.commit()
        assert counted(add(plain, write_csv(["name", "lat", "lon"], [["a", 1, 2], ["b", "x", 2]]), "a"))[3] == 1


def test_readers_are_recognised(write_csv: Write, write_tif: Write, tmp_path: Path) -> None:
    assert recognise(write_csv(ISS_HEADER, [])) == "iss"
    assert recognise(write_csv(["name", "lat", "lon"], [], "t.tsv")) == "table"
    assert recognise(write_tif("tifs/a.tif")) == recognise(tmp_path / "tifs") == "geotiff"
    for content, expected in (
        ({"type": "Feature", "stac_version": "1.0.0"}, "stac"),
        ({"type": "FeatureCollection", "features": [{"pad": "x" * 70_000, "stac_version": "1.0.0"}]}, "stac"),
        ({"type": "FeatureCollection", "features": []}, "vector"),
    ):
        path = tmp_path / "json" / "a.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        assert recognise(path) == expected
    with pytest.raises(CatalogError, match="name one with --reader"):
        recognise(write_csv(["a"], [], "what.xyz"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(CatalogError, match="holds no GeoTIFF"):
        recognise(tmp_path / "bare")


def test_every_reader_can_be_loaded() -> None:
    for reader in READERS.values():
        assert callable(reader.read)


def test_the_hash_covers_all_that_is_stored() -> None:
    from geosearch.catalog.batch import Record

    base = {"name": "a", "uri": "u", "nadir": (1.0, 2.0), "properties": {"x": 1}, "problems": ("p",)}
    changes = [
        {}, {"name": "b"}, {"uri": None}, {"uri": ""}, {"nadir": (1.0, 2.5)}, {"properties": {"x": 2}},
        {"problems": ()}, {"content_sha256": b"\1" * 32}, {"captured_at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"footprint": shapely.MultiPolygon([shapely.box(0, 0, 1, 1)])},
    ]  # fmt: skip
    variants = [base | change for change in changes]
    batch = from_records([Record(**v) for v in variants], [])
    hashes = [line.rsplit("\t", 1)[1] for line in staging.to_copy(batch).decode().splitlines()]
    assert len(set(hashes)) == len(variants)
    again = [line.rsplit("\t", 1)[1] for line in staging.to_copy(batch.only(np.arange(10) > 4)).decode().splitlines()]
    assert again == hashes[5:]  # a row's hash does not depend on its neighbours
    other_reach = staging.to_copy(batch, 5.0).decode().splitlines()
    assert other_reach[0].rsplit("\t", 1)[1] != hashes[0]
