"""The end of a model's name that gives a file of weights: `file:/path.pt?norm=imagenet&size=224` → path and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from geosearch.errors import ModelError

NORMS = {
    "openai": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "inception": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}
INTERPOLATIONS, RESIZE_MODES = ("bicubic", "bilinear"), ("shortest", "longest", "squash")
MOST_PIXELS = 4096  # a side
UNSTATED = (
    "a weights file does not say how its pictures were normalised; add ?norm=openai, ?norm=imagenet, "
    "?norm=inception or ?mean=r,g,b&std=r,g,b as the model was trained"
)


def query_of(source: str) -> str:
    """Return the options of `file:PATH?…` as they were written, with their question mark."""
    return "?" + source.rpartition("?")[2] if "?" in source else ""


def read_file(name: str, source: str, also: tuple[str, ...] = ("quick_gelu",)) -> tuple[Path, dict[str, Any]]:
    """Return the path and the options of `file:PATH?…`, the end of a name.

    Every file may have norm (or mean and std), interpolation and resize_mode; also: which of size (pixels a side) and
    quick_gelu it may have besides. Raises ModelError for an option that is none.
    """
    path, mark, query = source.removeprefix("file:").rpartition("?")
    if not mark:
        path, query = query, ""
    options: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "norm" and value in NORMS:
            options["mean"], options["std"] = NORMS[value]
        elif key in ("mean", "std"):
            options[key] = _three(name, key, value)
        elif (key == "interpolation" and value in INTERPOLATIONS) or (key == "resize_mode" and value in RESIZE_MODES):
            options[key] = value
        elif key == "quick_gelu" and key in also and value in ("true", "false"):
            options[key] = value == "true"
        elif key == "size" and key in also and value.isdecimal() and 1 <= int(value) <= MOST_PIXELS:
            options[key] = int(value)
        else:
            raise ModelError(f"{name}: the option {key}={value} is not known; see `geosearch model list --help`")
    if ("mean" in options) != ("std" in options):
        raise ModelError(f"{name}: give mean and std together")
    return Path(path).expanduser().absolute(), options


def _three(name: str, key: str, value: str) -> list[float]:
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    # `not (0 < n)` is also true for NaN
    if len(numbers) != 3 or any(not (0 <= n <= 1) or (key == "std" and n == 0) for n in numbers):
        raise ModelError(f"{name}: {key} needs three numbers from 0 to 1, as {key}=0.48,0.46,0.41")
    return numbers
