"""How a nadir-aware model wants its pictures, as nadir.json states it: what is allowed there."""

from __future__ import annotations

import math
from typing import Any

from geosearch.encoders.file_options import INTERPOLATIONS, MOST_PIXELS, RESIZE_MODES
from geosearch.errors import ModelError


def check(picture: dict[str, Any]) -> None:
    """Raise ModelError where size [height, width], mean, std, interpolation or resize_mode are missing or wrong."""
    size = picture.get("size")
    if len(_items(size)) != 2 or not all(type(s) is int and 1 <= s <= MOST_PIXELS for s in _items(size)):
        raise ModelError(f"picture.size must be [height, width], 1 to {MOST_PIXELS} pixels each, it is {size!r}")
    for key in ("mean", "std"):
        three = picture.get(key)
        if len(_items(three)) != 3 or not all(type(v) in (int, float) and math.isfinite(v) for v in _items(three)):
            raise ModelError(f"picture.{key} must be three numbers (red, green, blue), it is {three!r}")
    if min(picture["std"]) <= 0:
        raise ModelError(f"picture.std must be above 0, it is {picture['std']!r}")
    for key, known in (("interpolation", INTERPOLATIONS), ("resize_mode", RESIZE_MODES)):
        if picture.get(key) not in known:
            raise ModelError(f"picture.{key} must be one of {', '.join(known)}, it is {picture.get(key)!r}")


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
