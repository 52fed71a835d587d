"""What the moments of a space should be, from its stored vectors, by NumPy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg

from geosearch.compose.moments import Moments
from geosearch.database.moments import MomentsState, moments_state, read_moments
from geosearch.database.spaces import get_space


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def stored(conn: psycopg.Connection[Any], space: str) -> np.ndarray:
    """The vectors of a space (n, d) as stored, brought to length 1."""
    found = conn.execute(f"select embedding::text from geosearch.space_{space} order by image_id").fetchall()
    dimension = get_space(conn, space).dimension
    rows = np.array([text.strip("[]").split(",") for (text,) in found], np.float16)
    return unit(rows.astype(np.float64).reshape(-1, dimension))


def never_wrong(conn: psycopg.Connection[Any], space: str) -> MomentsState:
    """Return how moments stand, after a check that they are right where they are said to be current."""
    state = moments_state(conn, space)
    if state.current:
        assert state.changes_since == 0
        vectors, found = stored(conn, space), read_moments(conn, get_space(conn, space))
        assert found is not None
        assert found.count == state.counted == len(vectors)
        if len(vectors):
            np.testing.assert_allclose(found.mean, vectors.mean(0), rtol=1e-10, atol=1e-12)
            around = vectors - vectors.mean(0)
            np.testing.assert_allclose(found.scatter, around.T @ around, rtol=1e-9, atol=1e-10)
        similarities_agree(conn, space, found, vectors)
    else:
        assert state.changes_since is None or state.changes_since > 0
    return state


def similarities_agree(conn: psycopg.Connection[Any], space: str, found: Moments, vectors: np.ndarray) -> None:
    """The database's mean and deviation of some queries' similarities are NumPy's of the similarities themselves."""
    for query in unit(np.random.default_rng(len(vectors)).standard_normal((5, len(found.mean)))):
        row = conn.execute(
            "select mean, deviation from geosearch.space s, geosearch.similarity_moments(s.id, %s::vector)"
            " where s.name = %s",
            [str(query.tolist()), space],
        ).fetchone()
        assert row is not None
        similarities = vectors @ query
        np.testing.assert_allclose(row[0], similarities.mean() if len(vectors) else 0, rtol=2e-7, atol=5e-8)
        expected = similarities.std(ddof=1) if len(vectors) > 1 else 0
        np.testing.assert_allclose(row[1], expected, rtol=3e-7, atol=3e-8)
