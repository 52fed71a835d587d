"""A file of queries → queries: JSON Lines or CSV, every line checked before the first is asked."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from geosearch.errors import InputError
from geosearch.search.query import Query, parse_place

# The names of a line, which are those of the command's options.
NAMES = (
    "id", "image", "text", "like", "vector", "near", "radius_km", "k", "archive", "space", "strategy", "area", "from",
    "to", "properties",
)  # fmt: skip
_AS_QUERY = {"from": "captured_from", "to": "captured_to"}
_NUMBERS = {"radius_km": float, "k": int}


class AskedLine(NamedTuple):
    """One query of a file. id: what the file calls it, or the number of its line."""

    id: str
    line: int
    query: Query


def read_queries(path: Path, defaults: Mapping[str, Any]) -> list[AskedLine]:
    """Return the queries of a file: one JSON object a line, or CSV with a header (where the name ends in .csv).

    Names are those of NAMES; near is "LAT,LON" or [lat, lon]; image is relative to the file. defaults: arguments of
    Query.of for what a line leaves out. Raises InputError that names each line which is no query.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 (byte {error.start})") from error
    found: list[AskedLine] = []
    wrong: list[str] = []
    for line, record in _csv_lines(text) if path.suffix.lower() == ".csv" else _json_lines(text):
        try:
            if isinstance(record, InputError):
                raise record
            name = record.get("id")
            found.append(
                AskedLine(str(line if name in (None, "") else name), line, _query(record, path.parent, defaults))
            )
        except InputError as error:
            wrong.append(f"{path}, line {line}: {error}")
    if wrong:
        more = f"\n… and {len(wrong) - 10} more" if len(wrong) > 10 else ""
        raise InputError("\n".join(wrong[:10]) + more + "\nNothing was asked. Correct these lines.")
    if not found:
        raise InputError(
            f"{path}: holds no query; write one JSON object a line, or CSV with a header ({', '.join(NAMES)})"
        )
    return found


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    # Not splitlines(), which also breaks lines at U+2028 and U+0085: JSON may hold these within a text.
    for line, part in enumerate(text.split("\n"), 1):
        if part.strip():
            try:
                record = json.loads(part)
            except (ValueError, RecursionError) as error:
                yield line, InputError(f"is not JSON: {error}")
                continue
            yield line, record if isinstance(record, dict) else InputError("is not a JSON object: {…}")


def _csv_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # a vector of 8 448 numbers is longer than the default
    reader = csv.DictReader(io.StringIO(text), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, InputError(f"is not CSV: {error}")
            return
        if row is None:
            return
        if None in row:
            yield reader.line_num, InputError("has more fields than the header")
            continue
        record: dict[str, Any] = {name: value for name, value in row.items() if value not in (None, "")}
        try:
            for name, number in _NUMBERS.items():
                if name in record:
                    record[name] = number(record[name])
            for name in ("properties", "vector"):
                if name in record:
                    record[name] = json.loads(record[name])
        except (ValueError, RecursionError) as error:
            yield reader.line_num, InputError(f"{name}: {error}")
            continue
        yield reader.line_num, record


def _query(record: Mapping[str, Any], folder: Path, defaults: Mapping[str, Any]) -> Query:
    unknown = sorted(set(record) - set(NAMES))
    if unknown:
        raise InputError(f"there is no {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    given = {_AS_QUERY.get(name, name): value for name, value in record.items() if name != "id" and value is not None}
    if isinstance(given.get("near"), str):
        given["near"] = parse_place(given["near"])
    if isinstance(given.get("image"), str):
        given["image"] = folder / given["image"]
    left_out = {name: value for name, value in defaults.items() if name not in given}
    # A place of its own takes the place of one that all have.
    for one, other in (("near", "area"), ("area", "near")):
        if one in given:
            left_out.pop(other, None)
    try:
        return Query.of(**left_out, **given)
    except TypeError as error:
        raise InputError(str(error)) from error
