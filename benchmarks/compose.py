"""Times `geosearch.compose` against WeiCom as one writes it down in SQL, over the same rows, in the same run.

    python benchmarks/compose.py [--rows 161496] [--server URL]          about 15 minutes on two cores
    python benchmarks/compose.py --database NAME --reuse                  over what an earlier run left (--keep)

The rows are those of `benchmarks/search.py` (`archive.py`), read from the space's own table by all ways.
`compose_ways.py` has the SQL of the rivals. Questions, k = 10: an image and a text that mean the same (`agree`), one of
one cluster and another of another (`disagree`), and a text that lies off the data, as real ones do: most of its
direction belongs to no image, the rest is shared by several clusters (`broad text`); each at λ = .5 and .3; and within
2 500 km, by the statistics of the whole space and of the circle. Every way is asked every question in turn, another one
first each time. Answers of all exact ways must be equal; recall of the others is held against them. `touched` is the
share of the candidates that geosearch computed a similarity for.

--server is the URL of a superuser; without one it is the private cluster's. The database geosearch_bench_<rows>
is made there and removed again unless --keep.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before NumPy is loaded: the server needs the cores

import load
import numpy as np
import psycopg
from archive import Archive, Shape, make
from compose_report import aims, section
from compose_ways import OURS, PHI, WAYS, statement
from numpy.typing import NDArray
from report import write_between
from search import about, private_server, say

from geosearch.database.connection import connect
from geosearch.database.migrate import migrate
from geosearch.database.moments import compute_moments

ROOT = Path(__file__).resolve().parent.parent
K, RADIUS_M = 10, 2_500_000.0
KINDS = ("agree", "disagree", "broad text")


class Case(NamedTuple):
    """kind: of the questions. lam: weight of the text. circle: within 2 500 km. population: of the statistics."""

    kind: str
    lam: float
    circle: bool = False
    population: str = "space"

    @property
    def name(self) -> str:
        """Return what tables call it."""
        where = f", 2 500 km, statistics of the {'circle' if self.population == 'candidates' else 'space'}"
        return f"{self.kind}, λ {self.lam:g}{where if self.circle else ''}"


CASES = [Case(kind, lam) for kind in KINDS for lam in (0.5, 0.3)]
CASES += [Case("disagree", 0.5, True, population) for population in ("space", "candidates")]


class Question(NamedTuple):
    """image, text: (d,) float32 of length 1. lat, lon: degrees, where the image lies."""

    image: NDArray[np.float32]
    text: NDArray[np.float32]
    lat: float
    lon: float


def main() -> None:
    """Load what is missing, time, write."""
    options = arguments()
    folder = options.folder / str(options.rows)
    server = options.server or private_server()
    shape = Shape(options.rows, options.dimension, options.seed, options.footprints, options.far)
    say(f"{options.rows:,} rows × {options.dimension}")
    archive = make(shape, folder)
    url = load.database(server, options.database or f"geosearch_bench_{options.rows}", keep=options.reuse)
    try:
        migrate(url)
        with connect(url, autocommit=True) as conn:
            stages = load.Stages(conn, say)
            load.check_shape(conn, shape)
            load.load_geosearch(conn, archive, stages, url)
            say("moments …")
            started = time.perf_counter()
            if compute_moments(url, load.SPACE).computed:
                stages.note("geosearch: moments", time.perf_counter() - started)
            conn.execute(PHI)
            conn.execute("checkpoint")
            run: dict[str, Any] = {**about(options, conn), "load_average": round(os.getloadavg()[0], 1), "k": K}
            run["ways"] = {name: way.about for name, way in WAYS.items()}
            run["cases"] = {case.name: measure(conn, archive, case, options.queries) for case in CASES}
            run["stages"] = stages.seconds()
        write(options, run)
    finally:
        if not (options.keep or options.reuse):
            load.drop(server, options.database or f"geosearch_bench_{options.rows}")
            shutil.rmtree(folder, ignore_errors=True)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="URL of a superuser; the private cluster's without one")
    parser.add_argument("--database", help="geosearch_bench_<rows>; dropped first unless --reuse is given")
    parser.add_argument("--rows", type=int, default=161_496)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--queries", type=int, default=15, help="a case")
    parser.add_argument("--footprints", type=float, default=0.5, help="share of the rows with one")
    parser.add_argument("--far", type=float, default=0.0, help="share of the rows with a reach of 2 500 km")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave the database and the folder")
    parser.add_argument("--reuse", action="store_true", help="take what an earlier run left (and leave it)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "geosearch-benchmark")
    parser.add_argument("--json", type=Path, help="benchmarks/results/compose-<rows>.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "benchmarks-compose.md")
    options = parser.parse_args()
    options.json = options.json or ROOT / "benchmarks" / "results" / f"compose-{options.rows}.json"
    return options


def questions(archive: Archive, case: Case, count: int) -> list[Question]:
    """Return the questions of a case, the same for the same archive, kind and number, whatever λ is."""
    rng = np.random.default_rng([archive.shape.seed, 7, KINDS.index(case.kind)])
    d = archive.shape.dimension

    def noise(length: float) -> NDArray[np.float64]:
        drawn = rng.standard_normal(d)
        return length * drawn / np.linalg.norm(drawn)

    def rows(number: int) -> NDArray[np.float64]:
        return archive.vectors[rng.integers(archive.shape.rows, size=number)].astype(np.float64)

    asked = []
    for _ in range(count):
        at = int(rng.integers(archive.shape.rows))
        own = archive.vectors[at].astype(np.float64)
        if case.kind == "agree":
            text = own + noise(1.0)
        elif case.kind == "disagree":
            text = rows(1)[0] + noise(0.5)
        else:
            text = 0.5 * unit(rows(6).mean(0)) + noise(1.0)
        place = archive.rows[at]
        asked.append(Question(unit(own + noise(0.3)), unit(text), float(place["lat"]), float(place["lon"])))
    return asked


def unit(vector: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the vector at length 1."""
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def measure(conn: psycopg.Connection[Any], archive: Archive, case: Case, count: int) -> dict[str, Any]:
    """Ask every way the questions of a case in turn; return the figures of each."""
    say(case.name)
    names = list(WAYS)
    ms: dict[str, list[float]] = {name: [] for name in names}
    recall: dict[str, list[float]] = {name: [] for name in names}
    plans: dict[str, list[tuple[str, int, int]]] = {name: [] for name in names if name.startswith(OURS)}
    unlike = 0
    for number, question in enumerate(questions(archive, case, count)):
        first = number % len(names)
        answers: dict[str, list[int]] = {}
        for name in names[first:] + names[:first]:
            way = WAYS[name]
            text = statement(way, case.circle, case.population, load.SPACE, archive.shape.dimension)
            given = {
                "image": spelled(question.image), "text": spelled(question.text), "lam": case.lam, "k": K,
                "lat": question.lat, "lon": question.lon, "radius": RADIUS_M, "population": case.population,
            }  # fmt: skip
            conn.execute(f"set max_parallel_workers_per_gather = {way.workers}")
            if number == 0:
                conn.execute(text, given).fetchall()  # warm
            started = time.perf_counter()
            found = conn.execute(text, given).fetchall()
            ms[name].append(1000 * (time.perf_counter() - started))
            answers[name] = [row[0] for row in found]
            if name in plans:
                plans[name].append(planned(conn, way.strategy, case, given))
        right = answers[f"{OURS}, exact"]
        unlike += sum(answers[name] != right for name in names if WAYS[name].exact)
        for name in names:
            recall[name].append(len(set(answers[name]) & set(right)) / max(1, len(right)))
    return {
        "queries": count,
        "unequal": unlike,
        "ways": {name: summary(ms[name], recall[name], plans.get(name)) for name in names},
    }


def planned(conn: psycopg.Connection[Any], strategy: str, case: Case, given: dict[str, Any]) -> tuple[str, int, int]:
    """Return strategy, touched and candidates of a question, by geosearch.compose_plan."""
    near = ", near => st_makepoint(%(lon)s, %(lat)s)::geography, radius_m => %(radius)s" if case.circle else ""
    row = conn.execute(
        "select strategy, touched, candidates from geosearch.compose_plan(%(space)s, %(image)s::vector,"
        f" %(text)s::vector, %(lam)s{near}, k => %(k)s, strategy => %(strategy)s, population => %(population)s)",
        {**given, "space": load.SPACE, "strategy": strategy},
    ).fetchone()
    assert row is not None
    return row


def spelled(vector: NDArray[np.float32]) -> str:
    """Return a vector as PostgreSQL reads it."""
    return "[" + ",".join(f"{x:.9g}" for x in vector) + "]"


def summary(ms: list[float], recall: list[float], plans: list[tuple[str, int, int]] | None) -> dict[str, Any]:
    """Return the figures of one way in one case."""
    found: dict[str, Any] = {
        "p50": float(np.median(ms)), "p95": float(np.percentile(ms, 95)),
        "recall": float(np.mean(recall)), "least_recall": min(recall),
    }  # fmt: skip
    if plans is not None:
        found["exact_share"] = float(np.mean([way == "exact" for way, _, _ in plans]))
        found["touched"] = float(np.median([touched / max(1, candidates) for _, touched, candidates in plans]))
    return found


def write(options: argparse.Namespace, run: dict[str, Any]) -> None:
    """Write the JSON file and the tables."""
    run["aims"] = aims(run)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    write_between(options.docs, f"compose {options.rows}", section(run))
    say(f"written: {options.json}, {options.docs}")


if __name__ == "__main__":
    main()
