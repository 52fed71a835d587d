"""A small archive with places and vectors, and a location encoder with random weights, in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
from pgvector import HalfVector
from psycopg import sql
from toy_bank import random_places

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space

DIMENSION, VALUES = 12, 20


def location_encoder(folder: Path, seed: int = 0, dimension: int = DIMENSION) -> str:
    """Write a SatCLIP-like network of degree 6 with random weights; return the name by which it loads."""
    import torch

    from geosearch.encoders.location_folder import write_folder
    from geosearch.encoders.satclip import SirenLocation

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SirenLocation(degree=6, dimension=dimension, width=32)
    write_folder(folder, network, {"aligned_with": {"model": "none", "weights_sha256": ""}})
    return f"satclip:local-dir:{folder}"


def add_archive(
    conn: psycopg.Connection, name: str = "atlas", count: int = 60, seed: int = 3, spaces: bool = True
) -> np.ndarray:
    """Catalogue points, the first two images without a place, with vectors in spaces `keys` and `vals`; return ids."""
    rng = np.random.default_rng(seed)
    lat, lon = random_places(rng, count)
    archive = ensure_archive(conn, name)
    ids = []
    for i in range(count):
        at = None if i < 2 else f"point({lon[i]:.6f} {lat[i]:.6f})"
        row = conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m) values (%s, %s, st_geogfromtext(%s), 0)"
            " returning id",
            [archive, f"p{i:03}", at],
        ).fetchone()
        assert row is not None
        ids.append(row[0])
    if spaces:
        for space, dimension in (("keys", DIMENSION), ("vals", VALUES)):
            if not conn.execute("select 1 from geosearch.space where name = %s", [space]).fetchone():
                create_space(conn, space, dimension)
            vectors = rng.standard_normal((count, dimension)) + rng.standard_normal(dimension)
            with conn.cursor() as cursor:
                cursor.executemany(
                    sql.SQL("insert into {} (image_id, embedding) values (%s, %s)").format(
                        sql.Identifier("geosearch", f"space_{space}")
                    ),
                    [(i, HalfVector(v)) for i, v in zip(ids, vectors, strict=True)],
                )
    conn.commit()
    return np.array(ids)
