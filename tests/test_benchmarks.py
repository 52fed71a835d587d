"""The benchmark of search: that it runs as a whole, and that what it counts as right is right."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import psycopg
import pytest

from geosearch.geometry import distance_m, lat_lon, unit_vectors

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = {
    "by hand",
    "by hand, no workers",
    "pgvector HNSW, iterative",
    "pgvector HNSW",
    "geosearch, auto",
    "geosearch, exact",
    "geosearch, hnsw",
}
OPTIONAL = {"FAISS flat fp32", "FAISS flat fp16", "LanceDB flat", "LanceDB IVF_PQ"}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The modules beside benchmarks/search.py, which are no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import archive
    import cases
    import load
    import report
    import rivals_lancedb

    return {"archive": archive, "cases": cases, "load": load, "report": report, "lance": rivals_lancedb}


@pytest.fixture
def scratch(server: str) -> Iterator[str]:
    """The name of a database that the benchmark makes; it is gone afterwards, also when the run failed."""
    name = f"gsbenchtest_{uuid.uuid4().hex[:12]}"
    yield name
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(f"drop database if exists {name} with (force)")


@pytest.mark.slow
def test_one_command_times_every_way_and_writes_both_files(server: str, scratch: str, tmp_path: Path) -> None:
    docs, figures = tmp_path / "benchmarks.md", tmp_path / "search.json"
    docs.write_text("# Before\n\n<!-- search 3000 -->\nold\n<!-- /search 3000 -->\n\nafter\n", encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "search.py"), "--server", server, "--database", scratch]
    command += ["--rows", "3000", "--dimension", "16", "--queries", "4", "--far", "0.05", "--folder", str(tmp_path)]
    command += ["--json", str(figures), "--docs", str(docs), "--cases", "500 km,no circle,2500 km, 8 clients"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr

    run = json.loads(figures.read_text(encoding="utf-8"))
    assert set(run["ways"]) | set(run["skipped"]) == ALWAYS | OPTIONAL
    assert set(run["ways"]) >= ALWAYS
    assert {case["k"] for case in run["cases"].values()} == {10, 100, 1000}
    assert {case["clients"] for case in run["cases"].values()} == {1, 8}
    for name, case in run["cases"].items():
        assert set(case["ways"]) == set(run["ways"])
        for way, seen in case["ways"].items():
            assert 0 < seen["p50"] <= seen["p95"]
            exact = run["ways"][way]["exact"] and not way.startswith("LanceDB")  # whose circles are rounder
            if exact:
                assert seen["recall"] == 1, (name, way)
            if exact or way.startswith("geosearch"):
                assert seen["short"] == 0, (name, way)
    text = docs.read_text(encoding="utf-8")
    assert "old" not in text
    assert text.startswith("# Before")
    assert text.endswith("after\n")
    assert all(f"**{way}**" in text for way in ALWAYS)
    with psycopg.connect(server) as conn:
        assert conn.execute("select from pg_database where datname = %s", [scratch]).fetchone() is None


def test_a_longer_archive_begins_with_the_shorter_one(benchmark: dict[str, ModuleType], tmp_path: Path) -> None:
    archive = benchmark["archive"]
    short = archive.make(archive.Shape(9000, 12), tmp_path / "short")
    long = archive.make(archive.Shape(17000, 12), tmp_path / "long")
    np.testing.assert_array_equal(long.rows[:9000], short.rows)
    np.testing.assert_array_equal(long.vectors[:9000], short.vectors)
    again = archive.make(archive.Shape(9000, 12, seed=2), tmp_path / "short")  # another archive in the same folder
    assert (again.vectors != long.vectors[:9000]).mean() > 0.9
    spots = np.abs(long.rows["lat"])
    assert spots.max() < 54  # 51.6° and what lies around a hot spot
    np.testing.assert_allclose(np.linalg.norm(long.vectors.astype(float), axis=1), 1, atol=2e-3)


def test_candidates_are_those_of_the_great_circle(
    benchmark: dict[str, ModuleType], superuser_url: str, tmp_path: Path
) -> None:
    archive, cases, load = benchmark["archive"], benchmark["cases"], benchmark["load"]
    made = archive.make(archive.Shape(3000, 4, footprints=0.4, far=0.1), tmp_path)
    with psycopg.connect(superuser_url, autocommit=True) as conn:
        load.load_by_hand(conn, made, load.Stages(conn, lambda _: None), hnsw=False)
        for near in ((0.0, 20.0), (-40.0, 179.9), (51.0, -100.0)):
            away = distance_m(*near, made.rows["lat"], made.rows["lon"])
            for radius in (200e3, 1e6, 4e6):
                ids = cases.candidate_ids(conn, near, radius)
                reach = np.where(made.rows["kind"] == archive.FAR, archive.FAR_M, 0.0)
                shape = np.where(made.rows["kind"] == archive.FOOTPRINT, archive.SIDE_M / np.sqrt(2), 0.0)
                # The spheroid differs from the sphere by up to 0.57 %; a square lies between two circles.
                surely = np.flatnonzero(away <= (radius + reach) * 0.994) + 1
                perhaps = np.flatnonzero(away <= (radius + reach) * 1.006 + shape * 1.01) + 1
                assert set(surely) <= set(ids.tolist()) <= set(perhaps)
                assert len(ids) == len(set(ids.tolist()))


def test_recall_counts_what_is_as_good_as_the_last_right_answer(
    benchmark: dict[str, ModuleType], tmp_path: Path
) -> None:
    archive, cases = benchmark["archive"], benchmark["cases"]
    made = archive.make(archive.Shape(500, 32), tmp_path)
    query = made.vectors[7].astype(np.float32)
    candidates = np.arange(1, 401)
    exact = made.vectors.astype(np.float64) @ query.astype(np.float64)
    exact /= np.linalg.norm(made.vectors.astype(np.float64), axis=1) * np.linalg.norm(query.astype(np.float64))
    order = np.argsort(-exact[:400], kind="stable") + 1
    best = np.sort(exact[:400])[::-1]

    def recall(answers: list[int], k: int = 10) -> float:
        question = cases.Question((0.0, 0.0), 1.0, query, k, candidates, 400, best)
        return cases.recall(made, question, np.array(answers, np.int64))

    right = order[:10].tolist()
    assert recall(right) == 1
    assert recall(right[::-1]) == 1
    assert recall(right[:9]) == pytest.approx(0.9)
    assert recall([*right[:9], int(order[300])]) == pytest.approx(0.9)
    assert recall([*right[:9], right[0]]) == pytest.approx(0.9)  # the same one twice
    outside = int(np.argmax(np.where(np.arange(500) >= 400, exact, -1))) + 1
    assert recall([*right[:9], outside]) == pytest.approx(0.9)
    assert recall([]) == 0
    assert recall(order.tolist(), k=1000) == 1  # fewer candidates than k
    twin = int(order[10])
    best[9] = exact[twin - 1] + 1e-6  # so close that half precision cannot tell them apart
    assert recall([*right[:9], twin]) == 1


def test_the_filter_of_lancedb_is_the_circle_on_the_sphere(
    benchmark: dict[str, ModuleType], superuser_url: str
) -> None:
    rng = np.random.default_rng(3)
    units = rng.standard_normal((4000, 3))
    lat, lon = lat_lon(units)
    units = unit_vectors(lat, lon)
    extent = rng.choice([0.0, 0.01, 0.3], 4000)
    with psycopg.connect(superuser_url, autocommit=True) as conn:
        columns = ", ".join(f"{name} float8" for name in ("lat", "lon", "x", "y", "z", "extent"))
        conn.execute(f"create temp table image (id int, {columns})")
        with conn.cursor() as cursor:
            cursor.executemany(
                "insert into image values (%s, %s, %s, %s, %s, %s, %s)",
                [(n, lat[n], lon[n], *units[n], extent[n]) for n in range(4000)],
            )
        for near in ((0.0, 0.0), (51.0, 179.5), (-50.0, -179.5), (89.0, 10.0), (-90.0, 0.0), (20.0, 100.0)):
            for radius in (100e3, 2500e3, 9000e3, 19000e3):
                where = benchmark["lance"].where(near, radius, 0.3 * 6_371_008.77)
                found = {row[0] for row in conn.execute(f"select id from image where {where}")}
                away = distance_m(*near, lat, lon) - extent * 6_371_008.77
                assert set(np.flatnonzero(away < radius - 20)) <= found <= set(np.flatnonzero(away < radius + 20))


def test_aims_say_met_and_missed(benchmark: dict[str, ModuleType]) -> None:
    report = benchmark["report"]

    def run(rows: int, ours_ms: float, short: float = 0.0) -> dict[str, object]:
        def figures(p50: float) -> dict[str, float]:
            return {"p50": p50, "p95": p50, "recall": 1.0, "zero": 0.0, "short": 0.0}

        ways = {"by hand": figures(60.0), "by hand, no workers": figures(30.0), "FAISS flat fp32": figures(6.0)}
        ways["geosearch, auto"] = figures(ours_ms) | {"short": short}
        case = {"k": 10, "clients": 1, "ways": ways, "candidates": {"median": 5}}
        return {"rows": rows, "cases": {"2500 km": case, "50 km": case}, "ways": {way: {} for way in ways}}

    def verdicts(one: dict[str, object], other: dict[str, object] | None = None) -> dict[tuple[str, str], bool]:
        found = report.aims(one, other)
        return {(a["aim"].split(" by hand")[0].split(" FAISS")[0], a["case"]): a["met"] for a in found}

    good = verdicts(run(100, 10.0), run(1000, 25.0))
    assert good[("at least 5 times faster than", "2500 km")]
    assert good[("within 2 times", "2500 km")]
    assert good[("1,000 rows at most 3 times the time of 100", "2500 km")]
    assert all(good.values())
    bad = verdicts(run(100, 13.0, short=0.01), run(1000, 40.0))
    assert not bad[("at least 5 times faster than", "2500 km")]
    assert not bad[("at least 2.5 times faster than", "2500 km")]
    assert not bad[("within 2 times", "2500 km")]
    assert not bad[("1,000 rows at most 3 times the time of 100", "2500 km")]
    assert [met for (aim, _), met in bad.items() if aim == "nothing short, ever"] == [False]
    assert bad[("at most 0.5 ms slower than", "50 km")]
    slow = verdicts(run(100, 60.6))
    assert not slow[("at most 0.5 ms slower than", "50 km")]
