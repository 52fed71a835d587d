"""The benchmark of RANGE in SQL runs as a whole, its ways agree, and it leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "range_sql.py"


def test_every_way_is_timed_and_right(database_url: str, superuser_url: str, tmp_path: Path) -> None:
    with psycopg.connect(superuser_url, autocommit=True) as conn:
        conn.execute("grant create on schema public to geosearch")
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(SCRIPT), "--url", database_url, "--places", "150,2100", "--queries", "2"]
    done = subprocess.run([*command, "--json", str(figures)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "error at most 1e-05: met" in done.stdout
    runs = json.loads(figures.read_text(encoding="utf-8"))
    assert [run["places"] for run in runs] == [150, 2100]
    for run in runs:
        assert len(run["ways"]) == 8
        for way in run["ways"].values():
            assert 0 < way["p50"] <= way["p95"]
            assert way["error"] < 1e-5
    with psycopg.connect(database_url) as conn:
        for table in ("model", "bank", "location_weight"):
            assert conn.execute(f"select count(*) from geosearch.{table}").fetchone() == (0,)
        left = conn.execute("select count(*) from pg_class where relname ~ 'benchmark_'").fetchone()
        assert left == (0,)
