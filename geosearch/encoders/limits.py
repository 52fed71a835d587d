"""How large a picture may be before it is decoded."""

from __future__ import annotations

from geosearch.errors import InputError


def check_pixels(width: int, height: int, max_pixels: int, shown: str) -> None:
    """Raise InputError for a picture of more than max_pixels pixels."""
    if width * height > max_pixels:
        raise InputError(
            f"{shown}: {width} × {height} pixels are more than {max_pixels:,} allowed; "
            "raise GEOSEARCH_MAX_IMAGE_PIXELS if the file is trusted"
        )
