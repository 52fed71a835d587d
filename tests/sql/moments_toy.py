"""A small space whose moments are current, to be disturbed."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from moments_truth import never_wrong

from geosearch.database.moments import compute_moments
from geosearch.database.spaces import create_space

D = 8


class Toy:
    """40 images, the first 25 of them with a vector, in space `toy` of which the moments are current."""

    def __init__(self, conn: psycopg.Connection[Any], url: str) -> None:
        self.conn, self.url, self.rng = conn, url, np.random.default_rng(5)
        conn.autocommit = True
        conn.execute("insert into geosearch.archive (name) values ('a'), ('b')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m) select a.id, 'i' || n, st_makepoint(n, n),"
            " 0 from geosearch.archive a, generate_series(1, 40) n where (a.name = 'a') = (n <= 30)"
        )
        create_space(conn, "toy", D)
        self.ids = [int(row[0]) for row in conn.execute("select id from geosearch.image order by id").fetchall()]
        self.add(self.ids[:25])
        compute_moments(url, "toy")
        assert self.current()

    def vectors(self, n: int) -> np.ndarray:
        return self.rng.standard_normal((n, D)) + 1

    def add(self, ids: list[int], conn: psycopg.Connection[Any] | None = None) -> np.ndarray:
        """Add or change the vectors of images in one statement; return them as stored."""
        vectors = self.vectors(len(ids)).astype(np.float16)
        (conn or self.conn).execute(
            "insert into geosearch.space_toy (image_id, embedding) select * from unnest(%s::bigint[], %s::halfvec[])"
            " on conflict (image_id) do update set embedding = excluded.embedding",
            [ids, [str(vector.tolist()) for vector in vectors]],
        )
        return vectors

    def execute(self, statement: str, *arguments: Any) -> None:
        self.conn.execute(statement, arguments or None)

    def current(self) -> bool:
        return never_wrong(self.conn, "toy").current


@pytest.fixture
def toy(conn: psycopg.Connection[Any], database_url: str) -> Toy:
    return Toy(conn, database_url)
