"""Pictures from files of every kind: the right pixels, or an error that names the file."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from geosearch.encoders import pictures, raster
from geosearch.encoders.brightness import stretch
from geosearch.encoders.pictures import open_image, to_rgb
from geosearch.errors import InputError
from geosearch.settings import settings


def noise(height: int = 12, width: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_tiff(path: Path, bands: np.ndarray, **facts: object) -> Path:
    palette = facts.pop("palette", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
            dtype=bands.dtype, **facts,
        ) as file:  # fmt: skip
            file.write(bands)
            if palette:
                file.write_colormap(1, palette)
    return path


@pytest.mark.parametrize("kind", ["png", "webp", "bmp", "ppm", "gif"])
def test_lossless_formats_keep_their_pixels(tmp_path: Path, kind: str) -> None:
    pixels = noise()
    if kind == "gif":  # 256 colours
        pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
    path = tmp_path / f"p.{kind}"
    Image.fromarray(pixels).save(path, **({"lossless": True} if kind == "webp" else {}))
    assert np.array_equal(np.asarray(open_image(path)), pixels)
    assert np.array_equal(np.asarray(open_image(path.read_bytes())), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :32] = [255, 0, 0]  # red above on the left
    undo = {  # how a camera stores an upright picture under each orientation
        1: lambda p: p, 2: np.fliplr, 3: lambda p: np.rot90(p, 2), 4: np.flipud,
        5: lambda p: np.transpose(p, (1, 0, 2)), 6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(np.transpose(p, (1, 0, 2)), 2), 8: lambda p: np.rot90(p, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "p.jpg"
    Image.fromarray(np.ascontiguousarray(undo[orientation](upright))).save(path, exif=exif, quality=95, subsampling=0)
    assert np.abs(np.asarray(open_image(path)).astype(int) - upright).max() < 30


def test_other_modes_become_rgb(tmp_path: Path) -> None:
    grey = noise()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "grey.png")), np.repeat(grey[:, :, None], 3, axis=2))
    rgba = np.dstack([noise(), np.full((12, 20), 200, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "rgba.png")), rgba[:, :, :3])


def test_sixteen_bits_are_stretched_not_cut_off(tmp_path: Path) -> None:
    grey = np.linspace(1000, 5000, 20 * 30).reshape(20, 30).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    write_tiff(tmp_path / "grey.tif", grey[None])
    for name in ("grey.png", "grey.tif"):
        shown = np.asarray(open_image(tmp_path / name))[:, :, 0]
        low, high = np.percentile(grey, (2, 98))
        expected = np.clip(np.rint((grey - low) * 255.0 / (high - low)), 0, 255)
        assert np.abs(shown - expected).max() <= 1, name
        assert len(np.unique(shown)) > 200


def test_stretch_is_common_to_the_bands_and_leaves_out_what_is_no_data() -> None:
    bands = np.stack([np.full((10, 10), v, np.float32) for v in (10, 20, 30)])
    bands[:, 0, 0] = np.nan
    valid = np.ones((10, 10), bool)
    valid[1, 1] = False
    bands[:, 1, 1] = -9999
    shown = stretch(bands, valid)
    assert shown[:, 0, 0].tolist() == shown[:, 1, 1].tolist() == [0, 0, 0]
    assert shown[:, 5, 5].tolist() == [0, 128, 255]
    assert stretch(np.full((1, 3, 3), 7, np.float32)).tolist() == [[[128] * 3] * 3]
    assert not stretch(np.full((1, 3, 3), np.nan, np.float32)).any()
    floats = Image.fromarray(np.linspace(-1, 1, 100).reshape(10, 10).astype(np.float32))
    assert np.asarray(to_rgb(floats)).max() == 255


@pytest.mark.parametrize(
    ("count", "dtype", "names", "colours", "expected"),
    [
        (13, "uint16", (), (), ((4, 3, 2), True)),
        (12, "uint16", (), (), ((4, 3, 2), True)),
        (4, "uint16", ("B02", "B03", "B04", "B08"), (), ((3, 2, 1), True)),
        (3, "float32", ("blue", "green", "red"), (), ((3, 2, 1), False)),
        (4, "uint8", (), ("blue", "green", "red", "alpha"), ((3, 2, 1), False)),
        (4, "uint16", (), ("gray", "undefined"), ((1, 2, 3), False)),
        (2, "uint8", (), ("gray", "alpha"), ((1,), False)),
        (12, "uint8", (), (), ((1, 2, 3), False)),
    ],
)
def test_choice_of_bands(count: int, dtype: str, names: tuple, colours: tuple, expected: tuple) -> None:
    assert raster.choose_bands(count, dtype, names or (None,) * count, colours) == expected


def test_tiffs(tmp_path: Path) -> None:
    pixels = noise(30, 40)
    path = write_tiff(tmp_path / "rgb.tif", pixels.transpose(2, 0, 1), photometric="RGB")
    assert np.array_equal(np.asarray(open_image(path)), pixels)
    assert np.array_equal(np.asarray(open_image(path.read_bytes())), pixels)
    path = write_tiff(tmp_path / "nodata.tif", np.full((3, 8, 8), 7, np.uint8), photometric="RGB", nodata=7)
    assert not np.asarray(open_image(path)).any()
    bands = np.zeros((13, 4, 4), np.uint16)
    bands[3], bands[2], bands[1] = 3558, 1780, 9000  # red at white, green half way, blue beyond
    shown = np.asarray(open_image(write_tiff(tmp_path / "s2.tif", bands)))
    assert shown[0, 0].tolist() == [255, 128, 255]
    palette = np.zeros((1, 4, 4), np.uint8)
    palette[0, 0, 0] = 1
    colours = {0: (0, 0, 255, 255), 1: (255, 0, 0, 255)}
    path = write_tiff(tmp_path / "palette.tif", palette, photometric="palette", palette=colours)
    shown = np.asarray(open_image(path))
    assert shown[0, 0].tolist() == [255, 0, 0]
    assert shown[1, 1].tolist() == [0, 0, 255]
    path = write_tiff(tmp_path / "complex.tif", np.zeros((1, 4, 4), np.complex64))
    with pytest.raises(InputError, match="complex"):
        open_image(path)


def test_large_rasters_are_read_reduced_by_averaging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "LONGEST", 10)
    checker = np.indices((20, 40)).sum(0) % 2 * 200
    path = write_tiff(tmp_path / "big.tif", np.repeat(checker[None], 3, axis=0).astype(np.uint8), photometric="RGB")
    shown = np.asarray(open_image(path))
    assert shown.shape == (5, 10, 3)
    assert np.abs(shown.astype(int) - 100).max() <= 1


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_limits_hold_before_a_pixel_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(60_000, 60_000))
    with pytest.raises(InputError, match=r"bomb\.png: 60000 × 60000 pixels are more than 400,000,000"):
        open_image(path)
    small = tmp_path / "small.png"
    Image.fromarray(noise()).save(small)
    with pytest.raises(InputError, match="GEOSEARCH_MAX_IMAGE_PIXELS"):
        open_image(small, max_pixels=100)
    monkeypatch.setenv("GEOSEARCH_MAX_IMAGE_PIXELS", "100")
    settings.cache_clear()
    with pytest.raises(InputError, match="more than 100"):
        open_image(write_tiff(tmp_path / "t.tif", np.zeros((1, 20, 20), np.uint8)))


def test_between_pillows_limit_and_ours_pictures_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # warns above 10, refuses above 20
    monkeypatch.setattr(pictures, "HUGE_PIXELS", 50)
    data = io.BytesIO()
    Image.fromarray(noise()).save(data, "PNG")
    assert open_image(data.getvalue()).size == (20, 12)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(whole, "JPEG")
    tiff = write_tiff(tmp_path / "whole.tif", noise(200, 200).transpose(2, 0, 1), compress="deflate").read_bytes()
    cases = {
        "empty.jpg": b"",
        "text.png": b"hello, I am no picture",
        "cut.jpg": whole.getvalue()[:400],
        "cut.tif": tiff[: len(tiff) // 2],
        "header.tif": b"II*\0" + bytes(20),
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "random.png": b"\x89PNG\r\n\x1a\n" + bytes(range(200)),
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        for source in (tmp_path / name, data):
            with pytest.raises(InputError) as caught:
                open_image(source, name=None if isinstance(source, Path) else f"from {name}")
            assert name in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        open_image(tmp_path / "absent.png")
    with pytest.raises(InputError, match="no such file"):
        open_image(tmp_path)


def test_random_damage_never_raises_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    wholes = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        data = io.BytesIO()
        Image.fromarray(noise(24, 24)).save(data, kind)
        wholes.append(data.getvalue())
    wholes.append(write_tiff(tmp_path / "w.tif", noise(24, 24).transpose(2, 0, 1), compress="lzw").read_bytes())
    for whole in wholes:
        for _ in range(60):
            broken = bytearray(whole)
            for at in random.integers(0, len(broken), 4):
                broken[at] = random.integers(256)
            try:
                picture = open_image(bytes(broken[: random.integers(1, len(broken) + 1)]), max_pixels=10**6)
            except InputError:
                continue
            assert picture.mode == "RGB"


def test_real_rasters(shared_data: Path) -> None:
    chips = sorted((shared_data / "eurosat").glob("*.tif"))
    patches = sorted((shared_data / "ssl4eo").glob("*.tif"))
    assert chips
    assert patches
    for path, size in [*((p, (64, 64)) for p in chips[:10]), *((p, (256, 256)) for p in patches)]:
        shown = open_image(path)
        assert (shown.mode, shown.size) == ("RGB", size)
        with rasterio.open(path) as file:
            red = file.read(4)
        expected = np.clip(np.rint(red * (255 / 3558)), 0, 255)
        assert np.abs(np.asarray(shown)[:, :, 0] - expected).max() <= 1
        assert open_image(path.read_bytes()).tobytes() == shown.tobytes()


def test_real_rasters_look_like_their_pictures(shared_data: Path) -> None:
    """Each EuroSAT chip has an RGB picture of the same ground: band by band they must agree up to brightness."""
    correlations = []
    for path in sorted((shared_data / "eurosat").glob("*.tif")):
        ours = np.asarray(open_image(path)).astype(float)
        theirs = np.asarray(open_image(path.with_suffix(".png"))).astype(float)
        correlations += [
            np.corrcoef(ours[:, :, band].ravel(), theirs[:, :, band].ravel())[0, 1]
            for band in range(3)
            if ours[:, :, band].std() > 5
        ]
    assert np.median(correlations) > 0.95
