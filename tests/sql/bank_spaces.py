"""Two spaces of which a bank is built in SQL, and what the bank then holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector
from range_truth import BLOCK, as_array, install_encoder

DK, DV = 6, 4


class Spaces:
    """Two spaces of images with nadirs: keys (n, DK) and values (n, DV) in half precision."""

    def __init__(self, conn: psycopg.Connection[Any], count: int, placeless: int = 0, seed: int = 0) -> None:
        self.conn, rng = conn, np.random.default_rng(seed)
        install_encoder(conn, "enc", DK)
        conn.execute("insert into geosearch.archive (name) values ('a'), ('b')")
        self.lat = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
        self.lon = rng.uniform(-180, 180, count)
        self.keys = (rng.standard_normal((count, DK)) * 9).astype(np.float16)
        self.values = (rng.standard_normal((count, DV)) * 5).astype(np.float16)
        with conn.cursor() as cursor:
            cursor.executemany(
                "insert into geosearch.image (archive_id, name, reach_m, nadir) select a.id, %s, 0,"
                " case when %s then st_makepoint(%s, %s)::geography end from geosearch.archive a where a.name = %s",
                [(f"i{n}", n >= placeless, float(self.lon[n]), float(self.lat[n]), "ab"[n % 2]) for n in range(count)],
            )
        self.ids = [row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()]
        for name, vectors in (("k", self.keys), ("v", self.values)):
            conn.execute("insert into geosearch.model (name, dimension) values (%s, %s)", [name, vectors.shape[1]])
            conn.execute("select geosearch.create_space(%s, %s, %s)", [name, vectors.shape[1], name])
            with conn.cursor() as cursor:
                cursor.executemany(
                    f"insert into geosearch.space_{name} (image_id, embedding) values (%s, %s)",
                    [(i, HalfVector(v)) for i, v in zip(self.ids, vectors, strict=True)],
                )

    def build(self, **more: Any) -> int:
        """The places of bank `bank`."""
        given = {"name": "bank", "keys": "k", "encoder": "enc", "values": "v", **more}
        named = ", ".join(f'"{name}" => %({name})s' for name in given)
        row = self.conn.execute(f"select geosearch.build_bank({named})", given).fetchone()
        assert row is not None
        return int(row[0])

    def rows(self, bank: str = "bank") -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
        """(image ids, unit vectors, keys, values) of a bank in order of place."""
        rows = self.conn.execute(
            f"select image_id, x, y, z, key from geosearch.bank_{bank} order by place", binary=True
        ).fetchall()
        columns = self.conn.execute(
            f"select block, component, values from geosearch.bank_{bank}_values order by block, component"
        ).fetchall()
        blocks = [
            np.stack([as_array(values) for block, _, values in columns if block == b])
            for b in range(-(-len(rows) // BLOCK))
        ]
        return (
            [row[0] for row in rows],
            np.array([row[1:4] for row in rows]),
            np.stack([as_array(row[4]) for row in rows]),
            np.concatenate(blocks, axis=1).T,
        )


def bank_tables(conn: psycopg.Connection[Any]) -> list[str]:
    return [
        row[0]
        for row in conn.execute(
            "select relname from pg_class where relnamespace = 'geosearch'::regnamespace and relkind in ('r', 'v')"
            " and relname ~ '^(bank_|range_)' order by 1"
        ).fetchall()
    ]
