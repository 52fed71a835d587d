"""What the tests of the worker share: an archive to ask, workers as real processes, and patience."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from pgvector import HalfVector
from psycopg import sql

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.worker.run import WorkCounts, Worker

VECTORS = [[1, 0, 0, 0], [0.8, 0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 1, 0, 0], [0, 0, 0.6, 0.8]]


@dataclass
class Archive:
    url: str
    conn: psycopg.Connection[Any]
    ids: list[int]

    def ask(self, **arguments: Any) -> int:
        """Ask as the owner; `like` counts from 0."""
        if "like" in arguments:
            arguments["like"] = self.ids[arguments["like"]]
        return ask(self.conn, **arguments)

    def facts(self, question: int, *columns: str) -> Any:
        names = sql.SQL(", ").join(map(sql.Identifier, columns or ("state", "attempts", "killed", "reason")))
        row = self.conn.execute(sql.SQL("select {} from geosearch.query where id = %s").format(names), [question])
        return row.fetchone()

    def ranked(self, question: int) -> list[int]:
        rows = self.conn.execute(
            "select rank, image_id from geosearch.ranking where query_id = %s order by rank", [question]
        ).fetchall()
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        return [row[1] for row in rows]

    def until(self, state: str, question: int, seconds: float = 30) -> None:
        eventually(lambda: self.facts(question, "state") == (state,), seconds)


def ask(conn: psycopg.Connection[Any], **arguments: Any) -> int:
    names = sql.SQL(", ").join(
        sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in arguments
    )
    row = conn.execute(sql.SQL("select geosearch.ask({})").format(names), arguments).fetchone()
    assert row is not None
    return int(row[0])


def work(archive: Archive, **options: Any) -> WorkCounts:
    """Answer what waits."""
    return Worker(archive.url, once=True, embed=False, device="cpu", **options).run()


def answers(archive: Archive, question: int) -> list[Any]:
    """Image, similarity and distance of each answer, in their order."""
    return archive.conn.execute(
        "select image_id, similarity, distance_m from geosearch.ranking where query_id = %s order by rank", [question]
    ).fetchall()


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def fill(url: str, conn: psycopg.Connection[Any]) -> Archive:
    conn.autocommit = True
    create_space(conn, "four", 4)
    number = ensure_archive(conn, "row")
    ids = []
    for i, vector in enumerate(VECTORS):
        row = conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m, captured_at)"
            " values (%s, %s, st_makepoint(%s, 0)::geography, 0, %s) returning id",
            [number, f"i{i}", i, f"{2020 + i}-01-01 00:00+00"],
        ).fetchone()
        assert row is not None
        ids.append(int(row[0]))
        conn.execute(
            "insert into geosearch.space_four (image_id, embedding) values (%s, %s)", [row[0], HalfVector(vector)]
        )
    return Archive(url, conn, ids)


class Running:
    """A worker process; its words are in `said`."""

    def __init__(self, url: str, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from geosearch_cli.main import main; main()", "worker", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "GEOSEARCH_DATABASE_URL": url, "LC_ALL": "C.UTF-8", **environment},
        )  # fmt: skip
        self.said: list[str] = []

    def listens(self) -> Running:
        self.says("listens for questions")
        return self

    def says(self, words: str) -> str:
        """Read on until it says so."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            if words in line:
                return line
        raise AssertionError(f"the worker ended without saying {words!r}: {self.said}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end and return its exit status."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=30)
        self.said += err.splitlines()
        return self.process.returncode

    def finish(self) -> tuple[int, str]:
        """Wait for the end of a worker with --once; its exit status and standard output."""
        out, err = self.process.communicate(timeout=60)
        self.said += err.splitlines()
        return self.process.returncode, out
