"""The benchmark of composed questions runs as a whole, its exact ways agree, and it leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "compose.py"


def test_every_way_is_timed_and_the_exact_ones_agree(server: str, tmp_path: Path) -> None:
    scratch = f"gsbenchtest_{uuid.uuid4().hex[:12]}"
    figures, docs = tmp_path / "figures.json", tmp_path / "compose.md"
    command = [sys.executable, str(SCRIPT), "--server", server, "--database", scratch, "--rows", "4000"]
    command += ["--dimension", "24", "--queries", "3", "--folder", str(tmp_path), "--json", str(figures)]
    try:
        done = subprocess.run(
            [*command, "--docs", str(docs)], capture_output=True, text=True, check=False, timeout=300
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        with psycopg.connect(server) as conn:
            left = conn.execute("select from pg_database where datname = %s", [scratch]).fetchone()
        assert left is None
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(f"drop database if exists {scratch} with (force)")
    run = json.loads(figures.read_text(encoding="utf-8"))
    assert len(run["cases"]) == 8 and len(run["ways"]) == 7
    for name, case in run["cases"].items():
        assert case["unequal"] == 0, name
        for way, seen in case["ways"].items():
            assert 0 < seen["p50"] <= seen["p95"]
            assert seen["recall"] == 1 or (way.endswith(("fast", "auto")) and seen["recall"] > 0.7), (name, way)
    text = docs.read_text(encoding="utf-8")
    assert "### Aims" in text and all(f"**{way}**" in text for way in run["ways"])
