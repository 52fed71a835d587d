"""Spaces for the tests of the re-ranker: images without places, vectors with awkward lengths and equal ones."""

from __future__ import annotations

import numpy as np
import psycopg
from pgvector import HalfVector
from psycopg import sql

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.search.candidates import Candidates


def awkward_vectors(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    """Half-precision vectors (count, dimension): lengths from 0.1 to 100, runs of equal ones, and multiples of one."""
    vectors = rng.standard_normal((count, dimension)) * 10 ** rng.uniform(-1, 2, (count, 1))
    vectors[count // 4 : count // 3] = vectors[0]
    for place in range(count // 3, count // 3 + count // 20):
        vectors[place] = vectors[1] * 2.0 ** ((place % 3) - 1)  # powers of two: the same direction exactly
    return vectors.astype(np.float16)


def add_images(conn: psycopg.Connection, count: int) -> np.ndarray:
    """Catalogue images without a place; return their ids."""
    archive = ensure_archive(conn, "rerank")
    rows = conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m)"
        " select %s, gen_random_uuid()::text, 0 from generate_series(1, %s) returning id",
        [archive, count],
    ).fetchall()
    return np.array([row[0] for row in rows], np.int64)


def write(conn: psycopg.Connection, space: str, ids: np.ndarray, vectors: np.ndarray) -> None:
    """Insert or replace vectors."""
    statement = sql.SQL(
        "insert into {} (image_id, embedding) values (%s, %s)"
        " on conflict (image_id) do update set embedding = excluded.embedding"
    ).format(sql.Identifier("geosearch", f"space_{space}"))
    with conn.cursor() as cursor:
        rows = zip(ids.tolist(), vectors, strict=True)
        cursor.executemany(statement, [(number, HalfVector(vector)) for number, vector in rows])


def fill(conn: psycopg.Connection, space: str, ids: np.ndarray, vectors: np.ndarray) -> None:
    """Make a space and fill it."""
    create_space(conn, space, vectors.shape[1])
    write(conn, space, ids, vectors)
    conn.commit()


def remove(conn: psycopg.Connection, space: str, ids: np.ndarray) -> None:
    """Remove vectors; in the order in which others write them, or two such at once could deadlock."""
    table = sql.Identifier("geosearch", f"space_{space}")
    lock = sql.SQL("select from {} where image_id = any(%s) order by image_id for update").format(table)
    conn.execute(lock, [ids.tolist()])
    conn.execute(sql.SQL("delete from {} where image_id = any(%s)").format(table), [ids.tolist()])


def all_candidates(conn: psycopg.Connection, space: str) -> Candidates:
    """Every row of a space, straight from its table."""
    table = sql.Identifier("geosearch", f"space_{space}")
    rows = conn.execute(sql.SQL("select image_id, version from {}").format(table)).fetchall()
    return Candidates.of([row[0] for row in rows], [row[1] for row in rows])


def stored(conn: psycopg.Connection, space: str) -> dict[int, tuple[int, np.ndarray]]:
    """Version and vector of each image, straight from the table."""
    table = sql.Identifier("geosearch", f"space_{space}")
    rows = conn.execute(sql.SQL("select image_id, version, embedding from {}").format(table)).fetchall()
    return {row[0]: (row[1], row[2].to_numpy()) for row in rows}
