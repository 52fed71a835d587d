"""Reader `photo`: JPEG and PNG files that carry a GPS position in EXIF. Only their headers are decoded."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from geosearch.catalog.batch import Batch, Record, Reject, collect
from geosearch.catalog.files import name_below, sha256_of, with_suffix
from geosearch.catalog.options import Options
from geosearch.catalog.table_rows import UNREADABLE_DATE
from geosearch.errors import CatalogError, InputError
from geosearch.settings import settings

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GPS_IFD, _EXIF_IFD = 0x8825, 0x8769
_LAT_REF, _LAT, _LON_REF, _LON, _ALT_REF, _ALT = 1, 2, 3, 4, 5, 6
_MAKE, _MODEL, _DATE = 0x010F, 0x0110, 0x0132
_DATE_ORIGINAL, _OFFSET_ORIGINAL = 0x9003, 0x9011


def read(source: Path, options: Options) -> Iterator[Batch]:
    """Yield photographs named by their path below the source, each at its GPS position as its nadir."""
    paths = with_suffix(source, SUFFIXES)
    if not paths:
        raise CatalogError(f"{source} holds no .jpg, .jpeg and no .png file")
    yield from collect((_record(path, name_below(path, source), options) for path in paths), len(paths))


def _record(path: Path, name: str, options: Options) -> Record | Reject:
    limit = settings().max_image_pixels
    try:
        if path.stat().st_size == 0:
            return Reject("the file is empty", name=name, payload=str(path))
        with _own_limit(), Image.open(path, formats=("JPEG", "PNG", "MPO")) as image:
            width, height = image.size
            if width * height > limit:
                return _bomb(f"{width} × {height} pixels", limit, name, path)
            exif = _png_exif(path) if image.format == "PNG" else image.getexif()
        nadir, altitude = _position(exif.get_ifd(_GPS_IFD))
        if nadir is None and not options.placeless:
            return Reject(
                "no GPS position in its EXIF; a photograph without a place is taken with --placeless",
                name=name,
                payload=str(path),
            )
        captured, unreadable = _captured(exif)
        facts = {"make": exif.get(_MAKE), "model": exif.get(_MODEL), "altitude_m": altitude}
        properties = {"width": width, "height": height} | {
            key: value.replace("\x00", "").strip() if isinstance(value, str) else value
            for key, value in facts.items()
            if value is not None
        }
        if unreadable:
            properties["date"] = unreadable
        return Record(
            name=name,
            uri=str(path.absolute()),
            captured_at=captured,
            nadir=nadir,
            properties=properties,
            content_sha256=sha256_of(path),
            problems=(UNREADABLE_DATE,) if unreadable else (),
        )
    except InputError as error:
        return Reject(str(error), name=name, payload=str(path))
    except UnidentifiedImageError:
        return Reject("not readable as a JPEG or PNG", name=name, payload=str(path))
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, ZeroDivisionError) as error:
        # What Pillow raises for broken chunks, checksums, text bombs and EXIF, all by the file's fault.
        return Reject(f"not readable as a JPEG or PNG: {error or type(error).__name__}", name=name, payload=str(path))


@contextmanager
def _own_limit() -> Iterator[None]:
    """Switch off Pillow's limit, which has one size for all: ours is checked as soon as the header is read."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _png_exif(path: Path) -> Image.Exif:
    """Return a PNG's EXIF, wherever its chunk stands, from chunk to chunk: Pillow would decode the pixels for it."""
    exif = Image.Exif()
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(len(_PNG_SIGNATURE))
        while head := file.read(8):
            length, kind = struct.unpack(">I4s", head.ljust(8, b"\0"))
            if len(head) < 8 or file.tell() + length + 4 > size:
                raise InputError(f"the file is truncated: its chunk {kind!r} runs past the end")
            if kind == b"eXIf":
                exif.load(b"Exif\x00\x00" + file.read(length))
                file.seek(4, os.SEEK_CUR)
            elif kind == b"IEND":
                return exif
            else:
                file.seek(length + 4, os.SEEK_CUR)
    raise InputError("the file is truncated: it has no end chunk")


def _bomb(size: str, limit: int, name: str, path: Path) -> Reject:
    return Reject(
        f"the image claims {size}, more than {limit}; GEOSEARCH_MAX_IMAGE_PIXELS raises the limit",
        name=name,
        payload=str(path),
    )


def _position(gps: dict[int, Any]) -> tuple[tuple[float, float] | None, float | None]:
    if _LAT not in gps or _LON not in gps:
        return None, None
    lat = _degrees(gps[_LAT], gps.get(_LAT_REF, "N"), "S", "latitude", 90)
    lon = _degrees(gps[_LON], gps.get(_LON_REF, "E"), "W", "longitude", 180)
    try:
        altitude = float(gps[_ALT]) * (-1 if gps.get(_ALT_REF) in (1, b"\x01") else 1)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        altitude = math.nan
    return (lat, lon), altitude if math.isfinite(altitude) else None


def _degrees(parts: Any, reference: Any, negative: str, what: str, limit: float) -> float:
    try:
        whole, minutes, seconds = (float(part) for part in [*parts, 0, 0][:3])
        value = whole + minutes / 60 + seconds / 3600
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"the GPS {what} {parts!r} is not degrees, minutes and seconds") from error
    if not abs(value) <= limit:  # also NaN, which a denominator of 0 gives
        raise InputError(f"the GPS {what} {value:g} is outside -{limit:g} … {limit:g}")
    return -value if str(reference).strip("\x00 ").upper() == negative else value


def _captured(exif: Image.Exif) -> tuple[datetime | None, str | None]:
    """Return the moment, or the text that is none. EXIF's clock is local; without an offset it is taken as UTC."""
    details = exif.get_ifd(_EXIF_IFD)
    text = str(details.get(_DATE_ORIGINAL) or exif.get(_DATE) or "").strip("\x00 ")
    if not text or text.startswith(("0000:00:00", "    :")):
        return None, None
    offset = str(details.get(_OFFSET_ORIGINAL) or "").strip("\x00 ")
    for written, form in ((text + offset, "%Y:%m:%d %H:%M:%S%z"), (text, "%Y:%m:%d %H:%M:%S")):
        try:
            return datetime.strptime(written, form), None
        except ValueError:
            continue
    return None, text
