"""Photographs of which only the middle is known: the rank of the first tile that it lies in, with and without nadir."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.encoders.base import Encoder
from geosearch.errors import InputError
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_vectors import VectorSource
from geosearch.evaluation.nadir_ways import Prior, Queries, rank
from geosearch.evaluation.recall import first_hits
from geosearch.geometry import PHOTO_REACH_M, Floats, distance_m, unit_vectors
from geosearch.item import Item

COLUMNS = ("name", "nadir_lat", "nadir_lon", "centre_lat", "centre_lon")
_CONTAIN = """
    select id from geosearch.image where archive_id = any (%s) and footprint is not null
    and st_intersects(coalesce(footprint, nadir), st_makepoint(%s, %s)::geography)
"""


@dataclass(frozen=True)
class Photograph:
    """A photograph's file, its nadir and the middle of what it shows, (lat, lon) in degrees."""

    path: Path
    nadir: tuple[float, float]
    centre: tuple[float, float]


def read_photographs(table: Path) -> list[Photograph]:
    """Return the photographs of a CSV with COLUMNS, whose files NAME.jpg lie beside it. Raises InputError."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        lost = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if lost:
            raise InputError(f"{table} has no column {', '.join(lost)}; it needs {', '.join(COLUMNS)}")
        rows = list(reader)
    if not rows:
        raise InputError(f"{table} has no photographs")
    return [_photograph(table, line, row) for line, row in enumerate(rows, 2)]


def ranks(
    conn: psycopg.Connection[Any],
    photographs: Sequence[Photograph],
    tiles: Images,
    encoder: Encoder,
    source: VectorSource,
    ways: Sequence[str],
    priors: Mapping[str, Prior],
) -> list[dict[str, Any]]:
    """Return a row a photograph: name, km from nadir to middle, tiles that contain it, by way the rank of the first,
    "nearest" by the distance from the nadir alone, without a picture.

    encoder, source: of the same model, which reads places. Every tile is ranked. A rank is None where the way leaves
    all right tiles out. expected: the rank that a random order gives, (N + 1) / (m + 1).
    """
    if source.null is None:
        raise InputError(f"{source.name} knows nothing of nadirs; name a model that does (--model)")
    parts: Any = encoder
    image = parts.image_vectors([encoder.prepare(Item(image=one.path)) for one in photographs])
    lat, lon = (np.array([one.nadir[i] for one in photographs]) for i in (0, 1))
    near = distance_m(lat[:, None], lon[:, None], tiles.middle_lat, tiles.middle_lon) - tiles.cap_m <= PHOTO_REACH_M
    queries = Queries(
        image,
        parts.nadir_vectors(lat, lon),
        source.null,
        source.scale,
        lat,
        lon,
        lambda some: [np.flatnonzero(row) for row in near[some]],
    )
    archives = np.unique(tiles.archive_ids).tolist()
    right = []
    for one in photographs:
        ids = [row[0] for row in conn.execute(_CONTAIN, [archives, one.centre[1], one.centre[0]]).fetchall()]
        right.append(set(np.flatnonzero(np.isin(tiles.ids, ids)).tolist()))
    best = rank(
        queries, lambda: source.blocks(tiles, tiles.place_lat, tiles.place_lon), ways, len(tiles), priors=priors
    )
    first = {way: first_hits(best[way].tolist(), right) for way in ways}
    alone = _nearest(lat, lon, tiles, [np.array(sorted(rows), np.int64) for rows in right])
    return [
        {
            "name": one.path.stem,
            "offset_km": round(float(distance_m(*one.nadir, *one.centre)) / 1000),
            "tiles": len(right[i]),
            "expected": round((len(tiles) + 1) / (len(right[i]) + 1)) if right[i] else None,
            "nearest": int(alone[i]) if np.isfinite(alone[i]) else None,
            **{way: int(first[way][i]) if np.isfinite(first[way][i]) else None for way in ways},
        }
        for i, one in enumerate(photographs)
    ]


def nearest(photos: Images, tiles: Images, relevant: Sequence[NDArray[np.int64]]) -> Floats:
    """Return the rank (q,) of the first relevant tile by its distance from the nadir alone; NaN where there is none.

    inf: it has no place, or the nadir is not known. A tile without a place comes last.
    """
    return _nearest(photos.nadir_lat, photos.nadir_lon, tiles, relevant)


def _nearest(lat: Floats, lon: Floats, tiles: Images, relevant: Sequence[NDArray[np.int64]]) -> Floats:
    points, ranks = unit_vectors(tiles.place_lat, tiles.place_lon), np.full(len(lat), np.nan)
    for i, (eye, right) in enumerate(zip(unit_vectors(lat, lon), relevant, strict=True)):
        if len(right):
            near = np.nan_to_num(points @ eye, nan=-np.inf)
            best = near[right].max()
            ranks[i] = 1 + (near > best).sum() if np.isfinite(best) else np.inf
    return ranks


def _photograph(table: Path, line: int, row: dict[str, str]) -> Photograph:
    path = table.parent / f"{row['name']}.jpg"
    if not path.is_file():
        raise InputError(f"{table}, line {line}: {path.name} does not lie beside the table")
    try:
        nadir_lat, nadir_lon, lat, lon = (float(row[column]) for column in COLUMNS[1:])
    except (TypeError, ValueError) as error:
        raise InputError(f"{table}, line {line}: {error}; places are numbers, in degrees") from error
    if max(abs(nadir_lat), abs(lat)) > 90 or max(abs(nadir_lon), abs(lon)) > 180:
        raise InputError(f"{table}, line {line}: a place is outside -90 … 90, -180 … 180")
    return Photograph(path, (nadir_lat, nadir_lon), (lat, lon))
