"""Ranking: the ordered answers to a query, and how they were found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from geosearch.search.query import Query
from geosearch.search.shape import middle


@dataclass(frozen=True)
class Plan:
    """How the database answered: one row of `geosearch.search_plan`.

    estimated and candidates: images of the space in the circle and archive, foreseen and counted.
    requested: k. returned: the answers, min(k, candidates). exhausted: every candidate was returned.
    """

    strategy: str
    estimated: int
    candidates: int
    requested: int
    returned: int
    exhausted: bool


@dataclass(frozen=True)
class Result:
    """One answer. similarity is a cosine; distance_m is from `near` to the image's place, None without `near`.

    lat and lon are the middle of the footprint, or the nadir where there is no footprint.
    shape is the footprint (or the nadir) as a GeoJSON geometry, root the archive's folder, in which a relative uri is
    meant: pages draw with them, and they are not in the JSON.
    """

    rank: int
    image_id: int
    name: str
    archive: str
    similarity: float
    distance_m: float | None
    lat: float | None
    lon: float | None
    uri: str | None
    shape: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    root: str | None = field(default=None, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that `geosearch search --json` prints."""
        facts = asdict(self)
        del facts["shape"], facts["root"]
        return facts


@dataclass(frozen=True)
class Ranking:
    """The answers to a query, best first; iterates over its results."""

    plan: Plan
    results: list[Result]
    query: Query = field(repr=False, compare=False)
    space: str = ""

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return plan and results as plain values: the document that `geosearch search --json` prints."""
        return {"plan": asdict(self.plan), "results": [result.to_dict() for result in self.results]}

    def to_json(self, indent: int | None = 2) -> str:
        """Return that document as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent, allow_nan=False)


def answer_facts(
    rank: int,
    image_id: int,
    name: str,
    archive: str,
    similarity: float,
    distance_m: float | None,
    uri: str | None,
    root: str | None,
    geojson: str | None,
) -> dict[str, Any]:
    """Return the fields of a Result from the last columns of the statements of a client."""
    shape = json.loads(geojson) if geojson else None
    # Not st_centroid: on geography it errs by a tenth of a degree where a footprint has several pieces (PostGIS 3.3).
    lat, lon = (middle(shape) if shape else None) or (None, None)
    return {
        "rank": rank,
        "image_id": image_id,
        "name": name,
        "archive": archive,
        "similarity": similarity,
        "distance_m": distance_m,
        "lat": lat,
        "lon": lon,
        "uri": uri,
        "shape": shape,
        "root": root,
    }
