"""The questions that the benchmarks ask, and their right answers.

A case is a kind of question (a radius, what the query resembles, where, how many answers); a question is one of it.
The right answers are computed here, outside every way that is timed: candidates by `st_dwithin` on the spheroid,
cosines of the stored half-precision values in double precision.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import psycopg
from archive import Archive, half
from numpy.typing import NDArray

from geosearch.geometry import unit_vectors

NOISE = 0.3  # of the query beside a stored vector of length 1: their cosine is about 0.96
DEEPEST = 1000  # right answers kept a question


@dataclass(frozen=True)
class Case:
    """radius_km: None searches the whole Earth. resembles: an image "near" the place or a "far" one (over 90° off).

    where: "images" (the place of one), "ocean" (the South Pacific) or "date line" (the place of an image within 2° of
    it, when there is one).
    """

    name: str
    radius_km: float | None
    resembles: str = "near"
    where: str = "images"
    k: int = 10
    clients: int = 1


@dataclass(frozen=True, eq=False)
class Question:
    """near: (lat, lon) or None; vector: (d,) float32, of half precision's values; candidates: ids, or None for all."""

    near: tuple[float, float] | None
    radius_m: float | None
    vector: NDArray[np.float32]
    k: int
    candidates: NDArray[np.int64] | None
    count: int
    best: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """The cosines of the best candidates, falling: all of them, or the first 1 000."""

    @property
    def due(self) -> int:
        """How many answers are due."""
        return min(self.k, self.count)


def cases(largest_k: int) -> list[Case]:
    """Return all cases with k up to largest_k."""
    found = [Case(f"{r} km", r) for r in (50, 500, 2500, 5000)]
    found += [Case(f"{r} km, far image", r, "far") for r in (50, 500, 2500, 5000)]
    found += [Case("no circle", None)]
    found += [Case(f"ocean, {r} km", r, "far", "ocean") for r in (500, 2500)]
    found += [Case(f"date line, {r} km", r, "near", "date line") for r in (500, 2500)]
    for k in (100, 1000):
        found += [Case(f"{r} km, k {k}", r, k=k) for r in (500, 2500)] + [Case(f"no circle, k {k}", None, k=k)]
    found += [Case(f"{r} km, 8 clients", r, clients=8) for r in (50, 500, 2500)]
    return [case for case in found if case.k <= largest_k]


def questions(archive: Archive, case: Case, number: int, conn: psycopg.Connection[Any]) -> list[Question]:
    """Return `number` questions of a case with their right answers, which are kept in the archive's folder."""
    places, vectors = _ask(archive, case, number)
    key = json.dumps([asdict(archive.shape), case.radius_km, case.resembles, case.where, number], sort_keys=True)
    kept = archive.folder / f"answers-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not kept.exists():
        known = _answers(archive, case, places, vectors, conn)
        with kept.open("wb") as file:  # an open file: np.savez would add .npz to a name
            np.savez(file, **known)
    stored = np.load(kept)
    return [
        Question(
            places[n] if case.radius_km is not None else None,
            case.radius_km * 1000.0 if case.radius_km is not None else None,
            vectors[n],
            case.k,
            stored[f"ids{n}"] if case.radius_km is not None else None,
            int(stored["counts"][n]),
            stored[f"best{n}"],
        )
        for n in range(number)
    ]


def _ask(archive: Archive, case: Case, number: int) -> tuple[list[tuple[float, float]], NDArray]:
    """Return the places and the queries (number, d)."""
    # The same for every k and every number of clients; others for every radius.
    seed = hashlib.sha256(f"{case.radius_km} {case.resembles} {case.where}".encode()).digest()[:8]
    rng = np.random.default_rng([archive.shape.seed, 2, int.from_bytes(seed, "big")])
    lat, lon = archive.rows["lat"], archive.rows["lon"]
    everywhere = unit_vectors(lat, lon)
    close = np.flatnonzero(np.abs(lon) > 178)
    places, sources = [], []
    for _ in range(number):
        if case.where == "ocean":
            places.append((float(rng.uniform(-45, -15)), float(rng.uniform(-140, -100))))
            source = -1
        else:
            crossing = case.where == "date line" and len(close) > 0
            source = int(rng.choice(close)) if crossing else int(rng.integers(archive.shape.rows))
            places.append((float(lat[source]), float(lon[source])))
        if case.resembles == "far" or source < 0:
            here = unit_vectors(*places[-1])
            source = int(rng.choice(np.flatnonzero(everywhere @ here < 0)))
        sources.append(source)
    vectors = np.asarray(archive.vectors[np.array(sources)], np.float32)
    noise = rng.standard_normal(vectors.shape)
    vectors = half(vectors + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    return places, vectors


def candidate_ids(conn: psycopg.Connection[Any], near: tuple[float, float], radius_m: float) -> NDArray[np.int64]:
    """Return the ids of the images within the circle, their reach included, as `st_dwithin` has them; sorted."""
    rows = conn.execute(
        "select coalesce(array_agg(id), '{}') from byhand.image where reach_m = 0"
        " and st_dwithin(coalesce(footprint, nadir), st_makepoint(%(lon)s, %(lat)s)::geography, %(radius)s)"
        " union all select coalesce(array_agg(id), '{}') from byhand.image where reach_m > 0"
        " and st_distance(nadir, st_makepoint(%(lon)s, %(lat)s)::geography) <= %(radius)s + reach_m",
        {"lon": near[1], "lat": near[0], "radius": radius_m},
    ).fetchall()
    return np.sort(np.concatenate([np.asarray(row[0], np.int64) for row in rows]))


def cosines(vectors: NDArray[np.floating], query: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosines (n,) of vectors (n, d) and one query (d,) in double precision; (n, m) for queries (d, m)."""
    v, q = np.asarray(vectors, np.float64), np.asarray(query, np.float64)
    v, q = v / np.linalg.norm(v, axis=1, keepdims=True), q / np.linalg.norm(q, axis=0)
    return v @ q


def _answers(
    archive: Archive, case: Case, places: list[tuple[float, float]], vectors: NDArray, conn: psycopg.Connection[Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {"counts": np.zeros(len(places), np.int64)}
    if case.radius_km is None:
        found["counts"][:] = archive.shape.rows
        best = [np.empty(0)] * len(places)
        for _, _, block in archive.blocks():
            for n, some in enumerate(cosines(block, vectors.T).T):
                best[n] = -np.sort(-np.append(best[n], some))[:DEEPEST]
        return found | {f"best{n}": b for n, b in enumerate(best)}
    for n, (near, query) in enumerate(zip(places, vectors, strict=True)):
        ids = candidate_ids(conn, near, case.radius_km * 1000.0)
        found["counts"][n], found[f"ids{n}"] = len(ids), ids
        best_here = np.empty(0)
        for start in range(0, len(ids), 65536):
            some = cosines(archive.vectors[ids[start : start + 65536] - 1], query)
            best_here = -np.sort(-np.append(best_here, some))[:DEEPEST]
        found[f"best{n}"] = best_here
    return found


def recall(archive: Archive, question: Question, answers: NDArray[np.int64]) -> float:
    """Return the share of the due answers that were given: candidates as good as the k-th best one.

    A cosine counts as good when it is less than the rounding of half precision below it: three standard deviations
    of what d roundings of 2⁻¹² each do to a dot product of unit vectors. 1 where nothing is due.
    """
    if question.due == 0:
        return 1.0
    answers = np.unique(answers)
    answers = answers[answers > 0]
    if question.candidates is not None:
        answers = answers[np.isin(answers, question.candidates)]
    if not len(answers):
        return 0.0
    slack = 3 * 2.0**-12 / np.sqrt(archive.shape.dimension) + 1e-6
    good = cosines(archive.vectors[answers - 1], question.vector) >= question.best[question.due - 1] - slack
    return min(int(good.sum()), question.due) / question.due
