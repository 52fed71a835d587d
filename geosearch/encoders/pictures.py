"""Files and bytes → RGB pictures of 8 bits: limits, EXIF orientation, 16-bit and multi-band rasters.

The rules are part of a space's identity: change RULES when a change here, in raster.py or brightness.py changes pixels.
"""

from __future__ import annotations

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from geosearch.encoders.brightness import stretch
from geosearch.encoders.limits import check_pixels
from geosearch.encoders.raster import read_rgb
from geosearch.errors import InputError

RULES = "1"

# Named one by one: other formats of Pillow run programs (EPS) or are no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "JPEG2000", "GIF", "BMP", "PPM")
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
HUGE_PIXELS = 50_000_000

# What Pillow and its codecs raise for files that are cut, damaged or no pictures.
DAMAGED = (
    Image.UnidentifiedImageError, Image.DecompressionBombError,
    OSError, EOFError, SyntaxError, ValueError, IndexError, KeyError, TypeError, struct.error, zlib.error, MemoryError,
)  # fmt: skip

_header_lock = threading.Lock()
_huge_lock = threading.Lock()


def open_image(source: Path | str | bytes, max_pixels: int | None = None, name: str | None = None) -> Image.Image:
    """Return a picture as 8-bit RGB, upright by its EXIF orientation.

    source: a path, or the bytes of a file. TIFF is read by `raster.read_rgb`, which states its stretch;
    16-bit greys of other formats are stretched by `stretch`. Transparency is dropped, as open_clip does.
    max_pixels: larger pictures are refused before they are decoded; the setting `max_image_pixels` by default.
    name: what errors call bytes. Raises InputError, which names the file, for whatever cannot be read.
    """
    if max_pixels is None:
        from geosearch.settings import settings

        max_pixels = settings().max_image_pixels
    shown = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        if isinstance(source, bytes):
            head = source[:4]
        else:
            if not Path(source).is_file():
                raise InputError(f"{shown}: there is no such file; was it moved? Catalogue its folder again.")
            with Path(source).open("rb") as file:
                head = file.read(4)
        if not head:
            raise InputError(f"{shown}: the file is empty; fetch it again")
        if head in TIFF_MAGIC:
            return Image.fromarray(read_rgb(source, max_pixels, shown))
        return _decode(source, max_pixels, shown)
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"it is none of {', '.join(FORMATS)}, TIFF"
        raise InputError(f"{shown}: cannot be read as a picture ({reason}); is the file whole?") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return a decoded picture as 8-bit RGB; greys of 16 or 32 bits are stretched, never cut off at 255."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I") or picture.mode == "F":
        grey = np.asarray(picture).astype(np.float32)
        return Image.fromarray(np.repeat(stretch(grey[None])[0][:, :, None], 3, axis=2))
    return picture.convert("RGB")


def _decode(source: Path | str | bytes, max_pixels: int, shown: str) -> Image.Image:
    with _header(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as picture:
        check_pixels(*picture.size, max_pixels, shown)
        if picture.width * picture.height > HUGE_PIXELS:
            with _huge_lock:  # one at a time: eight threads with 400 megapixels each would fill the memory
                return _upright(picture)
        return _upright(picture)


def _header(file: io.BytesIO | Path) -> Image.Image:
    # Pillow's own limit warns from 89 megapixels and refuses from 179, whatever the setting says. It is lifted
    # while a header is read, and only then; check_pixels comes before a pixel is decoded.
    with _header_lock:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    return to_rgb(ImageOps.exif_transpose(picture))
