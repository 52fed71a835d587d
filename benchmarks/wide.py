"""Measures searches over vectors of 8 448 numbers, SALAD's own size: what codes find, and what the exact order adds.

    python benchmarks/wide.py [--rows 40000] [--server URL]        synthetic vectors; some minutes on two cores
    python benchmarks/wide.py --pictures URL --archive NAME        pictures of an archive in that database, by SALAD

A space of so many dimensions is indexed by one bit a number (pgvector's HNSW over the signs of vectors less the mean of
the space); `geosearch.search` takes 30 k + 200 candidates from it and orders them by the stored vectors. The right
answers are the best by float32 vectors that were never rounded, of all rows or of those within 2 500 km. `codes alone`
is what the order of the codes gives, `first by code` how many of the right answers are among the first 30 k + 200 by
code: no walk through the index can find more. `wide_vectors.py` says what is searched.

--server is the URL of a superuser; without one it is the private cluster's. The database geosearch_bench_wide is made
there and removed again unless --keep. The figures go into a JSON file and as a table into docs/benchmarks-nadir.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy is loaded: the server needs the cores

import load
import numpy as np
import psycopg
from numpy.typing import NDArray
from report import write_between
from search import machine, private_server, say
from wide_vectors import WIDE, Wide, made, pictures

from geosearch.database.archives import ensure_archive
from geosearch.database.connection import connect
from geosearch.database.index import index_space
from geosearch.database.migrate import migrate
from geosearch.database.reorder import restore_order
from geosearch.database.spaces import create_space
from geosearch.embedding.write import VectorWriter

ROOT = Path(__file__).resolve().parent.parent
SPACE, RADIUS_M = "wide", 2_500_000.0
Floats = NDArray[np.float32]
STRATEGIES, KS = ("exact", "hnsw", "auto"), (1, 10, 100)
SEARCH = (
    "select name::int from geosearch.search(%(space)s, %(query)s::vector, k => %(k)s, strategy => %(way)s{})"
    " order by rank"
)
CIRCLE = ", near => st_makepoint(%(lon)s, %(lat)s)::geography, radius_m => %(radius)s"


def main() -> None:
    """Make or describe the vectors, load, index, ask, write."""
    options = arguments()
    server = options.server or private_server()
    if options.pictures:
        name = "pictures"
        wide = pictures(
            options.pictures, options.archive, options.model, options.size, options.rows, options.queries, options.seed
        )
    else:
        name, folder = "synthetic", Path(tempfile.mkdtemp(prefix="geosearch-wide-"))
        wide = made(options.rows, options.queries, folder, options.seed)
        shutil.rmtree(folder)
    say(f"{len(wide.vectors):,} rows × {WIDE}: {wide.about}")
    url = load.database(server, options.database, keep=False)
    try:
        migrate(url)
        with connect(url, autocommit=True) as conn:
            run = {"rows": len(wide.vectors), "about": wide.about, "queries": options.queries, "machine": machine(),
                   "date": time.strftime("%Y-%m-%d"), "load_average": os.getloadavg()[0],
                   **store(conn, url, wide)}  # fmt: skip
            cosines = wide.questions @ wide.vectors.T
            agreeing = signs(conn, wide.questions) @ signs(conn, wide.vectors).T
            run["cases"] = [measure(conn, wide, cosines, agreeing, circle, k) for circle in (False, True) for k in KS]
    finally:
        if not options.keep:
            load.drop(server, options.database)
    write(options, name, run)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="URL of a superuser; the private cluster's without one")
    parser.add_argument("--database", default="geosearch_bench_wide", help="dropped first")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", metavar="URL", help="of a database with an archive of pictures")
    parser.add_argument("--archive", default="bluemarble")
    parser.add_argument("--model", default="mini-clip", help="whose patches: any model of open_clip")
    parser.add_argument("--size", type=int, default=160, help="pixels: there must be more than 64 patches")
    parser.add_argument("--keep", action="store_true", help="leave the database")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks" / "results", help="for the JSON file")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "benchmarks-nadir.md")
    return parser.parse_args()


def store(conn: psycopg.Connection[Any], url: str, wide: Wide) -> dict[str, Any]:
    """Catalogue the places, write the vectors, order and index the space; return seconds and megabytes."""
    archive = ensure_archive(conn, "wide")
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m)"
        " select %s, n - 1, st_makepoint(lon, lat), 0"
        " from unnest(%s::float8[], %s::float8[]) with ordinality as p (lat, lon, n)",
        [archive, wide.places[:, 0].tolist(), wide.places[:, 1].tolist()],
    )
    ids = [row[0] for row in conn.execute("select id from geosearch.image order by name::int").fetchall()]
    writer = VectorWriter(conn, create_space(conn, SPACE, WIDE))
    started = time.perf_counter()
    for start in range(0, len(ids), 1024):
        with conn.transaction():
            writer.write(ids[start : start + 1024], wide.vectors[start : start + 1024], None)
    written = time.perf_counter() - started
    indexed = index_space(url, SPACE)
    restore_order(url, SPACE)
    conn.execute("analyze geosearch.space_wide")
    row = conn.execute("select pg_total_relation_size('geosearch.space_wide')").fetchone()
    assert row is not None
    say(f"written in {written:.0f} s, indexed in {indexed.seconds:.0f} s")
    return {"written_s": written, "indexed_s": indexed.seconds, "index_mb": indexed.megabytes, "table_mb": row[0] / 1e6}


def measure(
    conn: psycopg.Connection[Any], wide: Wide, cosines: Floats, agreeing: Floats, circle: bool, k: int
) -> dict[str, Any]:
    """Ask every question in every strategy in turn; return the figures of each.

    cosines: of questions and rows, (m, n). agreeing: bits of their codes that agree less those that do not, (m, n).
    """
    ms: dict[str, list[float]] = {way: [] for way in STRATEGIES}
    recall: dict[str, list[float]] = {way: [] for way in (*STRATEGIES, "codes alone", "first by code")}
    shares = []
    for number, (question, of) in enumerate(zip(wide.questions, wide.of, strict=True)):
        lat, lon = wide.places[of]
        among = np.arange(len(wide.vectors))
        if circle:
            inside = (
                "select name::int from geosearch.image where st_dwithin(nadir, st_makepoint(%s, %s)::geography, %s)"
            )
            among = np.sort([row[0] for row in conn.execute(inside, [lon, lat, RADIUS_M]).fetchall()])
        right = set(among[np.argsort(-cosines[number, among], kind="stable")[:k]].tolist())
        shares.append(len(among))
        by_code = np.argsort(-agreeing[number, among], kind="stable")
        for name, first in (("codes alone", k), ("first by code", 30 * k + 200)):
            recall[name].append(len(right & set(among[by_code[:first]].tolist())) / len(right))
        given = {"space": SPACE, "query": "[" + ",".join(f"{x:.8g}" for x in question) + "]", "k": k,
                 "lat": lat, "lon": lon, "radius": RADIUS_M}  # fmt: skip
        first = number % len(STRATEGIES)
        for way in STRATEGIES[first:] + STRATEGIES[:first]:
            text = SEARCH.format(CIRCLE if circle else "")
            for _ in range(2 if number == 0 else 1):  # warm
                started = time.perf_counter()
                found = conn.execute(text, {**given, "way": way}).fetchall()
                took = time.perf_counter() - started
            ms[way].append(1000 * took)
            recall[way].append(len(right & {row[0] for row in found}) / len(right))
    case = {
        "circle": circle,
        "k": k,
        "candidates": int(np.median(shares)),
        "ms": {way: [float(np.median(some)), float(np.percentile(some, 95))] for way, some in ms.items()},
        "recall": {name: float(np.mean(some)) for name, some in recall.items()},
        "least_recall": {name: min(some) for name, some in recall.items()},
    }
    say(f"circle {circle}, k {k}: {case['recall']}")
    return case


def signs(conn: psycopg.Connection[Any], vectors: Floats) -> Floats:
    """Return the codes of vectors as ±1 in float32 (a product tells the Hamming distance), about the space's centre."""
    row = conn.execute("select centre::text from geosearch.space where name = %s", [SPACE]).fetchone()
    assert row is not None
    centre = np.array(json.loads(row[0]), np.float32)
    out = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), 4096):
        stored = vectors[start : start + 4096].astype(np.float16).astype(np.float32)
        out[start : start + 4096] = np.where(stored - centre > 0, 1, -1)
    return out


def section(run: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    lines = [
        f"{run['rows']:,} rows × {WIDE:,} ({run['about']}), {run['queries']} questions, {run['date']};",
        f"{run['machine']}; load average before: {run['load_average']:.1f}.",
        f"Table {run['table_mb']:,.0f} MB, index {run['index_mb']:,.0f} MB, built in {run['indexed_s']:.0f} s; vectors"
        f" written in {run['written_s']:.0f} s.",
        "",
        "| where | k | recall: exact | hnsw | auto | codes alone | first by code | ms: exact | hnsw | auto |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in run["cases"]:
        where = f"2 500 km ({case['candidates']:,} rows)" if case["circle"] else "all"
        found = [f"{case['recall'][name]:.3f}" for name in (*STRATEGIES, "codes alone", "first by code")]
        times = [f"{case['ms'][way][0]:.1f}" for way in STRATEGIES]
        lines.append(f"| {where} | {case['k']} | {' | '.join(found)} | {' | '.join(times)} |")
    return "\n".join(lines) + "\n"


def write(options: argparse.Namespace, name: str, run: dict[str, Any]) -> None:
    """Write the JSON file and the table."""
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / f"wide-{name}.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    write_between(options.docs, f"wide {name}", section(run))
    say(f"written: {options.folder / f'wide-{name}.json'}, {options.docs}")


if __name__ == "__main__":
    main()
