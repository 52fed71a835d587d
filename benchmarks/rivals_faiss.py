"""FAISS outside the database: a flat index and a bitmap of the candidates, on one thread. The floor.

Timed are the bitmap and the search. The bitmap that is timed is what NumPy makes of the unit vectors of the rows: one
dot product a row, compared with the cosine of the circle that the row's own extent widens, and packed. The bitmap that
is searched with is that of the right candidates, so that the answers can be compared; it has as good as the same size.
What a database does besides (footprints exactly, rows that change, joins) costs FAISS nothing here.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from archive import Archive
from cases import Question
from load import Stages
from rivals import Ids, Way

from geosearch.geometry import EARTH_RADIUS_M, unit_vectors


def free_bytes() -> int:
    """Return the bytes of memory that a program could still take, 2⁶² where the system does not tell."""
    try:
        found = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    except OSError:
        return 2**62
    return int(found["MemAvailable"].split()[0]) * 1024


LARGEST_CASE = 200  # questions


class FaissWay(Way):
    """precision: "fp32" or "fp16". Raises ImportError without FAISS, MemoryError when the index would not fit."""

    def __init__(self, archive: Archive, precision: str, stages: Stages) -> None:
        import faiss

        self.name = f"FAISS flat {precision}"
        kind = "IndexFlatIP" if precision == "fp32" else "IndexScalarQuantizer(QT_fp16)"
        self.about = f"{kind} + IDSelectorBitmap, one thread, NumPy's bitmap included"
        self.precision, self.archive, self.faiss = precision, archive, faiss
        rows, d = archive.shape.rows, archive.shape.dimension
        self.size = rows * d * (4 if precision == "fp32" else 2)
        # Rows are added block by block into storage that grows by doubling: twice the size at the worst moment.
        if 2 * self.size > free_bytes() - 6 * 2**30:
            raise MemoryError(f"{self.name} would take {self.size / 2**30:.1f} GiB and as much again while it grows")
        faiss.omp_set_num_threads(1)
        started = time.perf_counter()
        if precision == "fp32":
            self.index = faiss.IndexFlatIP(d)
        else:
            self.index = faiss.IndexScalarQuantizer(d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            self.index.is_trained = True  # half precision has nothing to learn
        for _, _, vectors in archive.blocks():
            self.index.add(np.ascontiguousarray(vectors, np.float32))
        stages.note(f"{self.name}: into memory", time.perf_counter() - started)
        self.units = np.ascontiguousarray(unit_vectors(archive.rows["lat"], archive.rows["lon"]), np.float32)
        self.extents, self.extent_of = np.unique(archive.half_extent_m(), return_inverse=True)
        self.extent_of = self.extent_of.astype(np.uint8)
        self.right: dict[Question, Any] = {}
        self.parts: dict[str, float] = {}

    def ask(self, question: Question) -> Ids:
        """Return the ids of the answers, best first."""
        self.parts = {}
        if question.near is None:
            return self._search(question, None)
        self._bitmap(question)
        selector = self.right[question]
        started = time.perf_counter()
        found = self._search(question, selector)
        self.parts["search alone"] = (time.perf_counter() - started) * 1000
        return found

    def _search(self, question: Question, selector: Any) -> Ids:
        parameters = None
        if selector is not None:
            parameters = self.faiss.SearchParameters(sel=selector)
        _, labels = self.index.search(question.vector[None], question.k, params=parameters)
        return labels[0][labels[0] >= 0] + 1

    def _bitmap(self, question: Question) -> Any:
        """Return the bitmap as NumPy makes it from unit vectors."""
        assert question.near is not None and question.radius_m is not None
        here = unit_vectors(*question.near).astype(np.float32)
        angles = np.minimum((question.radius_m + self.extents) / EARTH_RADIUS_M, np.pi)
        least = np.cos(angles).astype(np.float32)[self.extent_of]
        return np.packbits(self.units @ here >= least, bitorder="little")

    def prepare(self, question: Question) -> None:
        """Make the bitmap of the right candidates, before the clock runs; those of the last case are kept."""
        if question.candidates is None or question in self.right:
            return
        if len(self.right) > LARGEST_CASE:
            self.right.clear()
        inside = np.zeros(-(-self.archive.shape.rows // 8) * 8, bool)
        inside[question.candidates - 1] = True
        self.right[question] = self.faiss.IDSelectorBitmap(np.packbits(inside, bitorder="little"))

    def parts_ms(self) -> dict[str, float]:
        """Return the milliseconds of the search without the bitmap, where there is a circle."""
        return self.parts

    def fork(self) -> FaissWay:
        """Return a way for one more client."""
        other = object.__new__(FaissWay)
        other.__dict__.update(self.__dict__, parts={})  # the index and the bitmaps are shared
        return other

    def memory(self) -> dict[str, int]:
        """Return bytes by what holds them."""
        return {"index": self.size, "places": self.units.nbytes + self.extent_of.nbytes}
