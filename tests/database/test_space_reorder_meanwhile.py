"""Reordering while others write and read, and killed at any stage: nobody notices, nothing is lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from upkeep_archive import add_images, contents, fill, leftovers, start

from geosearch.database import index_session
from geosearch.database.connection import connect
from geosearch.database.index import index_space
from geosearch.database.reorder import reorder
from geosearch.database.spaces import get_space

DIMENSION = 16


@pytest.fixture
def conn(database_url):
    """A connection that holds no transaction open: swaps would wait for it."""
    with connect(database_url, autocommit=True) as connection:
        yield connection


class Crowd:
    """Threads that do something again and again until told to stop; what went wrong in one fails the test."""

    def __init__(self, url: str) -> None:
        self.url, self.stop, self.wrong = url, threading.Event(), []
        self.turns: dict[str, int] = {}
        self.threads: list[threading.Thread] = []

    def add(self, name: str, turn: Callable[[psycopg.Connection], None]) -> None:
        """Start a thread on a connection of its own."""

        def work() -> None:
            try:
                with connect(self.url, autocommit=True, check_schema=False) as conn:
                    while not self.stop.is_set():
                        turn(conn)
                        self.turns[name] = self.turns.get(name, 0) + 1
            except Exception as error:
                self.wrong.append((name, error))
                self.stop.set()

        self.threads.append(threading.Thread(target=work))
        self.threads[-1].start()

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize("indexed", [False, True])
def test_writers_and_readers_notice_nothing(conn, database_url, indexed):
    """A journal of what one writer did is the table's contents; every snapshot of every reader is whole."""
    fill(conn, 600, DIMENSION)
    if indexed:
        index_space(database_url, "look", m=4, ef_construction=8)
    journal = {image: row[1] for image, row in contents(conn).items()}
    (archive,) = conn.execute("select archive_id from geosearch.image limit 1").fetchone()
    ids = sorted(journal)
    kept, mine = ids[:300], ids[300:]
    rng = random.Random(5)

    def write(own: psycopg.Connection) -> None:
        what, image = rng.random(), rng.choice(mine)
        # Waits about as long as an attempt to swap may take are no errors; a minute would be.
        own.execute("set statement_timeout = '30s'")
        if what < 0.4:
            (image,) = add_images(own, archive, 1)
            row = own.execute(
                "insert into geosearch.space_look (image_id, embedding)"
                " values (%s, array_fill(%s, '{16}')::real[]::halfvec) returning version",
                [image, rng.random() + 0.1],
            ).fetchone()
            journal[image] = row[0]
            mine.append(image)
        elif what < 0.7:
            with own.transaction():  # as `geosearch embed` does: the vector, then its image
                row = own.execute(
                    "update geosearch.space_look set embedding = array_fill(%s, '{16}')::real[]::halfvec"
                    " where image_id = %s returning version",
                    [rng.random() + 0.1, image],
                ).fetchone()
                own.execute("update geosearch.image set updated_at = now() where id = %s", [image])
            journal[image] = row[0]
        else:
            table, key = (("space_look", "image_id"), ("image", "id"))[what < 0.85]
            own.execute(f"delete from geosearch.{table} where {key} = %s", [image])
            del journal[image]
            mine.remove(image)
        # What was committed is seen at once, through whichever table.
        found = own.execute("select version from geosearch.space_look where image_id = %s", [image]).fetchone()
        assert found == ((journal[image],) if image in journal else None), (what, image, found)

    def search(own: psycopg.Connection) -> None:
        rows = own.execute(
            "select image_id from geosearch.search('look', array_fill(1, '{16}')::real[]::vector, k => 100000,"
            " strategy => 'exact')"
        ).fetchall()
        assert set(kept) <= {row[0] for row in rows}

    def look_late(own: psycopg.Connection) -> None:
        own.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with own.transaction():
            own.execute("select 1")  # the snapshot
            time.sleep(0.02)
            (found,) = own.execute(
                "select count(*) from geosearch.space_look where image_id = any (%s)", [kept]
            ).fetchone()
        assert found == len(kept)

    with Crowd(database_url) as crowd:
        crowd.add("writer", write)
        crowd.add("searcher", search)
        crowd.add("late", look_late)
        for _ in range(3):
            done = reorder(database_url, "look", rebuild_always=True, force=True)
            assert done.done == "reorder"
            if crowd.stop.is_set():
                break
    assert not crowd.wrong, crowd.wrong
    assert min(crowd.turns.values()) > 3
    assert {image: row[1] for image, row in contents(conn).items()} == journal
    assert leftovers(conn) == []
    assert get_space(conn, "look").indexed_as == ("halfvec" if indexed else None)


REORDER = """
import sys
from geosearch.database.reorder import reorder
print("ready", flush=True)
def say(what, *_):
    print(what, flush=True)
    if what == sys.argv[2]:
        sys.stdin.readline()  # waits here to be killed
reorder(sys.argv[1], "look", rebuild_always=True, force=True, progress=say)
print("done", flush=True)
"""
STAGES = ("copying in the order of cells", "catching up", "comparing both tables", "waiting for a moment to swap")


def writes_and_finds(conn: psycopg.Connection, archive: int) -> tuple[int, Any]:
    """Add an image and its vector, find it, and return it with its version."""
    (image,) = add_images(conn, archive, 1)
    row = conn.execute(
        "insert into geosearch.space_look (image_id, embedding) values (%s, array_fill(%s, '{16}')::real[]::halfvec)"
        " returning version",
        [image, 1.0],
    ).fetchone()
    found = conn.execute(
        "select image_id from geosearch.search('look', array_fill(1, '{16}')::real[]::vector, k => 100)"
    ).fetchall()
    assert (image,) in found
    return image, row[0]


def test_killed_at_each_stage_and_at_any_moment(conn, database_url, monkeypatch):
    monkeypatch.setattr(index_session, "LOCK_PATIENCE_S", 30.0)
    fill(conn, 600, DIMENSION)
    index_space(database_url, "look", m=4, ef_construction=8)
    versions = {image: row[1] for image, row in contents(conn).items()}
    (archive,) = conn.execute("select archive_id from geosearch.image limit 1").fetchone()
    rng = random.Random(3)
    for stage in (*STAGES, None, None, None):
        with start(REORDER, database_url, stage or "") as process:
            said = []
            while process.stdout is not None and (line := process.stdout.readline().strip()):
                said.append(line)
                if line == (stage or "ready"):
                    break
            assert said[-1] == (stage or "ready"), said
            image, version = writes_and_finds(conn, archive)
            versions[image] = version
            time.sleep(0 if stage else rng.uniform(0.05, 0.8))
            process.kill()
        image, version = writes_and_finds(conn, archive)
        versions[image] = version
    assert reorder(database_url, "look", rebuild_always=True, force=True).done == "reorder"
    assert {image: row[1] for image, row in contents(conn).items()} == versions
    assert leftovers(conn) == []
    assert get_space(conn, "look").indexed_as == "halfvec"


def test_what_is_left_of_a_space_that_was_dropped_goes_with_the_next_reorder(conn, database_url):
    fill(conn, 50, DIMENSION)
    conn.execute("create table geosearch.reorder_987654 (i int); create table geosearch.reorder_987654_log (i int)")
    reorder(database_url, "look", rebuild_always=True, force=True)
    assert leftovers(conn) == []


def test_the_servers_process_killed_while_it_copies(conn, database_url, superuser_url):
    """The command says what the database answered, and the next one begins anew."""
    fill(conn, 300, DIMENSION)
    before = contents(conn)

    def kill(what: str, *_: Any) -> None:
        if what == "catching up":
            with psycopg.connect(superuser_url, autocommit=True) as admin:
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
                    " and classid::bigint = %s"
                    " and database = (select oid from pg_database where datname = current_database())",
                    [index_session.LOCK_CLASS],
                )

    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        reorder(database_url, "look", rebuild_always=True, force=True, progress=kill)
    assert leftovers(conn) != []
    reorder(database_url, "look", rebuild_always=True, force=True)
    assert leftovers(conn) == []
    assert contents(conn) == before
