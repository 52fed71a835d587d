"""What a composed question must answer, by the NumPy reference on the stored values, and how it is asked in SQL."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector
from search_truth import ARGUMENTS, Where, text

from geosearch.compose.parts import Parts
from geosearch.compose.reference import LEAST_DEVIATION, Composed, compose_parts, mean
from geosearch.database.spaces import create_space

# What single precision may do to a similarity, and what that does to a tail.
NOISE = 1e-6


def rounded(vectors: np.ndarray) -> np.ndarray:
    """Vectors (j, d) as the database compares them: very short and very long ones are brought to length 1 before."""
    single = vectors.astype(np.float32)
    lengths = np.linalg.norm(single.astype(np.float64), axis=1, keepdims=True)
    scaled = np.where((lengths >= 0.01) & (lengths <= 1000), single, (single / lengths).astype(np.float32))
    return scaled.astype(np.float16).astype(np.float64)


def account(
    conn: psycopg.Connection,
    space: str,
    vectors: np.ndarray,
    weights: Any,
    where: Where | None = None,
    *,
    k: int = 10,
    population: str = "space",
    strategy: str = "auto",
    late: str = "compute",
    method: str = "weicom",
) -> dict[str, Any]:
    """The row of geosearch.compose_account, by the names of its columns."""
    where = where or Where()
    cursor = conn.execute(
        "select * from geosearch.compose_account(%(space)s, %(parts)s::text[]::vector[], %(weights)s,"
        f" {ARGUMENTS}, k => %(k)s, population => %(population)s, strategy => %(strategy)s, late => %(late)s,"
        " method => %(method)s)",
        {
            **where.values,
            "space": space,
            "parts": [text(v) for v in vectors.astype(np.float32)],
            "weights": np.asarray(weights, float).tolist(),
            "k": k,
            "population": population,
            "strategy": strategy,
            "late": late,
            "method": method,
        },
        binary=True,
    )
    row = cursor.fetchone()
    assert row is not None and cursor.description is not None
    return dict(zip([column.name for column in cursor.description], row, strict=True))


def check(
    found: dict[str, Any],
    rows: np.ndarray,
    ids: np.ndarray,
    vectors: np.ndarray,
    weights: Any,
    *,
    allowed: Any = None,
    k: int = 10,
    population: str = "space",
    method: str = "weicom",
    what: object = None,
) -> Composed:
    """Assert that an exact answer is the reference's: how many, which, their scores, their order; return the reference.

    rows (n, d), ids (n,): of the space, ids ascending. allowed: ids that pass the filters, or all.
    """
    passes = np.isin(ids, ids if allowed is None else list(allowed))
    candidates, own = rows[passes], ids[passes]
    parts = Parts.of(rounded(vectors), weights)
    over = candidates if population == "candidates" else rows
    if method == "mean":
        truth = mean(candidates, parts)
        noise = np.full(len(own), NOISE)
    elif len(own):
        truth = compose_parts(candidates, parts, over)
        unit = over / np.linalg.norm(over, axis=1, keepdims=True)
        deviations = (unit @ parts.vectors.T).std(axis=0, ddof=1) if len(over) > 1 else np.zeros(len(parts.weights))
        alive = deviations >= LEAST_DEVIATION
        # d tail / d s = w φ(z) / deviation, and φ(z) ≤ 0.4
        noise = np.full(len(own), 0.4 * NOISE * float((np.abs(parts.weights[alive]) / deviations[alive]).sum()) + 1e-12)
    else:
        truth, noise = Composed(np.empty(0, np.int64), np.empty(0), np.empty(0)), np.empty(0)
    mine = found["ids"] or []
    assert len(mine) == len(set(mine)) == min(k, len(own)), what
    assert set(mine) <= set(own.tolist()), what
    if not mine:
        return truth
    at = np.searchsorted(own, mine)
    np.testing.assert_allclose(
        found["tails"], truth.tails[at], rtol=0, atol=max(1e-9, float(noise.max())), err_msg=str(what)
    )
    assert np.abs(np.array(found["tails"]) - truth.tails[at]).max() < 1e-4, what
    key = list(zip(found["tails"], mine, strict=True))
    if len(parts.weights) > 1:
        assert key == sorted(key), what  # by tail, then by id
    # Wherever the reference tells two apart by more than the noise, they come in its order; none better is missing.
    tails, slack = truth.tails[at], 2 * float(noise.max())
    assert (np.diff(np.maximum.accumulate(tails)) >= 0).all()
    assert (np.maximum.accumulate(tails) - tails <= slack).all(), what
    missing = ~np.isin(own, mine)
    assert not missing.any() or truth.tails[missing].min() >= tails.max() - slack, what
    return truth


def fill(conn: psycopg.Connection, space: str, rows: np.ndarray) -> np.ndarray:
    """Make a space of rows (n, d), images and all, and return their ids; the rows are stored in half precision."""
    conn.execute("insert into geosearch.archive (name) values ('a') on conflict (name) do nothing")
    create_space(conn, space, rows.shape[1])
    ids = [
        row[0]
        for row in conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m) select a.id, %s || g, 'POINT(0 0)', 0"
            " from geosearch.archive a, generate_series(1, %s) g where a.name = 'a' order by g returning id",
            [space, len(rows)],
        ).fetchall()
    ]
    with conn.cursor() as cursor:
        cursor.executemany(
            f"insert into geosearch.space_{space} (image_id, embedding) values (%s, %s)",
            [(i, HalfVector(row.astype(np.float16))) for i, row in zip(ids, rows, strict=True)],
        )
    conn.execute("select geosearch.count_cells(%s)", [space])
    return np.array(ids)
