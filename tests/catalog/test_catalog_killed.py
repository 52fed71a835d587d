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


def start(url: str, path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", RUN, url, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
def test_kill_9_at_any_moment(conn: psycopg.Connection, database_url: str, write_csv: Callable[..., Path]) -> None:
    rows: list[list[object]] = [[f"n{i}", i % 90, i % 180, f"text {i}"] for i in range(ROWS)]
    for i in range(100, ROWS, 1000):
        rows[i][1] = "x"  # twelve rejects on the way
    path = write_csv(["name", "lat", "lon", "note"], rows)
    assert add(conn, path, "whole").added == ROWS - 12
    conn.commit()

    rng = random.Random(9)
    longest, counts = 0.3, [0]
    while len(counts) < 30 and sum(n > 0 for n in counts) < 6:
        process = start(database_url, path)
        time.sleep(rng.uniform(0.0, longest))
        process.send_signal(signal.SIGKILL)
        ended = process.wait()
        assert process.stdout is not None
        process.stdout.close()
        if ended != -signal.SIGKILL:
            break  # it was done before
        found = conn.execute(
            "select count(*) from geosearch.image where archive_id ="
            " (select id from geosearch.archive where name = 'killed')"
        ).fetchone()
        conn.commit()
        counts.append(found[0] if found else 0)
        longest *= 1.0 if counts[-1] > counts[-2] else 1.5  # a busy machine needs longer to get anywhere
    assert counts == sorted(counts)
    # Else it was never killed in the middle and this proves nothing.
    assert len({n for n in counts if 0 < n < ROWS - 12}) >= 2, counts

    last = add(conn, path, "killed")
    assert (last.added + last.unchanged, last.updated, last.rejected) == (ROWS - 12, 0, 12)
    assert last.unchanged >= counts[-1] > 0
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
