"""Times `geosearch.search` against its rivals over the same synthetic archive, in the same run.

    python benchmarks/search.py [--rows 161496] [--server URL]          about 15 minutes on two cores
    python benchmarks/search.py --rows 1600000 --queries 15 --keep      hours; once loaded: --reuse
    pip install lancedb                                                 for the rows of LanceDB; else they are left out

Rivals: the SQL that one writes by hand (with the server's defaults, and without parallel workers), pgvector's HNSW
(with and without iterative scans), FAISS flat with a bitmap outside the database (the floor), LanceDB with its own
filter. `rivals*.py` say exactly what each does, `archive.py` what is searched, `cases.py` what is asked and what counts
as right. Ways are timed in turn within each query, so that whatever else the machine does meets all alike. The figures
go into a JSON file and as tables into docs/benchmarks.md, together with the aims and whether they are met.

--server is the URL of a superuser; without one it is the private cluster's. The database geosearch_bench_<rows>
is made there and removed again unless --keep. --reuse takes the database and the folder that are there and does what is
missing; --prepare stops when all is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy and FAISS are loaded: one thread each, and none that spins while the server works.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
os.environ.setdefault("LANCE_LOG", "error")

import load
import numpy as np
import psycopg
import rivals
from archive import Archive, Shape, make
from cases import Case, cases, questions
from clock import many_clients, one_client
from report import aims, section, write_between
from rivals_faiss import FaissWay
from rivals_lancedb import LanceWay

from geosearch.database.connection import connect
from geosearch.database.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
SIZES = (161_496, 1_600_000)  # of the aim that compares two


def main() -> None:
    """Load what is missing, time, write."""
    options = arguments()
    folder = options.folder / str(options.rows)
    name = options.database or f"geosearch_bench_{options.rows}"
    server = options.server or private_server()
    shape = Shape(options.rows, options.dimension, options.seed, options.footprints, options.far)
    say(f"{options.rows:,} rows × {options.dimension}")
    archive = make(shape, folder)
    url = load.database(server, name, keep=options.reuse)
    try:
        migrate(url)
        with connect(url, autocommit=True) as conn:
            stages = load.Stages(conn, say)
            load.check_shape(conn, shape)
            load.load_by_hand(conn, archive, stages, hnsw=chosen("pgvector", options.only))
            if chosen("geosearch", options.only):
                load.load_geosearch(conn, archive, stages, url)
            conn.execute("checkpoint")
            ways, skipped = make_ways(options, archive, url, stages, only_files=options.prepare)
            if not options.prepare:
                write(options, measure(options, archive, ways, skipped, conn, stages))
    finally:
        if not (options.keep or options.reuse or options.prepare):
            load.drop(server, name)
            shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="URL of a superuser; the private cluster's without one")
    parser.add_argument("--database", help="geosearch_bench_<rows>; dropped first unless --reuse is given")
    parser.add_argument("--rows", type=int, default=SIZES[0])
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--queries", type=int, default=30, help="a case")
    parser.add_argument("--footprints", type=float, default=0.5, help="share of the rows with one")
    parser.add_argument("--far", type=float, default=0.0, help="share of the rows with a reach of 2 500 km")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--largest-k", type=int, default=1000)
    parser.add_argument("--only", default="", help="ways whose names contain one of these, with commas")
    parser.add_argument("--cases", default="", help="as --only; or the whole name: =50 km/far image")
    parser.add_argument("--keep", action="store_true", help="leave the database and the folder")
    parser.add_argument("--reuse", action="store_true", help="take what an earlier run left (and leave it)")
    parser.add_argument("--prepare", action="store_true", help="load and build only (and leave it)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "geosearch-benchmark")
    parser.add_argument("--json", type=Path, help="benchmarks/results/search-<rows>.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args()
    options.json = options.json or ROOT / "benchmarks" / "results" / f"search-{options.rows}.json"
    options.reuse = options.reuse or options.prepare
    return options


def chosen(name: str, given: str) -> bool:
    """Whether a name contains one of those that were given (is one, after a `=`; a `/` is its comma), or none was."""
    parts = [part.strip().replace("/", ", ") for part in given.split(",") if part.strip()]
    return not parts or any(name == part[1:] if part[0] == "=" else part in name for part in parts)


def say(text: str) -> None:
    """Tell the user how far it is; the figures go into files."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def private_server() -> str:
    """Return the URL of the private cluster's superuser; the cluster is started where it is not up."""
    from geosearch.database import server

    server.ensure_running()
    return server.admin_url()


def make_ways(
    options: argparse.Namespace, archive: Archive, url: str, stages: load.Stages, only_files: bool
) -> tuple[list[rivals.Way], dict[str, str]]:
    """Return the ways that can run here, and why the others cannot. only_files: those alone that first make files."""
    d, far = archive.shape.dimension, archive.shape.far > 0
    lance = archive.folder / "lance"
    makers: dict[str, Callable[[], rivals.Way]] = {
        "by hand": lambda: rivals.by_hand(url, far),
        "by hand, no workers": lambda: rivals.by_hand(url, far, max_parallel_workers_per_gather="0"),
        "pgvector HNSW, iterative": lambda: rivals.pgvector(url, d, iterative=True),
        "pgvector HNSW": lambda: rivals.pgvector(url, d, iterative=False),
        "FAISS flat fp32": lambda: FaissWay(archive, "fp32", stages),
        "FAISS flat fp16": lambda: FaissWay(archive, "fp16", stages),
        "LanceDB flat": lambda: LanceWay(archive, lance, None, stages),
        "LanceDB IVF_PQ": lambda: LanceWay(archive, lance, "IVF_PQ", stages),
        "geosearch, auto": lambda: rivals.ours(url, "auto"),
        "geosearch, exact": lambda: rivals.ours(url, "exact"),
        "geosearch, hnsw": lambda: rivals.ours(url, "hnsw"),
    }
    ways, skipped = [], {}
    for name, maker in makers.items():
        if chosen(name, options.only) and (not only_files or name.startswith("LanceDB")):
            try:
                ways.append(maker())
            except ImportError as error:
                skipped[name] = f"{error}"
            except MemoryError as error:
                skipped[name] = f"{error}"
    return ways, skipped


def measure(
    options: argparse.Namespace,
    archive: Archive,
    ways: list[rivals.Way],
    skipped: dict[str, str],
    conn: psycopg.Connection[Any],
    stages: load.Stages,
) -> dict[str, Any]:
    """Ask everything and return all figures."""
    before = os.getloadavg()
    found: dict[str, Any] = {}
    for case in cases(options.largest_k):
        if not chosen(case.name, options.cases):
            continue
        asked = questions(archive, case, options.queries, conn)
        for way in list(ways):  # a strategy that this database has not
            try:
                way.prepare(asked[0])
                way.ask(asked[0])
            except (psycopg.errors.FeatureNotSupported, psycopg.errors.ObjectNotInPrerequisiteState) as error:
                skipped[way.name] = error.diag.message_primary or str(error)
                ways.remove(way)
        notes = {way.name: note for way in ways if (note := way.note(asked[0]))}
        if case.clients == 1:
            figures = one_client(archive, ways, asked)
        else:
            figures = many_clients(archive, ways, asked, case.clients)
        found[case.name] = {**describe(case), "candidates": spread([q.count for q in asked]), "ways": figures}
        found[case.name]["plans"] = notes
        if any(way.name == "geosearch, auto" for way in ways):
            found[case.name]["auto"] = rivals.strategies(conn, asked)
        medians = ", ".join(f"{name} {f['p50']:.1f}" for name, f in figures.items())
        say(f"{case.name}: {medians}")
    run = {
        **about(options, conn),
        "load_average": f"{before[0]:.1f}",
        "ways": {way.name: {"about": way.about, "exact": way.exact, "memory": way.memory()} for way in ways},
        "skipped": skipped,
        "stages": stages.seconds(),
        "sizes": load.sizes(conn) | {"this process (FAISS, LanceDB and all else)": resident()},
        "cases": found,
    }
    for way in ways:
        way.close()
    return run


def describe(case: Case) -> dict[str, Any]:
    """Return what decides a case."""
    return {"radius_km": case.radius_km, "resembles": case.resembles, "where": case.where, "k": case.k,
            "clients": case.clients}  # fmt: skip


def spread(counts: list[int]) -> dict[str, int]:
    """Return how many candidates the queries of a case have."""
    return {"median": int(np.median(counts)), "least": min(counts), "most": max(counts)}


def resident() -> int:
    """Return the bytes of memory of this process, 0 where this cannot be seen."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def about(options: argparse.Namespace, conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return what the run was made on and with."""
    row = conn.execute(
        "select current_setting('server_version'), postgis_lib_version(),"
        " (select extversion from pg_extension where extname = 'vector')"
    ).fetchone()
    assert row is not None
    changed = conn.execute(
        "select name || ' = ' || current_setting(name) from pg_settings where setting is distinct from boot_val"
        " and source = 'configuration file' and (name ~ '(mem|buffers|cost|cache_size|workers|wal_size)$' or name in"
        " ('fsync', 'jit', 'full_page_writes', 'synchronous_commit', 'random_page_cost')) order by name"
    ).fetchall()
    versions = [f"PostgreSQL {row[0].split()[0]}", f"PostGIS {row[1]}", f"pgvector {row[2]}"]
    for package in ("faiss", "lancedb"):
        try:
            versions.append(f"{package} {__import__(package).__version__}")
        except ImportError:
            continue
    return {
        "rows": options.rows,
        "dimension": options.dimension,
        "seed": options.seed,
        "footprints": options.footprints,
        "far": options.far,
        "queries": options.queries,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "software": ", ".join(versions),
        "settings": "; ".join(row[0] for row in changed),
    }


def machine() -> str:
    """Return the processor and how many cores and how much memory there are."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = text.split("model name")[1].split(":", 1)[1].split("\n")[0].strip()
    except (OSError, IndexError):
        model = platform.processor() or platform.machine()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB"


def write(options: argparse.Namespace, run: dict[str, Any]) -> None:
    """Write the JSON file and the tables; the run over the other number of rows is read where it is there."""
    others = [options.json.with_name(f"search-{rows}.json") for rows in SIZES if rows != options.rows]
    other = next((json.loads(path.read_text(encoding="utf-8")) for path in others if path.exists()), None)
    run["aims"] = aims(run, other if options.rows in SIZES else None)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    write_between(options.docs, f"search {options.rows}", section(run, run["aims"]))
    say(f"written: {options.json}, {options.docs}")


if __name__ == "__main__":
    main()
