"""A tiny model, an archive of pictures on disk, and a space to fill."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psycopg
import pytest
import torch
from PIL import Image
from tiny_model import write_model

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small is faster on one core
    yield write_model(tmp_path_factory.mktemp("model") / "tiny")
    torch.set_num_threads(before)


def picture(seed: int, size: tuple[int, int] = (40, 48)) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))


def catalogue(
    conn: psycopg.Connection, archive_id: int, name: str, uri: str | None, sha256: bytes | None = None
) -> int:
    row = conn.execute(
        "insert into geosearch.image (archive_id, name, uri, content_sha256, reach_m) values (%s, %s, %s, %s, 0)"
        " on conflict (archive_id, name) do update set uri = excluded.uri, content_sha256 = excluded.content_sha256"
        " returning id",
        [archive_id, name, uri, sha256],
    ).fetchone()
    assert row is not None
    return int(row[0])


@dataclass
class Archive:
    url: str
    conn: psycopg.Connection
    id: int
    folder: Path
    model: str

    def save(self, name: str, seed: int, *, hashed: bool = True) -> int:
        path = self.folder / f"{name}.png"
        picture(seed).save(path)
        digest = hashlib.sha256(path.read_bytes()).digest() if hashed else None
        return catalogue(self.conn, self.id, name, str(path), digest)

    def vectors(self, space: str = "tiny") -> dict[str, np.ndarray]:
        rows = self.conn.execute(
            f"select i.name, s.embedding::text from geosearch.space_{space} s"
            " join geosearch.image i on i.id = s.image_id"
        ).fetchall()
        return {name: np.array(text.strip("[]").split(","), float) for name, text in rows}

    def rejects(self) -> dict[str, str]:
        rows = self.conn.execute("select name, reason from geosearch.reject where stage = 'embed'").fetchall()
        assert len(rows) == len({name for name, _ in rows}), "an image was rejected twice"
        return dict(rows)


@pytest.fixture
def archive(database_url: str, conn: psycopg.Connection, tmp_path: Path, model: str) -> Archive:
    conn.autocommit = True
    folder = tmp_path / "pictures"
    folder.mkdir()
    made = Archive(database_url, conn, ensure_archive(conn, "a", root=str(folder)), folder, model)
    create_space(conn, "tiny", 24, record_model(conn, registry.describe(model)))
    return made
