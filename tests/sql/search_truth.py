"""What a search must answer, told by other means: brute force in SQL for which images, NumPy for their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

# ST_Distance as it is, save for one defect of PostGIS: by its tree an area can hold a point nearly opposite on the
# Earth, at distance 0. (POINT(0 0) and an area about POINT(180 0), PostGIS 3.3; without the tree 17 544 km.)
DISTANCE = (
    "case when st_distance({0}, {1}) > 0 or _st_distanceuncached({0}, {1}) < 1e6 then st_distance({0}, {1})"
    " else _st_distanceuncached({0}, {1}) end"
)
CANDIDATES = (
    "select s.image_id from geosearch.space_{space} s join geosearch.image i on i.id = s.image_id"
    " join geosearch.archive a on a.id = i.archive_id"
    " where (%(near)s::text is null"
    f"  or {DISTANCE.format('coalesce(i.footprint, i.nadir)', 'st_geogfromtext(%(near)s)')}"
    "     <= %(radius)s::float8 + i.reach_m)"
    " and (%(archive)s::text is null or a.name = %(archive)s)"
    " and (%(since)s::timestamptz is null or i.captured_at >= %(since)s)"
    " and (%(until)s::timestamptz is null or i.captured_at < %(until)s)"
    " and (%(among)s::bigint[] is null or i.id = any (%(among)s))"
)
ARGUMENTS = (
    "near => st_geogfromtext(%(near)s), radius_m => %(radius)s, archive => %(archive)s,"
    " captured_from => %(since)s, captured_to => %(until)s, among => %(among)s"
)


@dataclass(frozen=True)
class Where:
    """Where a search looks. near: WKT or None; since, until: anything that PostgreSQL takes for a time."""

    near: str | None = None
    radius: float = 2.5e6
    archive: str | None = None
    since: object = None
    until: object = None
    among: list[int | None] | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The named values of CANDIDATES and ARGUMENTS."""
        return dict(vars(self))


def text(vector: np.ndarray) -> str:
    """A vector as PostgreSQL reads it."""
    return "[" + ",".join(repr(float(x)) for x in vector) + "]"


def cosines(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(n,) cosines of stored values (n, d) and a query, rounded to half precision as they are; sums in double."""
    q = query.astype(np.float16).astype(np.float64)
    return np.asarray(vectors @ q / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(q)))


def reference(vectors: np.ndarray, ids: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids, cosines) by falling cosine of the half-precision values, then by id."""
    found = cosines(vectors, query)
    order = np.lexsort((ids, -found.round(12)))
    return ids[order], found[order]


def candidates(conn: psycopg.Connection, where: Where, space: str = "toy") -> list[int]:
    """The ids of all candidates, by brute force: every image is measured, no index asked."""
    with conn.transaction():
        conn.execute("set local enable_indexscan = off; set local enable_bitmapscan = off")
        return [row[0] for row in conn.execute(CANDIDATES.format(space=space), where.values).fetchall()]


def search(
    conn: psycopg.Connection, where: Where, query: np.ndarray, k: int, strategy: str = "auto", space: str = "toy"
) -> list[tuple[int, int, float]]:
    """(rank, image_id, similarity) as geosearch.search returns them."""
    return conn.execute(
        f"select rank, image_id, similarity from geosearch.search(%(space)s, %(query)s, {ARGUMENTS},"
        " k => %(k)s, strategy => %(strategy)s)",
        {**where.values, "space": space, "query": text(query), "k": k, "strategy": strategy},
        binary=True,  # whatever the session rounds numbers to when it writes them out
    ).fetchall()


def plan(
    conn: psycopg.Connection, where: Where, query: np.ndarray, k: int, strategy: str = "auto", space: str = "toy"
) -> tuple[str, int, int, int, int, bool]:
    """The row of geosearch.search_plan: strategy, estimated, candidates, requested, returned, exhausted."""
    row = conn.execute(
        f"select * from geosearch.search_plan(%(space)s, %(query)s, {ARGUMENTS}, k => %(k)s, strategy => %(strategy)s)",
        {**where.values, "space": space, "query": text(query), "k": k, "strategy": strategy},
    ).fetchone()
    assert row is not None
    return row


def check(
    rows: list[tuple[int, int, float]], allowed: list[int], k: int, cosine_of: dict[int, float], what: object = None
) -> float:
    """Assert all that any strategy promises of its answer; return its recall, of which only exact promises 1.

    Ranks from 1, min(k, candidates) of them, each a candidate and there once, with its own cosine (within single
    precision), best first, and in the order of ids where similarities are equal.
    """
    found = [row[1] for row in rows]
    assert [row[0] for row in rows] == list(range(1, min(k, len(allowed)) + 1)), what
    assert len(set(found)) == len(found) and set(found) <= set(allowed), what
    mine = np.array([cosine_of[i] for i in found])
    np.testing.assert_allclose([row[2] for row in rows], mine, atol=1e-6, err_msg=str(what))
    assert [(-row[2], row[1]) for row in rows] == sorted((-row[2], row[1]) for row in rows), what
    if not allowed:
        return 1.0
    least = np.sort([cosine_of[i] for i in allowed])[::-1][len(found) - 1]
    return float((mine >= least - 1e-6).mean())
