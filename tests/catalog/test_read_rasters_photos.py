"""Readers `geotiff` and `photo`."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from catalog_helpers import read_all
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine

from geosearch.catalog import read_geotiff, read_photo

WriteTif = Callable[..., Path]


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


def test_a_raster_with_ground_control_points_alone(write_tif: WriteTif) -> None:
    """As Sentinel-1 scenes are: no transform and no CRS but those of the points."""
    corners = [(0, 0, 10, 50), (0, 64, 16.4, 50), (64, 0, 10, 43.6), (64, 64, 16.4, 43.6)]
    points = [GroundControlPoint(row=row, col=column, x=x, y=y) for row, column, x, y in corners]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        path = write_tif(crs=None, transform=Affine.identity())
        with rasterio.open(path, "r+") as raster:
            raster.gcps = (points, rasterio.CRS.from_epsg(4326))
    rows, rejects = read_all(read_geotiff, path)
    assert not rejects
    assert rows["a.tif"]["footprint"].bounds == pytest.approx((10, 43.6, 16.4, 50))
    assert rows["a.tif"]["properties"]["crs"] == "EPSG:4326"


def test_a_raster_of_a_plan_that_is_nowhere_on_the_earth(write_tif: WriteTif, tmp_path: Path) -> None:
    write_tif("good.tif")
    write_tif("plan.tif", crs='LOCAL_CS["site",UNIT["metre",1]]')
    rows, rejects = read_all(read_geotiff, tmp_path)
    assert list(rows) == ["good.tif"]
    assert "no place in degrees" in rejects["plan.tif"].reason


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
