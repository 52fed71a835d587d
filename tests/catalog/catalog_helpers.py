"""Helpers of the catalogue's tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import shapely

from geosearch.catalog.batch import Reject
from geosearch.catalog.ingest import Counts
from geosearch.catalog.options import Options

CORNERS = [f"{corner}_{axis}" for corner in ("LL", "UL", "UR", "LR") for axis in ("LAT", "LON")]
FACTS = ["MISSION", "ROLL", "FRAME", "YYYYMMDD", "NADIR_LAT", "NADIR_LON", "SQ_KM_AREA", "ORIENTATION", "URL"]
ISS_HEADER = CORNERS + FACTS


def iss_row(frame: int, lat: float = 10.0, lon: float = 20.0, **changed: Any) -> list[str]:
    """One row of a table of astronaut photographs: a square of one degree, its nadir a degree south."""
    row = dict(
        zip(
            ISS_HEADER,
            (lat, lon, lat + 1, lon, lat + 1, lon + 1, lat, lon + 1, "ISS001", "E", frame, "20200102", lat - 1, lon,
             12000, 0.0, f"https://example.org/ISS001-E-{frame}.JPG"),
            strict=True,
        )
    )  # fmt: skip
    return [str(value) for value in (row | changed).values()]


def ewkb(shapes: Sequence[Any]) -> list[str]:
    """EWKB in hexadecimal of shapes in degrees."""
    placed = shapely.set_srid(np.array(list(shapes), dtype=object), 4326)
    return list(shapely.to_wkb(placed, hex=True, include_srid=True))


def areas(conn: psycopg.Connection, shapes: Sequence[Any]) -> np.ndarray:
    """Areas in m² on the authalic sphere (EPSG:4047, 6 371 007 m).

    Not `st_area(…, false)`: PostGIS 3.5 answers that with areas of the spheroid's bands, up to 0.6 % away.
    """
    rows = conn.execute(
        "select st_area(st_setsrid(g::geometry, 4047)::geography)"
        " from unnest(%s::text[]) with ordinality u(g, n) order by n",
        [ewkb(shapes)],
    )
    return np.array([row[0] for row in rows])


def distances(
    conn: psycopg.Connection, shapes: Sequence[Any], lat: Sequence[float], lon: Sequence[float]
) -> np.ndarray:
    """Distance in m from each shape to its point, on PostGIS's sphere; 0 inside."""
    rows = conn.execute(
        "select st_distance(g::geography, st_makepoint(x, y)::geography, false) "
        "from unnest(%s::text[], %s::float8[], %s::float8[]) with ordinality u(g, x, y, n) order by n",
        [ewkb(shapes), [float(x) for x in lon], [float(y) for y in lat]],
    )
    return np.array([row[0] for row in rows])


def read_all(module: Any, path: Path, **options: Any) -> tuple[dict[str, Any], dict[str | None, Reject]]:
    """Rows by name: footprint, nadir, and so on; rejects by name."""
    rows, rejects = {}, {}
    for batch in module.read(path, Options(**options)):
        for i, name in enumerate(batch.name):
            rows[name] = {
                "footprint": batch.footprint[i], "nadir": tuple(batch.nadir[i]), "uri": batch.uri[i],
                "at": batch.captured_at[i], "properties": json.loads(batch.properties[i]),
                "content": batch.content_sha256[i], "problems": batch.problems[i], "line": batch.line[i],
            }  # fmt: skip
        rejects |= {reject.name: reject for reject in batch.rejects}
    return rows, rejects


def counted(counts: Counts) -> tuple[int, ...]:
    """Added, updated, unchanged, rejected, flagged; the first four are all the rows."""
    assert counts.rows == counts.added + counts.updated + counts.unchanged + counts.rejected
    return counts.added, counts.updated, counts.unchanged, counts.rejected, counts.flagged
