"""Times the upkeep of a space: what order is worth to a search, what it costs to restore, what deletions cost.

    python benchmarks/upkeep.py --url postgresql://…/scratch [--images 30000] [--dimension 768]

The database must be migrated and its user own it; archive and space `upkeep` are made there and removed again. Nadirs
are spread evenly over the Earth, vectors are random. While the table is swapped, one thread adds images and another
searches, and the longest that each had to wait is told.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg

from geosearch.database.archives import ensure_archive, remove_archive
from geosearch.database.connection import connect
from geosearch.database.index import index_space
from geosearch.database.reorder import reorder
from geosearch.database.reorder_look import look
from geosearch.database.spaces import create_space, drop_space, get_space
from geosearch.embedding.write import copy_rows

SEARCH = (
    "select count(*) from geosearch.search('upkeep', %s::vector, near => st_makepoint(%s, %s)::geography,"
    " radius_m => %s, strategy => 'exact')"
)
VACUUM = "vacuum geosearch.space_upkeep"


def add(conn: psycopg.Connection[Any], archive: int, count: int, dimension: int, seed: int) -> None:
    """Add images anywhere on Earth, each with a vector, in random order."""
    ids = [
        row[0]
        for row in conn.execute(
            "insert into geosearch.image (archive_id, name, reach_m, nadir) select %s, gen_random_uuid(), 0,"
            " st_makepoint(random() * 360 - 180, degrees(asin(random() * 2 - 1)))::geography"
            " from generate_series(1, %s) returning id",
            [archive, count],
        ).fetchall()
    ]
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    statement = "copy geosearch.space_upkeep (image_id, content_sha256, embedding) from stdin (format binary)"
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for i in range(0, count, 5000):
            block = copy_rows(ids[i : i + 5000], vectors[i : i + 5000], None)
            # One header and one end for all blocks.
            copy.write(block[0 if i == 0 else 19 : -2 if i + 5000 < count else None])
    conn.execute("analyze geosearch.image")
    conn.execute("analyze geosearch.space_upkeep")
    conn.execute("select geosearch.count_cells('upkeep')")


def search_ms(conn: psycopg.Connection[Any], dimension: int, radius_m: float) -> float:
    """Return the median milliseconds of an exact search at 60 places."""
    rng = np.random.default_rng(2)
    times = []
    for _ in range(60):
        query = str(rng.standard_normal(dimension).round(4).tolist())
        place = float(rng.uniform(-180, 180)), float(np.degrees(np.arcsin(rng.uniform(-1, 1))))
        start = time.perf_counter()
        conn.execute(SEARCH, [query, *place, radius_m])
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def timed(what: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


class Waiting:
    """Threads that use the space while the body runs, and the longest that one turn of each took."""

    def __init__(self, url: str, archive: int, dimension: int) -> None:
        self.url, self.archive, self.dimension = url, archive, dimension
        self.stop, self.longest = threading.Event(), {"write": 0.0, "search": 0.0}

    def __enter__(self) -> Waiting:
        turns = {
            "write": lambda conn: add_one(conn, self.archive),
            "search": lambda conn: search_ms_once(conn, self.dimension),
        }
        self.threads = [threading.Thread(target=self._work, args=turn) for turn in turns.items()]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _work(self, name: str, turn: Callable[[psycopg.Connection[Any]], None]) -> None:
        with connect(self.url, autocommit=True) as conn:
            while not self.stop.is_set():
                self.longest[name] = max(self.longest[name], timed(lambda: turn(conn)))
                time.sleep(0.02)


def add_one(conn: psycopg.Connection[Any], archive: int) -> None:
    """Add an image with the vector of another."""
    conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m, nadir)"
        " values (%s, gen_random_uuid(), 0, 'POINT(10 45)')",
        [archive],
    )
    conn.execute(
        "insert into geosearch.space_upkeep (image_id, embedding)"
        " select (select max(id) from geosearch.image), embedding from geosearch.space_upkeep limit 1"
    )


def search_ms_once(conn: psycopg.Connection[Any], dimension: int) -> None:
    """Search once, 500 km about a place."""
    conn.execute(SEARCH, [str([1] * dimension), 10, 45, 500_000])


def main() -> None:
    """Print what order, an index and deletions cost."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--images", type=int, default=30_000)
    arguments.add_argument("--dimension", type=int, default=768)
    given = arguments.parse_args()
    url, count, dimension = given.url, given.images, given.dimension

    def report(what: str) -> None:
        found = look(conn, get_space(conn, "upkeep"))
        times = ", ".join(f"{km} km {search_ms(conn, dimension, 1000.0 * km):6.2f} ms" for km in (2500, 500, 50))
        print(f"{what:<34} out of order {found.out_of_order:5.3f}   search {times}", flush=True)

    with connect(url, autocommit=True) as conn:
        try:
            archive = ensure_archive(conn, "upkeep")
            create_space(conn, "upkeep", dimension)
            conn.execute("alter table geosearch.space_upkeep set (autovacuum_enabled = off)")
            add(conn, archive, count, dimension, 0)
            report("in any order")
            print(f"reorder, no index         {timed(lambda: reorder(url, 'upkeep', force=True)):6.1f} s")
            report("in order")
            add(conn, archive, count // 10, dimension, 1)
            report("a tenth more, anywhere")
            print(f"index                     {timed(lambda: index_space(url, 'upkeep')):6.1f} s")
            with Waiting(url, archive, dimension) as waiting:
                seconds = timed(lambda: reorder(url, "upkeep", rebuild_always=True, force=True))
            print(f"reorder, with its index   {seconds:6.1f} s")
            for name, seconds in waiting.longest.items():
                print(f"  longest {name} meanwhile   {1000 * seconds:6.0f} ms")
            for ninth in (0, 1):
                conn.execute(
                    "delete from geosearch.space_upkeep where abs(hashtext(image_id::text)) %% 9 = %s", [ninth]
                )
                conn.execute("select pg_stat_force_next_flush()")
                how = "reorder" if ninth else "VACUUM"
                seconds = timed(lambda ninth=ninth: reorder(url, "upkeep") if ninth else conn.execute(VACUUM))
                print(f"a ninth deleted: {how}  {seconds:6.1f} s")
        finally:
            drop_space(conn, "upkeep")
            remove_archive(conn, "upkeep")


if __name__ == "__main__":
    main()
