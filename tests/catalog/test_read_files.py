"""Readers `geotiff`, `photo`, `stac` and `vector`."""

from __future__ import annotations

import json
import struct
import warnings
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from rasterio.transform import Affine

from geosearch.catalog import read_geotiff, read_photo, read_stac, read_vector
from geosearch.catalog.batch import Reject
from geosearch.catalog.options import Options
from geosearch.errors import CatalogError

WriteTif = Callable[..., Path]


def read_all(module: Any, path: Path, **options: Any) -> tuple[dict[str, Any], dict[str | None, Reject]]:
    """Rows by name: footprint, nadir, and so on; rejects by name."""
    rows, rejects = {}, {}
    for batch in module.read(path, Options(**options)):
        for i, name in enumerate(batch.name):
            rows[name] = {
                "footprint": batch.footprint[i], "nadir": tuple(batch.nadir[i]), "uri": batch.uri[i],
                "at": batch.captured_at[i], "properties": json.loads(batch.properties[i]),
                "content": batch.content_sha256[i], "problems": batch.problems[i], "line": batch.line[i],
            }  # fmt: skip
        rejects |= {reject.name: reject for reject in batch.rejects}
    return rows, rejects


# GeoTIFF


def test_footprints_of_rasters_come_from_their_own_crs(write_tif: WriteTif, tmp_path: Path) -> None:
    write_tif("utm.tif")
    write_tif("deep/degrees.tiff", crs="EPSG:4326", transform=Affine(0.1, 0, 10, 0, -0.1, 50))
    write_tif("pole.tif", crs="EPSG:3995", transform=Affine(50_000, 0, -1_600_000, 0, -50_000, 1_600_000))
    write_tif("date-line.tif", crs="EPSG:3832", transform=Affine(20_000, 0, 3_000_000, 0, -20_000, 640_000))
    rows, rejects = read_all(read_geotiff, tmp_path)
    assert not rejects
    assert sorted(rows) == ["date-line.tif", "deep/degrees.tiff", "pole.tif", "utm.tif"]
    # UTM zone 33's central meridian is 15° E, so the raster's western side lies on it.
    west, _, east, north = rows["utm.tif"]["footprint"].bounds
    assert west == pytest.approx(15, abs=1e-6) and east > west and north == pytest.approx(45.15, abs=0.01)
    assert rows["deep/degrees.tiff"]["footprint"].bounds == pytest.approx((10, 43.6, 16.4, 50))
    assert rows["pole.tif"]["footprint"].bounds[0::3] == (-180, 90)
    assert rows["pole.tif"]["footprint"].contains(shapely.Point(37, 89.9))
    assert len(rows["date-line.tif"]["footprint"].geoms) == 2  # EPSG:3832 is centred on 150° E
    assert rows["utm.tif"]["properties"]["crs"] == "EPSG:32633"
    assert rows["utm.tif"]["content"] is not None and rows["utm.tif"]["uri"] == str(tmp_path / "utm.tif")


def test_a_global_grid_of_0_to_360(write_tif: WriteTif) -> None:
    path = write_tif(crs="EPSG:4326", transform=Affine(360 / 64, 0, 0, 0, -180 / 64, 90))
    rows, _ = read_all(read_geotiff, path)
    assert rows["a.tif"]["footprint"].bounds == (-180, -90, 180, 90)


def test_rasters_that_cannot_be_catalogued_cost_nothing_else(write_tif: WriteTif, tmp_path: Path) -> None:
    write_tif("good.tif")
    write_tif("nodata.tif", pixels=np.zeros((2, 64, 64), np.uint8), nodata=0)
    some = np.zeros((2, 64, 64), np.uint8)
    some[1, 63, 63] = 1
    write_tif("almost-nodata.tif", pixels=some, nodata=0)
    write_tif("nan.tif", pixels=np.full((1, 64, 64), np.nan, np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_tif("nowhere.tif", crs=None, transform=Affine.identity())
    whole = write_tif(
        "whole.tif", pixels=np.random.default_rng(0).integers(0, 255, (3, 256, 256), np.uint8)
    ).read_bytes()
    (tmp_path / "whole.tif").unlink()
    (tmp_path / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "header.tif").write_bytes(whole[:6])
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "text.tif").write_text("not a picture")
    rows, rejects = read_all(read_geotiff, tmp_path)
    assert sorted(rows) == ["almost-nodata.tif", "good.tif"]
    reasons = {name: reject.reason for name, reject in rejects.items()}
    assert reasons["nodata.tif"] == reasons["nan.tif"] == "every pixel is nodata"
    assert "no CRS" in reasons["nowhere.tif"]
    assert "truncated" in reasons["truncated.tif"]
    assert "not readable as a GeoTIFF" in reasons["header.tif"]
    assert reasons["empty.tif"] == "the file is empty"
    assert "not readable as a GeoTIFF" in reasons["text.tif"]


# Photographs


def jpeg(
    path: Path, lat: tuple = (46, 30, 0), lon: tuple = (7, 15, 36), refs: str = "NW", date: str = "2020:01:02 03:04:05"
) -> Path:
    exif = Image.Exif()
    exif[0x8825] = {1: refs[0], 2: lat, 3: refs[1], 4: lon, 5: b"\x00", 6: 412_000.0}
    exif[0x0110] = "Camera\x00"
    exif[0x8769] = {0x9003: date, 0x9011: "+02:00"}
    Image.new("RGB", (8, 6)).save(path, exif=exif)
    return path


def png_claiming(width: int, height: int) -> bytes:
    """The head of a PNG of any size with a few bytes of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_photographs_stand_at_their_gps_position(tmp_path: Path) -> None:
    jpeg(tmp_path / "a.JPG")
    jpeg(tmp_path / "b.png", refs="SE", date="soon")
    rows, rejects = read_all(read_photo, tmp_path)
    assert not rejects
    assert rows["a.JPG"]["nadir"] == pytest.approx((46.5, -7.26))
    assert rows["a.JPG"]["at"] == "2020-01-02T03:04:05+02:00"
    assert rows["a.JPG"]["properties"] == {"width": 8, "height": 6, "model": "Camera", "altitude_m": 412_000.0}
    assert rows["b.png"]["nadir"] == pytest.approx((-46.5, 7.26))
    assert rows["b.png"]["problems"] == ("unreadable date",)
    assert rows["b.png"]["properties"]["date"] == "soon"


def test_photographs_that_cannot_be_catalogued_cost_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg(tmp_path / "good.jpg")
    jpeg(tmp_path / "north.jpg", lat=(99, 0, 0))
    Image.new("RGB", (4, 4)).save(tmp_path / "placeless.png")
    (tmp_path / "bomb.png").write_bytes(png_claiming(60_000, 60_000))
    (tmp_path / "big.png").write_bytes(png_claiming(20_000, 15_000))
    whole = (tmp_path / "placeless.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) - 20])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    monkeypatch.setenv("GEOSEARCH_MAX_IMAGE_PIXELS", "100000000")
    rows, rejects = read_all(read_photo, tmp_path)
    assert sorted(rows) == ["good.jpg"]
    reasons = {name: reject.reason for name, reject in rejects.items()}
    assert "GPS latitude 99 is outside" in reasons["north.jpg"]
    assert "--placeless" in reasons["placeless.png"]
    assert "GEOSEARCH_MAX_IMAGE_PIXELS" in reasons["bomb.png"]
    assert "20000 × 15000 pixels" in reasons["big.png"]
    assert "truncated" in reasons["cut.png"]
    assert "not readable" in reasons["text.jpg"]
    assert reasons["empty.jpg"] == "the file is empty"
    rows, _ = read_all(read_photo, tmp_path / "placeless.png", placeless=True)
    assert np.isnan(rows["placeless.png"]["nadir"]).all()


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
    assert {reject.line for reject in rejects.values()} == {5, 6, 7, 8, 9}


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
