"""A run killed at any moment: the same command completes it, without loss and without a duplicate."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from geosearch.catalog.ingest import add

ROWS = 12_000
# Small batches, so that there are many moments between commits to be killed in.
RUN = """
import sys
from geosearch.catalog import csv_rows, ingest, read_table, staging
from geosearch.database.connection import connect
csv_rows.BLOCK_ROWS = 250
with connect(sys.argv[1]) as conn:
    print("ready", flush=True)
    ingest.add(conn, sys.argv[2], "killed")
    print("done", flush=True)
"""


def killed_after(url: str, path: Path, delay: float) -> None:
    """Start a run and kill it `delay` seconds after it began to catalogue."""
    with subprocess.Popen([sys.executable, "-c", RUN, url, str(path)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay)
        finally:
            process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_kill_9_at_any_moment(conn: psycopg.Connection, database_url: str, write_csv: Callable[..., Path]) -> None:
    rows: list[list[object]] = [[f"n{i}", i % 90, i % 180, f"text {i}"] for i in range(ROWS)]
    for i in range(100, ROWS, 1000):
        rows[i][1] = "x"  # twelve rejects on the way
    path = write_csv(["name", "lat", "lon", "note"], rows)
    assert add(conn, path, "whole").added == ROWS - 12
    conn.commit()

    rng = random.Random(9)
    longest, before, in_the_middle = 0.3, 0, 0
    for _ in range(40):
        killed_after(database_url, path, rng.uniform(0.0, longest))
        found = conn.execute(
            "select count(*) from geosearch.image where archive_id ="
            " (select id from geosearch.archive where name = 'killed')"
        ).fetchone()
        conn.commit()
        assert found is not None
        now = found[0]
        assert now >= before
        in_the_middle += before < now < ROWS - 12
        if in_the_middle >= 4:
            break
        if now == ROWS - 12:  # too late: from the beginning, and sooner
            conn.execute("delete from geosearch.archive where name = 'killed'")
            conn.commit()
            longest, before = longest * 0.6, 0
        else:  # a busy machine needs longer to get anywhere
            longest, before = longest * (1.0 if now > before else 1.5), now
    # Else it was never killed in the middle and this proves nothing.
    assert in_the_middle >= 2

    last = add(conn, path, "killed")
    assert (last.added + last.unchanged, last.updated, last.rejected) == (ROWS - 12, 0, 12)
    assert last.unchanged > 0
    differing = conn.execute(
        """
        with named as (
            select a.name as archive, i.name, i.source_sha256
            from geosearch.image i join geosearch.archive a on a.id = i.archive_id
        )
        select count(*) from (select name, source_sha256 from named where archive = 'whole') w
        full join (select name, source_sha256 from named where archive = 'killed') k
        on w.name = k.name and w.source_sha256 = k.source_sha256
        where w.name is null or k.name is null
        """
    ).fetchone()
    assert differing == (0,)
    rejected = conn.execute(
        "select a.name, count(*), count(distinct line) from geosearch.reject r"
        " join geosearch.archive a on a.id = r.archive_id group by 1 order by 1"
    ).fetchall()
    assert rejected == [("killed", 12, 12), ("whole", 12, 12)]
