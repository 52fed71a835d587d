"""Times `geosearch.search` against the query that one writes by hand, on a synthetic archive.

    python benchmarks/search.py --url postgresql://…/scratch [--rows 161496] [--dimension 768] [--queries 30]

The database must be migrated; the archive `benchmark` and the space `benchmark` are made there and removed again.
Nadirs lie as the space station flies (51.6°); every other image has a footprint of about 100 km. By hand means:
`st_dwithin(coalesce(footprint, nadir), …) order by embedding <#> query limit 10`, with PostgreSQL's own settings
and with parallel workers switched off. Every answer is compared; two images whose cosines differ by less than the
rounding of half precision may change places. The last two columns are processor time of the backend (Linux only),
which says more than the clock on a machine that does other things as well.
"""

from __future__ import annotations

import argparse
import struct
import time
from pathlib import Path

import numpy as np
import psycopg

from geosearch.database.archives import ensure_archive, remove_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, drop_space

RADII_KM = (50, 500, 2500, 5000)


def fill(conn: psycopg.Connection, rows: int, dimension: int, rng: np.random.Generator) -> None:
    """Make the images and their clustered unit vectors."""
    archive = ensure_archive(conn, "benchmark")
    lat = np.degrees(np.arcsin(np.sin(np.radians(51.6)) * np.sin(rng.uniform(0, 2 * np.pi, rows))))
    lon = rng.uniform(-179, 179, rows)
    conn.execute("create temp table place (n int, lat float8, lon float8)")
    with conn.cursor().copy("copy place from stdin") as copy:
        for n in range(rows):
            copy.write_row((n, float(lat[n]), float(lon[n])))
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, footprint, reach_m)"
        " select %s, n::text, st_makepoint(lon, lat), case when n %% 2 = 0 then"
        " st_multi(st_makeenvelope(lon - .5, lat - .5, lon + .5, lat + .5, 4326)) end, 0 from place order by n",
        [archive],
    )
    ids = [
        row[0] for row in conn.execute("select id from geosearch.image where archive_id = %s order by id", [archive])
    ]
    create_space(conn, "benchmark", dimension)
    centres = rng.standard_normal((200, dimension))
    record = np.dtype([("fields", ">i2"), ("a", ">i4"), ("id", ">i8"), ("b", ">i4"), ("dim", ">i2"), ("zero", ">i2"),
                       ("v", ">f2", (dimension,))])  # fmt: skip
    with conn.cursor().copy("copy geosearch.space_benchmark (image_id, embedding) from stdin (format binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        for start in range(0, rows, 8192):
            part = ids[start : start + 8192]
            v = centres[rng.integers(0, 200, len(part))] + rng.standard_normal((len(part), dimension))
            block = np.zeros(len(part), record)
            block["fields"], block["a"], block["id"], block["b"], block["dim"] = (
                2,
                8,
                part,
                4 + 2 * dimension,
                dimension,
            )
            block["v"] = v / np.linalg.norm(v, axis=1, keepdims=True)
            copy.write(block.tobytes())
        copy.write(struct.pack(">h", -1))
    conn.commit()
    conn.autocommit = True
    conn.execute("vacuum analyze geosearch.image")
    conn.execute("vacuum analyze geosearch.space_benchmark")


BY_HAND = (
    "select s.image_id from geosearch.space_benchmark s join geosearch.image i on i.id = s.image_id"
    " where st_dwithin(coalesce(i.footprint, i.nadir), %(near)s::geography, %(radius)s)"
    " order by s.embedding <#> %(query)s limit 10"
)
SEARCH = "select image_id from geosearch.search('benchmark', %(query)s, %(near)s::geography, %(radius)s)"


def main() -> None:
    """Print a table of milliseconds: median and 95th percentile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=int, default=161_496)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--queries", type=int, default=30)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    with connect(options.url) as conn:
        try:
            fill(conn, options.rows, options.dimension, rng)
            print(conn.execute("select version()").fetchone()[0].split(" on ")[0])
            print("milliseconds, median / 95th percentile; processor time: mean")
            print(
                "| radius km | images | by hand | no workers | search | same answers | no workers, cpu | search, cpu |"
            )
            print("|---|---|---|---|---|---|---|---|")
            for radius in RADII_KM:
                row(conn, radius, options.queries, np.random.default_rng(radius))
        finally:
            conn.rollback()
            remove_archive(conn, "benchmark")
            drop_space(conn, "benchmark")
            conn.commit()


def busy_ms(conn: psycopg.Connection) -> float:
    """Processor time of the connection's backend so far, or NaN where this cannot be seen."""
    try:
        return int(Path(f"/proc/{conn.info.backend_pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e6
    except OSError:
        return float("nan")


def row(conn: psycopg.Connection, radius_km: float, queries: int, rng: np.random.Generator) -> None:
    """Time the three ways in turn, so that whatever else the machine does meets all alike."""
    times: dict[str, list[float]] = {"hand": [], "alone": [], "search": []}
    busy = dict.fromkeys(times, 0.0)
    same, counts = 0, []
    for _ in range(queries):
        source = conn.execute(
            "select st_astext(i.nadir), s.embedding::text from geosearch.image i join geosearch.space_benchmark s"
            " on s.image_id = i.id where i.name = %s limit 1",
            [str(rng.integers(0, 10**5))],
        ).fetchone()
        arguments = {"near": source[0], "query": source[1], "radius": radius_km * 1000.0}
        answers = {}
        for way, statement, workers in (("hand", BY_HAND, 2), ("alone", BY_HAND, 0), ("search", SEARCH, 2)):
            conn.execute(f"set max_parallel_workers_per_gather = {workers}")
            started, busy_before = time.perf_counter(), busy_ms(conn)
            answers[way] = conn.execute(statement, arguments).fetchall()
            times[way].append((time.perf_counter() - started) * 1000)
            busy[way] += (busy_ms(conn) - busy_before) / queries
        same += set(answers["hand"]) == set(answers["alone"]) == set(answers["search"])
        counts.append(
            conn.execute(
                "select candidates from geosearch.search_plan('benchmark', %(query)s, %(near)s::geography, %(radius)s)",
                arguments,
            ).fetchone()[0]
        )
    cells = [f"{np.median(t):.1f} / {np.percentile(t, 95):.1f}" for t in times.values()]
    cells += [f"{same} of {queries}", f"{busy['alone']:.2f}", f"{busy['search']:.2f}"]
    print(f"| {radius_km} | {int(np.median(counts))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
