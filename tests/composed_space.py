"""A space of a tiny model with random vectors of images, and what the NumPy reference makes of a composed question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from pgvector import HalfVector
from PIL import Image
from psycopg.types.json import Jsonb
from tiny_model import write_model

from geosearch.compose.parts import Parts
from geosearch.compose.reference import Composed, compose_parts, mean
from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry
from geosearch.encoders.base import Encoder
from geosearch.item import Item

COUNT = 60


@dataclass
class ComposedSpace:
    """ids, rows: of the images, in the order of their ids; row n is named n, in archive "even" or "odd"."""

    conn: psycopg.Connection[Any]
    encoder: Encoder
    pictures: list[Path]
    ids: list[int]
    rows: np.ndarray

    def vector(self, *, image: Path | None = None, text: str | None = None) -> np.ndarray:
        """Return the model's vector of a part, in half precision as the database compares it."""
        return self.encoder.encode([Item(image=image, text=text)])[0].astype(np.float16).astype(np.float64)

    def stored(self, number: int) -> np.ndarray:
        """Return the vector of a catalogued image at length 1, in half precision."""
        return (self.rows[number] / np.linalg.norm(self.rows[number])).astype(np.float16).astype(np.float64)

    def expected(
        self, vectors: list[np.ndarray], weights: list[float], rows: list[int] | None = None, **how: Any
    ) -> tuple[list[int], Composed]:
        """Return (ids, best first, and the reference's answer). rows: those that pass; population="candidates"."""
        chosen = np.arange(len(self.rows)) if rows is None else np.array(rows)
        parts = Parts.of(np.stack(vectors), weights)
        if how.get("method") == "mean":
            found = mean(self.rows[chosen], parts)
        else:
            over = self.rows[chosen] if how.get("population") == "candidates" else self.rows
            found = compose_parts(self.rows[chosen], parts, over)
        return [self.ids[chosen[at]] for at in found.order], found


def write_composed_space(conn: psycopg.Connection[Any], folder: Path) -> ComposedSpace:
    """Fill space "tiny": even images lie in the Alps, odd ones at the Amazon, a day and a camera each."""
    rng = np.random.default_rng(3)
    name = write_model(folder / "model")
    encoder = registry.load(name, "cpu")
    create_space(conn, "tiny", encoder.info.dimension, record_model(conn, encoder.info))
    pictures = []
    for number, colour in enumerate([(200, 40, 30), (20, 180, 60)]):
        pixels = np.clip(np.array(colour) + rng.normal(0, 12, (48, 48, 3)), 0, 255).astype(np.uint8)
        pictures.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(pictures[-1])
    ids, rows = [], rng.normal(size=(COUNT, encoder.info.dimension)).astype(np.float16)
    for number, vector in enumerate(rows):
        odd = number % 2
        row = conn.execute(
            "insert into geosearch.image (archive_id, name, uri, nadir, reach_m, captured_at, properties)"
            " values (%s, %s, %s, st_makepoint(%s, %s), 0, '2024-06-01T12:00Z'::timestamptz + %s * interval '1 day',"
            " %s) returning id",
            [
                ensure_archive(conn, "odd" if odd else "even"),
                str(number),
                str(pictures[odd]),
                -60 if odd else 9,
                -3 if odd else 46,
                number,
                Jsonb({"roll": number % 3}),
            ],
        ).fetchone()
        assert row is not None
        ids.append(row[0])
        conn.execute(
            "insert into geosearch.space_tiny (image_id, embedding) values (%s, %s)", [row[0], HalfVector(vector)]
        )
    conn.commit()
    return ComposedSpace(conn, encoder, pictures, ids, rows.astype(np.float64))
