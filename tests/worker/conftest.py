"""A small archive whose answers can be told by hand, logins of every kind, and workers as real processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector
from PIL import Image
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tiny_model import write_model
from worker_helpers import Archive, Running, fill

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.embedding.identity import record_model
from geosearch.encoders import registry
from geosearch.encoders.base import Encoder
from geosearch.item import Item


@pytest.fixture
def archive(database_url: str, conn: psycopg.Connection[Any]) -> Archive:
    """Five images in a row on the equator, 1 degree apart; space `four`, which has no model."""
    return fill(database_url, conn)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a tiny model."""
    return write_model(tmp_path_factory.mktemp("worker") / "tiny")


@pytest.fixture
def pictures(archive: Archive, model: str, tmp_path: Path) -> tuple[Encoder, Path]:
    """Space `tiny` with eight pictures in the folder of archive `pictures`; returns (encoder, folder)."""
    encoder = registry.load(model, "cpu")
    create_space(archive.conn, "tiny", 24, record_model(archive.conn, encoder.info))
    folder = tmp_path / "pictures"
    folder.mkdir()
    number = ensure_archive(archive.conn, "pictures", root=str(folder))
    rng = np.random.default_rng(5)
    for i in range(8):
        path = folder / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
        row = archive.conn.execute(
            "insert into geosearch.image (archive_id, name, uri, nadir, reach_m, captured_at)"
            " values (%s, %s, %s, st_makepoint(%s, 40)::geography, 0, %s) returning id",
            [number, path.name, path.name, i, f"{2018 + i}-01-01"],
        ).fetchone()
        vector = HalfVector(encoder.encode([Item(image=path)])[0])
        archive.conn.execute("insert into geosearch.space_tiny (image_id, embedding) values (%s, %s)", [row[0], vector])
    return encoder, folder


@pytest.fixture
def login(server: str, database_url: str) -> Iterator[Callable[..., str]]:
    """A function: groups → the connection string of a new login that is in them."""
    made = []

    def make(*groups: str) -> str:
        name, password = f"gsasker_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
        made.append(name)
        with psycopg.connect(database_url, autocommit=True) as owner:
            role = sql.Identifier(name)
            owner.execute(sql.SQL("create role {} login password {}").format(role, sql.Literal(password)))
            for group in groups:
                owner.execute(sql.SQL("grant {} to {}").format(sql.Identifier(f"geosearch_{group}"), role))
        return make_conninfo(database_url, user=name, password=password)

    yield make
    with psycopg.connect(server, autocommit=True) as admin:
        for name in made:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """A function that starts a worker process; all are killed at the end."""
    running: list[Running] = []

    def begin(url: str, *options: str, **environment: str) -> Running:
        running.append(Running(url, "--no-embed", "--poll", "0.3", *options, **environment))
        return running[-1]

    yield begin
    for worker in running:
        worker.kill()
        for pipe in (worker.process.stdout, worker.process.stderr):
            assert pipe is not None
            pipe.close()
