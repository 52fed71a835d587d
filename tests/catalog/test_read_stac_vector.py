"""Readers `stac` and `vector`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from catalog_helpers import read_all

from geosearch.catalog import read_stac, read_vector
from geosearch.catalog.options import Options
from geosearch.errors import CatalogError

WriteTif = Callable[..., Path]


# STAC


def item(name: str, geometry: Any, bbox: Any = None, **properties: Any) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": geometry, "bbox": bbox, "links": [],
        "properties": {"datetime": "2020-01-02T03:04:05Z"} | properties,
        "assets": {"thumb": {"href": "./a.png", "type": "image/png", "roles": ["thumbnail"]},
                   "data": {"href": "https://example.org/a.tif", "type": "image/tiff", "roles": ["data"]}},
    }  # fmt: skip


def ring(*points: tuple[float, float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}


SQUARE = ring((0, 0), (1, 0), (1, 1), (0, 1))


def put(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_items_of_every_writing(tmp_path: Path) -> None:
    put(tmp_path / "square.json", item("square", SQUARE, [0, 0, 1, 1]))
    put(tmp_path / "box.json", item("box", None, [179, 10, -179, 11]))  # west > east
    put(tmp_path / "box3d.json", item("box3d", None, [1, 2, 0, 3, 4, 9000]))
    put(tmp_path / "over.json", item("over", ring((179, 0), (-179, 0), (-179, 1), (179, 1)), [179, 0, -179, 1]))
    put(tmp_path / "wide.json", item("wide", ring((-120, 0), (120, 0), (120, 1), (-120, 1)), [-120, 0, 120, 1]))
    put(tmp_path / "point.json", item("point", {"type": "Point", "coordinates": [5, 6]}))
    put(
        tmp_path / "sub" / "many.json",
        {"type": "FeatureCollection", "features": [item("one", SQUARE), item("two", SQUARE)]},
    )
    (tmp_path / "a.png").write_bytes(b"x")
    rows, rejects = read_all(read_stac, tmp_path)
    assert not rejects
    assert {name: round(r["footprint"].area) for name, r in rows.items() if r["footprint"]} == {
        "square": 1, "box": 2, "box3d": 4, "over": 2, "wide": 240, "one": 1, "two": 1
    }  # fmt: skip
    assert rows["point"]["nadir"] == (6, 5)
    assert rows["square"]["uri"] == str(tmp_path / "a.png") and rows["square"]["content"] is not None
    assert rows["one"]["problems"] == ("image file not found",)  # sub/a.png
    assert rows["square"]["at"] == "2020-01-02T03:04:05+00:00"
    rows, _ = read_all(read_stac, tmp_path / "square.json", asset="data")
    assert rows["square"]["uri"] == "https://example.org/a.tif"


def test_a_catalog_leads_to_its_items_once(tmp_path: Path) -> None:
    links = [{"rel": "item", "href": "./items/a.json"}, {"rel": "child", "href": "child/collection.json"},
             {"rel": "root", "href": "./catalog.json"}, {"rel": "item", "href": "https://example.org/b.json"},
             {"rel": "item", "href": "./items/lost.json"}]  # fmt: skip
    put(tmp_path / "catalog.json", {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": links})
    back = [{"rel": "child", "href": "../catalog.json"}, {"rel": "item", "href": "c.json"}]
    put(
        tmp_path / "child" / "collection.json",
        {"type": "Collection", "stac_version": "1.0.0", "id": "k", "links": back},
    )
    put(tmp_path / "items" / "a.json", item("a", SQUARE))
    put(tmp_path / "child" / "c.json", item("c", SQUARE))
    for source in (tmp_path, tmp_path / "catalog.json"):
        rows, rejects = read_all(read_stac, source)
        assert sorted(rows) == ["a", "c"]
        assert sorted(name or "" for name in rejects) == ["https://example.org/b.json", "lost.json"]


def test_wrong_items_cost_nothing_else(tmp_path: Path) -> None:
    put(tmp_path / "good.json", item("good", SQUARE, datetime="2020-13-01"))
    put(tmp_path / "high.json", item("high", ring((0, 80), (1, 80), (1, 95))))
    put(tmp_path / "line.json", item("line", {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}))
    put(
        tmp_path / "broken.json",
        item("broken", {"type": "Polygon", "coordinates": [[[0, 0], ["x", 1], [1, 1], [0, 0]]]}),
    )
    put(tmp_path / "short.json", item("short", {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}))
    put(tmp_path / "nothing.json", item("nothing", None))
    put(tmp_path / "bbox.json", item("bbox", None, [1, 2, 3]))
    put(tmp_path / "flat.json", item("flat", ring((0, 0), (1, 1), (2, 2))))
    put(tmp_path / "nameless.json", item("", SQUARE))
    put(tmp_path / "other.json", {"type": "Feature2"})
    (tmp_path / "text.json").write_text("{")
    (tmp_path / "latin.json").write_bytes(b'{"id": "\xff"}')
    rows, rejects = read_all(read_stac, tmp_path)
    assert sorted(rows) == ["good"]
    assert rows["good"]["problems"] == ("unreadable date", "image file not found")
    assert len(rejects) == 11
    assert "latitude 95" in rejects["high"].reason
    with pytest.raises(CatalogError, match=r"text.json is not readable as JSON"):
        read_all(read_stac, tmp_path / "text.json")


# GeoJSON and GeoPackage


def feature(name: Any, geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"name": name} | properties}


def test_damaged_items_are_taken_or_refused_and_never_end_the_run(tmp_path: Path) -> None:
    """Any one value of an item in place of another: what comes in is counted out."""
    junk = [None, 5, math.inf, math.nan, "", "\ud800", [], {}, [[]], [None], True, 1e308, 181.0, -91, [1, 2]]
    bow_tie = ring((-170, -10), (170, 10), (170, -10), (-170, 10))
    whole = item("x", bow_tie, [-170, -10, 170, 10])
    items = []

    def damage(part: Any) -> None:
        for key in list(part) if isinstance(part, dict) else range(len(part)):
            before = part[key]
            for part[key] in junk:
                items.append(json.loads(json.dumps(whole)))
            part[key] = before
            if isinstance(before, dict | list):
                damage(before)

    damage(whole)
    path = put(tmp_path / "all.json", {"type": "FeatureCollection", "features": items})
    batches = list(read_stac.read(path, Options()))
    taken, refused = sum(len(batch) for batch in batches), sum(len(batch.rejects) for batch in batches)
    assert taken + refused == len(items) > 300
    assert min(taken, refused) > 50


def test_geojson_features(tmp_path: Path) -> None:
    features = [
        feature("square", SQUARE, cloud=3, date="2020-01-02"),
        feature("point", {"type": "Point", "coordinates": [5, 6]}),
        feature("over", ring((179, 0), (-179, 0), (-179, 1), (179, 1))),
        feature("bow", ring((0, 0), (2, 2), (2, 0), (0, 2))),
        feature("high", ring((0, 80), (1, 80), (1, 95))),
        feature("line", {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}),
        feature("null", None),
        feature(None, SQUARE),
        feature("far", {"type": "Point", "coordinates": [5, 96]}),
        feature("nan", ring((0, 0), (math.nan, 1), (1, 1))),
    ]
    path = put(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": features})
    rows, rejects = read_all(read_vector, path)
    assert {name: round(r["footprint"].area, 6) for name, r in rows.items() if r["footprint"]} == {
        "square": 1, "over": 2, "bow": 2
    }  # fmt: skip
    assert rows["point"]["nadir"] == (6, 5)
    assert rows["bow"]["problems"] == ("self-crossing footprint",)
    assert rows["square"]["properties"] == {"cloud": 3}
    assert rows["square"]["at"] == "2020-01-02T00:00:00+00:00"
    assert {reject.line for reject in rejects.values()} == {5, 6, 7, 8, 9, 10}


def test_a_polygon_says_its_nadir_in_attributes(tmp_path: Path) -> None:
    features = [
        feature("both", SQUARE, nadir_lat=6, nadir_lon="-5.5"),
        feature("neither", SQUARE),
        feature("half", SQUARE, nadir_lat=6),
        feature("words", SQUARE, nadir_lat="north", nadir_lon=1),
        feature("high", SQUARE, nadir_lat=91, nadir_lon=1),
        feature("point", {"type": "Point", "coordinates": [5, 6]}, nadir_lat=1, nadir_lon=2),
    ]
    path = put(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": features})
    rows, rejects = read_all(read_vector, path)
    assert rows["both"]["nadir"] == (6, -5.5) and rows["both"]["footprint"].area == 1
    assert "nadir_lat" not in rows["both"]["properties"]
    assert np.isnan(rows["neither"]["nadir"]).all()
    assert rows["point"]["nadir"] == (6, 5)
    assert {name: reject.reason.split()[0] for name, reject in rejects.items()} == {
        "half": "only", "words": "the", "high": "the"
    }  # fmt: skip


def test_a_geopackage_in_another_crs_and_with_layers(tmp_path: Path) -> None:
    import pyogrio

    path = tmp_path / "a.gpkg"
    metres = shapely.box(500_000, 5_000_000, 600_000, 5_100_000)
    for layer in ("tiles", "more"):
        pyogrio.raw.write(
            path, shapely.to_wkb(np.array([metres])), [np.array(["t1"], object)], ["id"],
            layer=layer, geometry_type="Polygon", crs="EPSG:32633", driver="GPKG", append=path.exists(),
        )  # fmt: skip
    with pytest.raises(CatalogError, match="several layers: tiles, more; name one with --layer"):
        read_all(read_vector, path)
    rows, _ = read_all(read_vector, path, layer="tiles")
    west, south, east, north = rows["t1"]["footprint"].bounds
    assert west == pytest.approx(15, abs=1e-6) and south == pytest.approx(45.15, abs=0.02)
    # The northern side is a line of constant northing, which lies lower in latitude away from the meridian.
    assert east > 16.2 and north == pytest.approx(46.05, abs=0.02)
    assert len(shapely.get_coordinates(rows["t1"]["footprint"])) > 200  # densified before it was turned


@pytest.mark.parametrize("content", ["", "{", '{"type": "FeatureCollection", "features": []}'])
def test_vector_files_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(content)
    with pytest.raises(CatalogError, match=r"a\.geojson"):
        read_all(read_vector, path)


def test_a_geojson_cut_off_in_the_middle(tmp_path: Path) -> None:
    features = [feature(f"n{i}", SQUARE) for i in range(20_000)]
    whole = json.dumps({"type": "FeatureCollection", "features": features})
    path = tmp_path / "a.geojson"
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(CatalogError, match=r"a\.geojson"):
        read_all(read_vector, path)


def test_naive_dates_are_utc() -> None:
    assert read_vector._moment("2020-01-02", []) == datetime(2020, 1, 2, tzinfo=UTC)
