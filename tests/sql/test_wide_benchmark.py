"""The benchmark of spaces of 8 448 dimensions runs as a whole, and the re-rank mends what codes alone confuse."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "wide.py"


def test_recall_of_every_strategy_is_measured_and_written(server: str, tmp_path: Path) -> None:
    scratch = f"gsbenchtest_{uuid.uuid4().hex[:12]}"
    docs = tmp_path / "wide.md"
    command = [
        sys.executable,
        str(SCRIPT),
        "--server",
        server,
        "--database",
        scratch,
        "--rows",
        "500",
        "--queries",
        "3",
    ]
    try:
        done = subprocess.run(
            [*command, "--folder", str(tmp_path), "--docs", str(docs)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with psycopg.connect(server) as conn:
            left = conn.execute("select from pg_database where datname = %s", [scratch]).fetchone()
        assert left is None
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f"drop database if exists {scratch} with (force)")
    run = json.loads((tmp_path / "wide-synthetic.json").read_text(encoding="utf-8"))
    assert run["rows"] == 500 and len(run["cases"]) == 6
    for case in run["cases"]:
        recall = case["recall"]
        assert recall["exact"] >= 0.99  # the stored vectors are rounded, the right answers are not
        assert recall["hnsw"] >= max(recall["codes alone"], 0.95)
        assert recall["first by code"] >= recall["codes alone"]
        assert all(0 < median <= late for median, late in case["ms"].values())
    assert min(case["recall"]["codes alone"] for case in run["cases"]) < 1
    assert docs.read_text(encoding="utf-8").count("\n| ") == 7
