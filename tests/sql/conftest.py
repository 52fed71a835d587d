"""An archive of random and adversarial places with vectors, and the searches that are asked of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pgvector import HalfVector
from psycopg.types.json import Jsonb
from toy_world import DIMENSION, World, awkward_places, moments


@pytest.fixture(scope="module")
def world(module_database_url: str) -> Iterator[World]:
    """A database of its own for the whole module: nothing in these modules changes it."""
    from geosearch.database.connection import connect
    from geosearch.database.spaces import create_space

    with connect(module_database_url, autocommit=True) as conn:
        rng = np.random.default_rng(20)
        places = awkward_places(rng)
        for archive in ("odd", "even"):
            conn.execute("insert into geosearch.archive (name) values (%s)", [archive])
        create_space(conn, "toy", DIMENSION)
        with conn.cursor() as cursor:
            cursor.executemany(
                "insert into geosearch.image (archive_id, name, nadir, footprint, reach_m, captured_at, properties)"
                " select a.id, %s, st_geogfromtext(%s), st_geogfromtext(%s), %s, %s, %s"
                " from geosearch.archive a where a.name = %s",
                [
                    (f"p{i:05}", *place, moment, Jsonb({"camera": f"D{i % 7}"}), ("even", "odd")[i % 2])
                    for i, (place, moment) in enumerate(zip(places, moments(rng, len(places)), strict=True))
                ],
            )
        ids = np.array([row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()])
        vectors = rng.standard_normal((len(ids), DIMENSION)) * 10 ** rng.uniform(-1, 1, (len(ids), 1))
        vectors[5:25] = vectors[5]  # equal similarities
        half = vectors.astype(np.float16)
        with conn.cursor().copy(
            "copy geosearch.space_toy (image_id, embedding) from stdin with (format binary)"
        ) as copy:
            copy.set_types(["int8", "halfvec"])
            for image_id, vector in zip(ids, half, strict=True):
                copy.write_row((int(image_id), HalfVector(vector)))
        conn.execute("analyze geosearch.image, geosearch.space_toy")
        counted = conn.execute("select geosearch.count_cells('toy')").fetchone()
        assert counted == (len(ids),)
        yield World(conn, module_database_url, ids, half.astype(np.float64))
