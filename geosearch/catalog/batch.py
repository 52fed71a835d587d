"""Batch: what every reader hands on, column by column; rejects beside it, so that no row goes uncounted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosearch.catalog.crossing import Geometries
from geosearch.geometry import Floats

PAYLOAD_CHARACTERS = 2000


@dataclass(frozen=True)
class Reject:
    """A row that cannot be catalogued: where it stands, what it is called, why, and what it said."""

    reason: str
    line: int | None = None
    name: str | None = None
    payload: str | None = None


@dataclass(frozen=True)
class Record:
    """One image from a reader that meets them one by one. nadir: (lat, lon). line: its place in the file, from 1."""

    name: str
    line: int | None = None
    uri: str | None = None
    captured_at: datetime | None = None
    nadir: tuple[float, float] | None = None
    footprint: Any = None
    properties: dict[str, Any] = field(default_factory=dict)
    content_sha256: bytes | None = None
    problems: tuple[str, ...] = ()


@dataclass
class Batch:
    """n images as columns of equal length, and the rows between them that were rejected.

    line: 0 where there is none. captured_at: ISO 8601 with an offset. nadir: (n, 2) latitude, longitude; NaN where
    there is none. footprint: shapely MultiPolygons or None. properties: JSON objects. done: share of the source read.
    """

    name: list[str]
    line: NDArray[np.int64]
    uri: list[str | None]
    captured_at: list[str | None]
    nadir: Floats
    footprint: Geometries
    properties: list[str]
    content_sha256: list[bytes | None]
    problems: list[tuple[str, ...]]
    rejects: list[Reject] = field(default_factory=list)
    done: float | None = None

    def __post_init__(self) -> None:
        """Refuse columns of different lengths: an image would get what belongs to its neighbour."""
        columns = {f.name: len(getattr(self, f.name)) for f in fields(self) if f.name not in ("rejects", "done")}
        wrong = [f"{name} {length}" for name, length in columns.items() if length != len(self)]
        if wrong:
            raise ValueError(f"columns of a batch of {len(self)} rows differ: {', '.join(wrong)}")

    def __len__(self) -> int:
        return len(self.name)

    def only(self, keep: NDArray[np.bool_]) -> Batch:
        """Return the batch with the rows where `keep` is true, and all its rejects."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep)

        def pick(values: list[Any]) -> list[Any]:
            return [values[i] for i in rows]

        return Batch(
            name=pick(self.name),
            line=self.line[rows],
            uri=pick(self.uri),
            captured_at=pick(self.captured_at),
            nadir=self.nadir[rows],
            footprint=self.footprint[rows],
            properties=pick(self.properties),
            content_sha256=pick(self.content_sha256),
            problems=pick(self.problems),
            rejects=self.rejects,
            done=self.done,
        )


def from_records(records: list[Record], rejects: list[Reject], done: float | None = None) -> Batch:
    """Return records as a batch."""
    footprint: Geometries = np.empty(len(records), dtype=object)
    footprint[:] = [r.footprint for r in records]
    nothing = (np.nan, np.nan)
    return Batch(
        name=[r.name for r in records],
        line=np.array([r.line or 0 for r in records], np.int64),
        uri=[r.uri for r in records],
        captured_at=[None if r.captured_at is None else utc(r.captured_at).isoformat() for r in records],
        nadir=np.array([r.nadir or nothing for r in records], float).reshape(-1, 2),
        footprint=footprint,
        properties=[_json(r.properties) for r in records],
        content_sha256=[r.content_sha256 for r in records],
        problems=[r.problems for r in records],
        rejects=rejects,
        done=done,
    )


def collect(
    found: Iterable[Record | Reject], total: int | None, rows: int = 1000, seconds: float = 2.0
) -> Iterator[Batch]:
    """Group records as they come: a batch at `rows` of them or after `seconds`, so that slow sources commit too."""
    records: list[Record] = []
    rejects: list[Reject] = []
    since = time.monotonic()
    for seen, one in enumerate(found, 1):
        if isinstance(one, Record):
            records.append(one)
        else:
            rejects.append(one)
        if len(records) + len(rejects) >= rows or time.monotonic() - since > seconds:
            yield from_records(records, rejects, seen / total if total else None)
            records, rejects, since = [], [], time.monotonic()
    if records or rejects:
        yield from_records(records, rejects, 1.0)


def unstorable(text: str) -> str | None:
    """Return why PostgreSQL cannot hold a text; None when it can."""
    if "\x00" in text:
        return "holds a NUL character, which no text in PostgreSQL can"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "not UTF-8 text"
    return None


def _json(properties: dict[str, Any]) -> str:
    try:
        return json.dumps(properties, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # NaN and infinity, which JSON does not have
        return json.dumps(_finite(properties), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def utc(moment: datetime) -> datetime:
    """Return the moment with an offset; one without is taken as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def shortened(text: str) -> str:
    """Return the text fit for `reject.payload`: without NUL and broken UTF-8, and not endless."""
    text = text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= PAYLOAD_CHARACTERS else text[:PAYLOAD_CHARACTERS] + " …"
