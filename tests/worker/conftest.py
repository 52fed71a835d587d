"""A small archive whose answers can be told by hand, logins of every kind, and workers as real processes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from worker_helpers import Archive, Running, fill


@pytest.fixture
def archive(database_url: str, conn: psycopg.Connection[Any]) -> Archive:
    """Five images in a row on the equator, 1 degree apart; space `four`, which has no model."""
    return fill(database_url, conn)


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
