"""What the database refuses, or cannot hold, costs its own row and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import shapely
from catalog_helpers import counted

from geosearch.catalog import ingest, staging
from geosearch.catalog.ingest import add
from geosearch.catalog.rejects import list_rejects

Write = Callable[..., Path]


def test_what_the_database_refuses_costs_one_row(
    conn: psycopg.Connection, write_csv: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values that slip past the readers: each kind that a cast of the upsert refuses."""

    def spoil(text: str, at: int, value: str) -> str:
        lines = text.splitlines(keepends=True)
        fields = lines[at].rstrip("\n").split("\t")
        column, new = value.split("=")
        fields[int(column)] = new
        return "".join([*lines[:at], "\t".join(fields) + "\n", *lines[at + 1 :]])

    real = staging.to_copy
    # An edge between antipodes: what a world box that was not cut does to a COPY.
    antipodal = shapely.MultiPolygon([shapely.Polygon([(0, 0), (180, 0), (90, 10)])])
    hexed = str(shapely.to_wkb(shapely.set_srid(antipodal, 4326), hex=True, include_srid=True))

    def spoiled(*args: object) -> bytes:
        text = real(*args).decode()  # type: ignore[arg-type]
        text = spoil(text, 3, "3=soon")
        text = spoil(text, 5, "5=0106nonsense")
        text = spoil(text, 7, "7={broken")
        return spoil(text, 9, f"5={hexed}").encode()

    monkeypatch.setattr(ingest, "to_copy", spoiled)
    path = write_csv(["name", "lat", "lon"], [[f"n{i}", i, i] for i in range(20)])
    assert counted(add(conn, path, "a")) == (16, 0, 0, 4, 0)
    found = list_rejects(conn, "a")
    assert [r.line for r in found] == [5, 7, 9, 11]
    assert all("the database refused it" in r.reason for r in found)
    conn.commit()
    monkeypatch.setattr(ingest, "to_copy", real)
    assert counted(add(conn, path, "a")) == (4, 0, 16, 0, 0)
    assert not list_rejects(conn, "a")


def test_every_kind_of_text_arrives_as_it_was(conn: psycopg.Connection, write_csv: Write) -> None:
    names = [
        "first\n\\.\nlast",
        'say "hi"',
        "comma, quote'",
        "line\nbreak",
        "back\\slash",
        "ünïcødé 🌍",
        r"\N",
        "\\.",
        "{a,b}",
        "NULL",
        "tab\there",
    ]
    path = write_csv(["name", "lat", "lon", "note"], [[name, 1, 2, name] for name in names])
    assert counted(add(conn, path, "a")) == (len(names), 0, 0, 0, 0)
    rows = conn.execute("select name, properties->>'note' from geosearch.image order by id").fetchall()
    assert rows == [(name, name) for name in names]


def test_properties_with_a_nul_escape_are_refused_alone(conn: psycopg.Connection, tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": {"type": "Point", "coordinates": [1, 2]},
         "properties": {"datetime": "2020-01-01T00:00:00Z", "note": note}}
        for name, note in (("a", "x"), ("b", "nul\x00"), ("c", "z"))
    ]  # fmt: skip
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert counted(add(conn, path, "a")) == (2, 0, 0, 1, 0)
    assert list_rejects(conn)[0].name == "b"


def test_broken_text_of_any_source_costs_one_row(conn: psycopg.Connection, write_tif: Write, tmp_path: Path) -> None:
    write_tif("rasters/good.tif")
    bad = os.fsencode(tmp_path / "rasters") + b"/b\xffd.tif"
    Path(os.fsdecode(bad)).write_bytes((tmp_path / "rasters" / "good.tif").read_bytes())
    Path(os.fsdecode(bad) + ".tif").write_bytes(b"")  # rejected by the reader, with its name
    assert counted(add(conn, tmp_path / "rasters", "r")) == (1, 0, 0, 2, 0)
    items = tmp_path / "items.json"
    items.write_text(
        """{"type": "FeatureCollection", "features": [
        {"type": "Feature", "stac_version": "1.0.0", "id": "nul\\u0000", "geometry": null, "bbox": [0, 0, 1, 1]},
        {"type": "Feature", "stac_version": "1.0.0", "id": "half", "geometry": null, "bbox": [0, 0, 1, 1],
         "properties": {"note": "\\ud800"}},
        {"type": "Feature", "stac_version": "1.0.0", "id": "href", "geometry": null, "bbox": [0, 0, 1, 1],
         "assets": {"visual": {"href": "a\\u0000b.png"}}},
        {"type": "Feature", "stac_version": "1.0.0", "id": "nan", "geometry": null, "bbox": [0, 0, 1, 1],
         "properties": {"eo:cloud_cover": NaN, "deep": [Infinity]}}]}"""
    )
    assert counted(add(conn, items, "s")) == (1, 0, 0, 3, 0)
    row = conn.execute("select name, properties from geosearch.image where name = 'nan'").fetchone()
    assert row == ("nan", {"eo:cloud_cover": None, "deep": [None]})


def test_names_that_cannot_be(conn: psycopg.Connection, write_csv: Write) -> None:
    path = write_csv(["name", "lat", "lon"], [["", 1, 2], ["x" * 1001, 1, 2], ["ß" * 1000, 1, 2]])
    assert counted(add(conn, path, "a")) == (1, 0, 0, 2, 0)
    assert [r.reason for r in list_rejects(conn)] == [
        "the image has no name", "the name has 1001 characters, more than 1000"
    ]  # fmt: skip
