"""Columns of text into numbers, dates and JSON, a block at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from geosearch.catalog.batch import utc
from geosearch.geometry import Floats

_JSON_NUMBER = r"^-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,2})?$"
_PLAIN_TEXT = r'^[^"\\\x00-\x1f]*$'


def numbers(values: Sequence[str]) -> tuple[Floats, dict[int, str]]:
    """Return (n,) numbers, NaN where a value is empty, and by row what is wrong with a value that is no number."""
    try:
        text = pa.array(values, pa.string())
        stripped = pc.utf8_trim_whitespace(text)
        filled = pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)
        made = np.array(pc.cast(filled, pa.float64()).to_numpy(zero_copy_only=False), float)
        empty = np.array(filled.is_null())
    except pa.ArrowInvalid:
        made, empty = np.full(len(values), np.nan), np.zeros(len(values), bool)
        wrong = {}
        for i, value in enumerate(values):
            empty[i] = not value.strip()
            try:
                if "_" in value:  # Python reads 5_1 as 51
                    raise ValueError
                made[i] = float(value) if not empty[i] else np.nan
            except ValueError:
                comma = re.fullmatch(r"\s*-?\d+,\d+\s*", value)
                wrong[i] = f"{value!r} is not a number" + (": write a decimal point" if comma else "")
    else:
        wrong = {}
    for row in np.flatnonzero(~np.isfinite(made) & ~empty):
        wrong.setdefault(int(row), f"{values[int(row)]!r} is not a finite number")
    return made, wrong


def dates(values: Sequence[str]) -> tuple[list[str | None], NDArray[np.bool_]]:
    """Return ISO 8601 moments with an offset (None where empty or unreadable), and where a date is unreadable."""
    made = [_date(value) for value in values]
    unreadable = np.array([m == "" for m in made], bool)
    return [m or None for m in made], unreadable


@lru_cache(maxsize=65_536)
def _date(value: str) -> str | None:
    value = value.strip()
    if not value:
        return None
    try:
        return utc(datetime.fromisoformat(value)).isoformat()
    except ValueError:
        return ""


def json_objects(columns: Mapping[str, Sequence[str]], n: int) -> list[str]:
    """Return n JSON objects of columns of text: what is written as a JSON number is one; empty values are left out."""
    parts = []
    for key, values in columns.items():
        text = pa.array(values, pa.string())
        value = pc.if_else(pc.match_substring_regex(text, _JSON_NUMBER), text, _quoted(text))
        pair = pc.binary_join_element_wise(", " + json.dumps(key, ensure_ascii=False) + ": ", value, "")
        parts.append(pc.if_else(pc.equal(text, ""), pa.scalar("", pa.string()), pair))
    if not parts:
        return ["{}"] * n
    # Empty texts and not nulls: pyarrow's join that skips nulls leaves a row of nothing else out altogether.
    body = pc.utf8_slice_codeunits(pc.binary_join_element_wise(*parts, ""), start=2)
    made: list[str] = pc.binary_join_element_wise("{", body, "}", "").to_pylist()
    return made


def _quoted(text: pa.Array) -> pa.Array:
    plain = pc.match_substring_regex(text, _PLAIN_TEXT)
    if pc.all(plain).as_py() in (True, None):
        return pc.binary_join_element_wise('"', text, '"', "")
    return pa.array([json.dumps(value, ensure_ascii=False) for value in text.to_pylist()], pa.string())
