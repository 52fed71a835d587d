"""TIFF and GeoTIFF → RGB of 8 bits, with stated rules for bands and brightness.

Bands, first rule that fits: names B04, B03, B02 or red, green, blue; colour interpretation red, green, blue;
12 or 13 bands of 16 bits (Sentinel-2 in its own order): 4, 3, 2; three or more: 1, 2, 3; else band 1, through its
colour table if it has one, as grey if not.

Brightness: 8 bits stay as they are; Sentinel-2 by bands 4, 3, 2: 0 … 3558 → 0 … 255, which is the rule of ESA's own
true-colour image for Level-1C (reflectance 0 … 0.3558), one for all pictures, so that equal ground stays equal;
anything else: `brightness.stretch`, percentiles 2 … 98 of the picture.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.encoders.brightness import linear, stretch
from geosearch.encoders.limits import check_pixels
from geosearch.errors import InputError

SENTINEL2_WHITE = 3558.0
LONGEST = 4096  # larger rasters are read reduced, by averaging: no encoder sees more, and memory stays bounded

_open_lock = threading.Lock()


def read_rgb(source: Path | str | bytes, max_pixels: int, shown: str) -> NDArray[np.uint8]:
    """Return a TIFF as (height, width, 3) uint8; pixels of no data are black.

    Raises InputError, which names the file: damaged, too large (max_pixels counts the file's own pixels), complex.
    """
    import rasterio
    from rasterio.errors import RasterioError

    try:
        if isinstance(source, bytes):
            with rasterio.MemoryFile(source) as memory, _open(memory, {}) as raster:
                return _read(raster, max_pixels, shown)
        with _open(rasterio, {"fp": str(source)}) as raster:
            return _read(raster, max_pixels, shown)
    except RasterioError as error:
        raise InputError(f"{shown}: cannot be read as a TIFF ({_cause(error)}); is the file whole?") from error


def choose_bands(
    count: int, dtype: str, names: tuple[str | None, ...], colours: tuple[str, ...]
) -> tuple[tuple[int, ...], bool]:
    """Return (bands, counted from 1, as red, green, blue or one grey; whether they are Sentinel-2's)."""
    lower = [(name or "").strip().lower() for name in names]
    wide = dtype in ("uint16", "int16")
    for wanted, sentinel2 in (
        (("b04", "b03", "b02"), wide),
        (("b4", "b3", "b2"), wide),
        (("red", "green", "blue"), False),
    ):
        if all(lower.count(name) == 1 for name in wanted):
            return tuple(lower.index(name) + 1 for name in wanted), sentinel2
    if all(colours.count(name) == 1 for name in ("red", "green", "blue")):
        return tuple(colours.index(name) + 1 for name in ("red", "green", "blue")), False
    if count in (12, 13) and wide:
        return (4, 3, 2), True
    return ((1, 2, 3), False) if count >= 3 else ((1,), False)


def _open(opener: Any, where: dict[str, str]) -> Any:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    # A TIFF without a place is a picture all the same. Filters are process-wide, hence the lock.
    with _open_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if "fp" in where:
            return rasterio.open(where["fp"], driver="GTiff")
        return opener.open(driver="GTiff")


def _read(raster: Any, max_pixels: int, shown: str) -> NDArray[np.uint8]:
    from rasterio.enums import Resampling

    check_pixels(raster.width, raster.height, max_pixels, shown)
    dtype = raster.dtypes[0]
    if dtype.startswith("complex"):
        raise InputError(f"{shown}: holds complex numbers; catalogue a picture made of them")
    colours = tuple(c.name for c in raster.colorinterp)
    bands, sentinel2 = choose_bands(raster.count, dtype, raster.descriptions, colours)
    shrink = max(1.0, max(raster.width, raster.height) / LONGEST)
    size = (max(1, round(raster.height / shrink)), max(1, round(raster.width / shrink)))
    palette = colours[0] == "palette" and len(bands) == 1
    how = Resampling.average if shrink > 1 and not palette else Resampling.nearest
    pixels = raster.read(list(bands), out_shape=(len(bands), *size), resampling=how)
    valid = raster.read_masks(bands[0], out_shape=size) > 0
    if palette:
        table = np.zeros((max(256, int(pixels.max()) + 1), 3), np.uint8)
        for value, colour in raster.colormap(1).items():
            if value < len(table):
                table[value] = colour[:3]
        return np.where(valid[:, :, None], table[pixels[0]], np.uint8(0))
    if dtype == "uint8":
        rgb = np.where(valid, pixels, np.uint8(0))
    elif sentinel2:
        rgb = linear(pixels.astype(np.float32), 0.0, SENTINEL2_WHITE, valid)
    else:
        rgb = stretch(pixels.astype(np.float32), valid)
    if len(rgb) == 1:
        rgb = rgb.repeat(3, axis=0)
    return np.ascontiguousarray(rgb.transpose(1, 2, 0))


def _cause(error: BaseException) -> str:
    # rasterio says "Read failed. See previous exception for details."
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
