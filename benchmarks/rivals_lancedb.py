"""LanceDB, embedded, with its own filter. Not a dependency of geosearch: `pip install lancedb` for these rows.

LanceDB knows no circles on the globe. Its filter language has comparisons and arithmetic, so the filter is the
circle's box in latitude and longitude (two boxes across the date line; latitude alone over a pole), served by two
scalar indexes, and for what is in the box the angle between unit vectors: acos(x·a + y·b + z·c) <= r / R + extent. A
row's extent is the circle around its footprint: no polygons, the sphere instead of the spheroid. It filters before it
searches. The values are those of half precision, stored as float32: with float16 LanceDB 0.40 builds its index 14 times
more slowly and scans 1.5 times more slowly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from archive import Archive
from cases import Question
from load import Stages
from rivals import Ids, Way

from geosearch.geometry import EARTH_RADIUS_M, unit_vectors


def where(near: tuple[float, float], radius_m: float, widest_m: float) -> str:
    """Return the filter of a circle. widest_m: the widest extent of a row, by which the box is wider."""
    lat, lon = near
    angle = (radius_m + widest_m) / EARTH_RADIUS_M * 1.006  # the spheroid
    south, north = lat - np.degrees(angle), lat + np.degrees(angle)
    box = f"lat >= {south:.6f} and lat <= {north:.6f}"
    if south > -90 and north < 90:
        wide = np.degrees(np.arcsin(min(1.0, np.sin(angle) / np.cos(np.radians(lat))))) if angle < np.pi / 2 else 180.0
        west, east = lon - wide, lon + wide
        if wide >= 180:
            pass
        elif west < -180:
            box += f" and (lon <= {east:.6f} or lon >= {west + 360:.6f})"
        elif east > 180:
            box += f" and (lon >= {west:.6f} or lon <= {east - 360:.6f})"
        else:
            box += f" and lon >= {west:.6f} and lon <= {east:.6f}"
    x, y, z = unit_vectors(lat, lon)
    # 1 − 1e-16 and less: acos of more than 1 is NaN.
    dot = f"x * ({x:.17g}) + y * ({y:.17g}) + z * ({z:.17g})"
    return f"{box} and acos(({dot}) * 0.999999999999) <= {radius_m / EARTH_RADIUS_M:.17g} + extent"


class LanceWay(Way):
    """index: None searches flat; "IVF_PQ" through LanceDB's default index.

    Raises ImportError without LanceDB, MemoryError where reading all vectors would crowd the rivals out of memory.
    """

    def __init__(self, archive: Archive, folder: Path, index: str | None, stages: Stages) -> None:
        import lancedb
        from lancedb.index import IvfPq

        size, memory = archive.vectors.size * 4, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if index is None and size > memory // 8:
            raise MemoryError(
                f"it would read {size / 2**30:.1f} GiB again and again, on a machine of {memory / 2**30:.0f} GiB that "
                "also holds the tables of the others: all would be timed on the disk"
            )
        self.index, self.exact = index, index is None
        self.name = f"LanceDB {index}" if index else "LanceDB flat"
        self.about = (
            "its default vector index, refine_factor 10, else defaults; box + acos as filter; all cores"
            if index
            else "no vector index (bypass_vector_index); box + acos as filter; all cores"
        )
        self.widest = float(archive.half_extent_m().max(initial=0.0))
        self.folder = folder
        db = lancedb.connect(folder)
        if "image" not in db.list_tables().tables:
            with stages.timed("LanceDB: rows"):
                table = db.create_table("image", _batches(archive), schema=_schema(archive.shape.dimension))
            with stages.timed("LanceDB: scalar indexes"):
                for column in ("lat", "lon"):
                    table.create_scalar_index(column)
        self.table: Any = db.open_table("image")
        if index and "vector_idx" not in [i.name for i in self.table.list_indices()]:
            with stages.timed(f"LanceDB: {index}"):
                self.table.create_index("vector", config=IvfPq(distance_type="cosine"))

    def ask(self, question: Question) -> Ids:
        """Return the ids of the answers, best first."""
        search = (
            self.table.search(question.vector).distance_type("cosine").select(["id", "_distance"]).limit(question.k)
        )
        search = search.refine_factor(10) if self.index else search.bypass_vector_index()
        if question.near is not None:
            assert question.radius_m is not None
            search = search.where(where(question.near, question.radius_m, self.widest), prefilter=True)
        return search.to_arrow()["id"].to_numpy()

    def fork(self) -> LanceWay:
        """Return a way for one more client."""
        return self  # its own threads serve all

    def memory(self) -> dict[str, int]:
        """Return bytes by what holds them."""
        return {"files": sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())}


def _schema(dimension: int) -> Any:
    import pyarrow as pa

    floats = [pa.field(name, pa.float64()) for name in ("lat", "lon", "x", "y", "z", "extent")]
    return pa.schema([pa.field("id", pa.int64()), *floats, pa.field("vector", pa.list_(pa.float32(), dimension))])


def _batches(archive: Archive) -> Iterator[Any]:
    import pyarrow as pa

    schema = _schema(archive.shape.dimension)
    extents = archive.half_extent_m() / EARTH_RADIUS_M
    for start, rows, vectors in archive.blocks():
        units = unit_vectors(rows["lat"], rows["lon"])
        numbers = [rows["lat"], rows["lon"], *units.T, extents[start : start + len(rows)]]
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.astype(np.float32).ravel()), archive.shape.dimension
        )
        ids = pa.array(start + 1 + np.arange(len(rows)))
        arrays = [ids, *(pa.array(np.ascontiguousarray(n)) for n in numbers), column]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
