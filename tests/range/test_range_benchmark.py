"""The benchmark of soft retrieval runs as a whole, checks what every way answers, and writes its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_one_command_times_and_checks_every_way(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "range.py"), "--places", "2500", "--bank", "300"]
    command += ["--keys", "12", "--values", "20", "--json", str(tmp_path / "r.json"), "--docs", str(tmp_path / "d.md")]
    command += ["--encoder", "coordinates:sphere2vec-c", "--file-places", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert set(run["methods"]) == {"RANGE+", "RANGE"}
    for ways in run["methods"].values():
        assert set(ways) == {"straightforward", "ours, fp32", "ours, bf16", "ours, torch.mm", "fused attention"}
        assert ways["straightforward"]["ratio"] == 1
        assert ways["ours, fp32"]["places_met"] == 2500
        assert ways["fused attention"]["places_met"] == 2048
        for seen in ways.values():
            assert seen["error"] <= seen["error_allowed"]
            assert seen["seconds"] > 0
    text = (tmp_path / "d.md").read_text("utf-8")
    assert "<!-- range 2500 -->" in text
    assert text.count("| RANGE+ |") == 5
