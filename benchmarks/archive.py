"""The synthetic archive that the benchmarks search: places, footprints and vectors, the same for the same numbers.

Made in blocks, each from a seed of its own, and kept in a folder: `rows.npy` (one record a row) and `vectors.f16`
(half precision, rows × dimension, read through a memory map). So the memory needed does not grow with the rows.

Nadirs lie as the space station flies: latitude asin(sin 51.6° sin u), u uniform, mostly over rough boxes of the
continents, a third of them crowded around hot spots; over the oceans 3 in 100 of what the orbit would give. Vectors:
200 clusters, each at home somewhere; a row's cluster is drawn by nearness (weight exp(8 cos θ)), one row in ten
anywhere. Within a cluster the spread falls as 1/√i over the i-th of d rotated axes, as that of real embeddings does:
about 32 directions count. The cosine of two rows of a cluster is about 0.6, that of two clusters about 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geosearch.geometry import destination, unit_vectors

BLOCK = 8192
CLUSTERS, HOT_SPOTS = 200, 300
INCLINATION = np.radians(51.6)
SIDE_M = 100_000.0  # of a footprint, a square turned at random
FAR_M = 2_500_000.0  # the reach of a row of which only the nadir is known

# Rough boxes of the continents: south, north, west, east.
LAND = np.array([
    (25, 52, -125, -70), (8, 25, -110, -80), (-52, 10, -80, -36), (36, 52, -10, 40), (-35, 36, -17, 48),
    (12, 52, 48, 122), (-10, 20, 95, 130), (-39, -12, 114, 153), (31, 46, 129, 146), (-47, -35, 166, 179),
    (-22, -12, 176, 180), (50, 52, -180, -165),
], float)  # fmt: skip

ROW = np.dtype([("lat", "f8"), ("lon", "f8"), ("kind", "u1"), ("bearing", "f4"), ("captured", "i8")])
POINT, FOOTPRINT, FAR = 0, 1, 2


@dataclass(frozen=True)
class Shape:
    """What decides an archive. footprints, far: shares of the rows with a footprint, and with a reach of 2 500 km."""

    rows: int
    dimension: int
    seed: int = 1
    footprints: float = 0.5
    far: float = 0.0


@dataclass(frozen=True)
class Archive:
    """An archive in its folder. rows: records of dtype ROW; vectors: (rows, dimension) float16; row n has id n + 1."""

    shape: Shape
    folder: Path
    rows: NDArray[np.void]
    vectors: NDArray[np.float16]

    def blocks(self) -> Iterator[tuple[int, NDArray[np.void], NDArray[np.float16]]]:
        """Yield (first row, records, vectors) of every block."""
        for start in range(0, self.shape.rows, BLOCK):
            stop = min(start + BLOCK, self.shape.rows)
            yield start, self.rows[start:stop], np.asarray(self.vectors[start:stop])

    def half_extent_m(self) -> NDArray[np.float64]:
        """Return (rows,): how far from its centre a row's place goes, reach included, in metres."""
        return np.choose(self.rows["kind"], [0.0, SIDE_M / np.sqrt(2), FAR_M])


def make(shape: Shape, folder: Path) -> Archive:
    """Make the archive in the folder, or open the one that is there already."""
    told = folder / "archive.json"
    if not (told.exists() and json.loads(told.read_text(encoding="utf-8")) == asdict(shape)):
        folder.mkdir(parents=True, exist_ok=True)
        world = _World(shape)
        parts = []
        with (folder / "vectors.f16").open("wb") as file:
            for number, start in enumerate(range(0, shape.rows, BLOCK)):
                rows, vectors = world.block(number, min(BLOCK, shape.rows - start))
                parts.append(rows)
                file.write(vectors.tobytes())
        np.save(folder / "rows.npy", np.concatenate(parts))
        told.write_text(json.dumps(asdict(shape)), encoding="utf-8")
    vectors = np.memmap(folder / "vectors.f16", np.float16, "r", shape=(shape.rows, shape.dimension))
    return Archive(shape, folder, np.load(folder / "rows.npy"), vectors)


def corners(rows: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the closed rings (n, 5, 2) of the footprints of rows, anticlockwise, as (lon, lat)."""
    turns = rows["bearing"][:, None].astype(float) - 90.0 * np.arange(5)
    lat, lon = destination(rows["lat"][:, None], rows["lon"][:, None], turns, SIDE_M / np.sqrt(2))
    rings = np.stack([lon, lat], axis=-1)
    rings[:, 4] = rings[:, 0]  # to the last bit
    return rings


def half(vectors: NDArray[np.floating]) -> NDArray[np.float16]:
    """Return vectors scaled to length 1 and rounded to half precision, as every way stores them."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float16)


class _World:
    """What the blocks of one archive share."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        rng = np.random.default_rng([shape.seed, 0])
        d = shape.dimension
        self.centres = rng.standard_normal((CLUSTERS, d)).astype(np.float32)
        self.centres /= np.linalg.norm(self.centres, axis=1, keepdims=True)
        spread = 1 / np.sqrt(np.arange(1, d + 1))
        spread *= 0.8 / np.linalg.norm(spread)
        rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
        self.noise = (spread[:, None] * rotation).astype(np.float32)
        self.homes = unit_vectors(*_places(rng, CLUSTERS)).astype(np.float32)
        self.spots = np.stack(_places(rng, HOT_SPOTS, oceans=0.0))
        self.weights = 1 / np.arange(1, HOT_SPOTS + 1)
        self.weights /= self.weights.sum()

    def block(self, number: int, count: int) -> tuple[NDArray[np.void], NDArray[np.float16]]:
        shape = self.shape
        rng = np.random.default_rng([shape.seed, 1, number])
        rows = np.zeros(BLOCK, ROW)  # always a whole block, so that a shorter archive is the beginning of a longer one
        lat, lon = _places(rng, BLOCK)
        crowded = rng.random(BLOCK) < 0.3
        spot = rng.choice(HOT_SPOTS, BLOCK, p=self.weights)
        away = np.abs(rng.normal(0, 60_000, BLOCK))
        near_lat, near_lon = destination(self.spots[0, spot], self.spots[1, spot], rng.uniform(0, 360, BLOCK), away)
        rows["lat"], rows["lon"] = np.where(crowded, near_lat, lat), np.where(crowded, near_lon, lon)
        share = rng.random(BLOCK)
        rows["kind"] = np.where(share < shape.footprints, FOOTPRINT, POINT)
        rows["kind"][share >= 1 - shape.far] = FAR
        rows["bearing"] = rng.uniform(0, 360, BLOCK)
        rows["captured"] = rng.integers(1_420_070_400, 1_735_689_600, BLOCK)  # 2015 to 2024
        here = unit_vectors(rows["lat"], rows["lon"]).astype(np.float32)
        cluster = np.argmax(8 * here @ self.homes.T + rng.gumbel(size=(BLOCK, CLUSTERS)), axis=1)
        anywhere = rng.random(BLOCK) < 0.1
        cluster[anywhere] = rng.integers(0, CLUSTERS, anywhere.sum())
        vectors = self.centres[cluster] + rng.standard_normal((BLOCK, shape.dimension), np.float32) @ self.noise
        return rows[:count], half(vectors)[:count]


def _places(rng: np.random.Generator, count: int, oceans: float = 0.03) -> tuple[NDArray, NDArray]:
    """Return (lat, lon) of nadirs; of those over the oceans only a share is kept."""
    lat, lon = np.empty(0), np.empty(0)
    while len(lat) < count:
        some = 4 * count
        a = np.degrees(np.arcsin(np.sin(INCLINATION) * np.sin(rng.uniform(0, 2 * np.pi, some))))
        o = rng.uniform(-180, 180, some)
        south, north, west, east = LAND.T[..., None]
        land = ((a >= south) & (a <= north) & (o >= west) & (o <= east)).any(axis=0)
        kept = land | (rng.random(some) < oceans)
        lat, lon = np.append(lat, a[kept]), np.append(lon, o[kept])
    return lat[:count], lon[:count]
