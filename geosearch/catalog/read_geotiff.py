"""Reader `geotiff`: rasters that know where they are; the footprint comes from the raster's own CRS."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import rasterio.transform
import shapely
from rasterio._err import CPLE_BaseError
from rasterio.warp import transform as warp

from geosearch.catalog.batch import Batch, Record, Reject, collect
from geosearch.catalog.files import name_below, sha256_of, with_suffix
from geosearch.catalog.footprints import Footprint, box, polygon
from geosearch.catalog.options import Options
from geosearch.catalog.problems import SELF_CROSSING
from geosearch.errors import CatalogError, InputError
from geosearch.settings import settings

SUFFIXES = frozenset({".tif", ".tiff"})
SIDE_POINTS = 64  # vertices on each side before it is warped: a 110 km UTM tile's sides then err by less than 1 m
_BLOCKS_CHECKED = 4096


def read(source: Path, options: Options) -> Iterator[Batch]:
    """Yield rasters named by their path below the source."""
    paths = with_suffix(source, SUFFIXES)
    if not paths:
        raise CatalogError(f"{source} holds no .tif and no .tiff file")
    yield from collect((_record(path, name_below(path, source)) for path in paths), len(paths))


def _record(path: Path, name: str) -> Record | Reject:
    try:
        if path.stat().st_size == 0:
            return Reject("the file is empty", name=name, payload=str(path))
        # GDAL asks neither the network nor sidecar folders for a file on disk; a raster without a place is told apart.
        with warnings.catch_warnings(), rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as raster:
                footprint = raster_footprint(raster)
                _check_blocks(raster, path)
                if not has_data(raster):
                    return Reject("every pixel is nodata", name=name, payload=str(path))
                properties = {
                    "crs": place_of(raster)[1].to_string(),
                    "width": raster.width,
                    "height": raster.height,
                    "bands": raster.count,
                    "dtype": raster.dtypes[0],
                }
                captured = _captured(raster.tags())
        return Record(
            name=name,
            uri=str(path.absolute()),
            captured_at=captured,
            footprint=footprint.geometry,
            properties=properties,
            content_sha256=sha256_of(path),
            problems=(SELF_CROSSING,) if footprint.self_crossing else (),
        )
    except InputError as error:
        return Reject(str(error), name=name, payload=str(path))
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError, OSError, ValueError) as error:
        reason = str(error).replace(str(path), path.name) or type(error).__name__
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return Reject(f"not readable as a GeoTIFF: {reason}{cause}", name=name, payload=str(path))


def place_of(raster: Any) -> tuple[Any, Any]:
    """Return a raster's transform and CRS; those of its ground control points where it has no others (Sentinel-1).

    Raises InputError for a raster without a place.
    """
    transform, crs = raster.transform, raster.crs
    gcps, gcp_crs = raster.gcps
    if transform.is_identity and gcps and gcp_crs:
        transform, crs = rasterio.transform.from_gcps(gcps), gcp_crs
    if crs is None or transform.is_identity:
        raise InputError("the raster has no place: no CRS or no transform")
    return transform, crs


def raster_footprint(raster: Any) -> Footprint:
    """Return the ground that a raster's pixels cover: its border, densified in its own CRS, then warped.

    Raises InputError for a raster without a place, or with one that its CRS cannot express in degrees.
    """
    transform, crs = place_of(raster)
    if crs.is_geographic and transform.b == 0 and transform.d == 0 and crs.to_epsg() in (4326, 4979):
        west, east = sorted((transform.c, transform.c + transform.a * raster.width))
        south, north = sorted((transform.f, transform.f + transform.e * raster.height))
        # Global grids overshoot by rounding.
        return Footprint(box(west, max(south, -90), min(east, west + 360), min(north, 90)))
    t = np.linspace(0, 1, SIDE_POINTS, endpoint=False)
    columns = np.concatenate([0 * t, t, 1 + 0 * t, 1 - t, [0]]) * raster.width
    rows = np.concatenate([t, 1 + 0 * t, 1 - t, 0 * t, [0]]) * raster.height
    x = transform.c + transform.a * columns + transform.b * rows
    y = transform.f + transform.d * columns + transform.e * rows
    try:
        lon, lat = warp(crs, "EPSG:4326", x, y)
    except (rasterio.errors.RasterioError, CPLE_BaseError) as error:  # the second: a CRS that is not on the Earth
        raise InputError(f"the raster's border has no place in degrees ({error})") from error
    ring = np.column_stack([lon, lat])
    if not np.isfinite(ring).all():
        raise InputError("a part of the raster's border has no place in degrees")
    ring[-1] = ring[0]
    return polygon(shapely.Polygon(ring))


def has_data(raster: Any) -> bool:
    """Tell whether any pixel of any band is valid: not nodata, not masked, not NaN. Reads until it finds one."""
    limit = settings().max_image_pixels
    height, width = raster.block_shapes[0]
    if height * width > limit:
        raise InputError(f"its blocks have {height} × {width} pixels, more than the {limit} that may be read at once")
    floating = any(np.issubdtype(dtype, np.floating) for dtype in raster.dtypes)
    masked = any(flag != rasterio.enums.MaskFlags.all_valid for flags in raster.mask_flag_enums for flag in flags)
    if not masked and not floating:
        return True
    for _, window in raster.block_windows(1):
        valid = raster.dataset_mask(window=window) > 0
        if floating and valid.any():
            valid &= ~np.isnan(raster.read(window=window)).all(axis=0)
        if valid.any():
            return True
    return False


def _check_blocks(raster: Any, path: Path) -> None:
    """Find a truncated file without decoding it: every block must lie within the file."""
    size = path.stat().st_size
    height, width = raster.block_shapes[0]
    down, across = math.ceil(raster.height / height), math.ceil(raster.width / width)
    separate = raster.interleaving is not None and raster.interleaving.name == "band"
    bands = range(1, raster.count + 1) if separate else range(1, 2)
    every = max(1, down * across * len(bands) // _BLOCKS_CHECKED)
    blocks = [(row, column, band) for band in bands for row in range(down) for column in range(across)]
    for row, column, band in {*blocks[::every], blocks[-1]}:
        offset = raster.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
        length = raster.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
        if offset and length and int(offset) + int(length) > size:  # a block that was never written has neither
            end = int(offset) + int(length)
            raise InputError(f"the file is truncated: block {column}, {row} of band {band} ends at {end}, it at {size}")


def _captured(tags: dict[str, str]) -> datetime | None:
    for form in ("%Y:%m:%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
        try:
            return datetime.strptime(tags.get("TIFFTAG_DATETIME", "").strip(), form)
        except ValueError:
            continue
    return None
