"""The commands, as a user runs them, and a run that is really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from embedding_archive import Archive, archive, catalogue, model
from moments_truth import never_wrong
from typer.testing import CliRunner, Result

__all__ = ["archive", "model"]  # fixtures, imported by name


@pytest.fixture
def run(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> object:
    from geosearch_cli.main import app

    from geosearch.settings import settings

    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", archive.url)
    settings.cache_clear()

    def call(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result

    return call


def test_from_an_empty_space_to_a_full_one(archive: Archive, run) -> None:  # type: ignore[no-untyped-def]
    for i in range(5):
        archive.save(f"p{i}", i)
    made = json.loads(run("space", "create", "second", "--model", archive.model, "--json").stdout)
    assert (made["name"], made["dimension"], made["model"], made["count"]) == ("second", 24, archive.model, 0)
    counts = json.loads(run("embed", "--space", "second", "--archive", "a", "--json").stdout)
    assert (counts["embedded"], counts["rejected"]) == (5, 0)
    assert set(counts["shares"]) == {"decode", "encode", "write", "wait", "find"}
    assert "embedded:  0" in run("embed", "--space", "second").stdout
    listed = json.loads(run("space", "list", "--json").stdout)
    assert {space["name"]: space["count"] for space in listed} == {"second": 5, "tiny": 0}


def test_rejects_end_with_status_3(archive: Archive, run) -> None:  # type: ignore[no-untyped-def]
    archive.save("good", 1)
    catalogue(archive.conn, archive.id, "gone", "gone.png")
    counts = json.loads(run("embed", "--space", "tiny", "--json", code=3).stdout)
    assert (counts["embedded"], counts["rejected"]) == (1, 1)


def test_moments_of_a_space(archive: Archive, run) -> None:  # type: ignore[no-untyped-def]
    look = ("space", "moments", "tiny", "--check", "--json")
    none = {"space": "tiny", "current": False, "counted": None, "changes_since": None, "computed_at": None}
    assert json.loads(run(*look).stdout) == none
    archive.save("p0", 0)
    run("embed", "--space", "tiny")
    assert json.loads(run(*look).stdout) | {"computed_at": None} == none | {
        "current": True,
        "counted": 1,
        "changes_since": 0,
    }
    assert "They were current" in run("space", "moments", "tiny").stderr
    archive.conn.execute("delete from geosearch.space_tiny")
    assert json.loads(run(*look).stdout)["changes_since"] == 1
    assert "geosearch space moments tiny" in run("space", "moments", "tiny", "--check").stderr
    done = json.loads(run("space", "moments", "tiny", "--json").stdout)
    assert (done["computed"], done["current"], done["counted"]) == (True, True, 0)
    assert json.loads(run("space", "moments", "tiny", "--anew", "--json").stdout)["computed"]
    assert "leave out --anew" in run("space", "moments", "tiny", "--check", "--anew", code=2).stderr
    for option in ([], ["--check"]):
        assert "there is: tiny" in run("space", "moments", "nothing", *option, code=1).stderr


def test_import_command(archive: Archive, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    archive.save("p0", 0)
    run("space", "create", "foreign", "--dimension", "3")
    np.savez(tmp_path / "v.npz", names=["p0", "p1"], vectors=np.eye(3)[:2])
    result = run("embed", "import", "foreign", str(tmp_path / "v.npz"), "--archive", "a", "--json", code=3)
    assert json.loads(result.stdout) == {"added": 1, "updated": 0, "unchanged": 0, "rejected": 1, "gone": 0}


def test_dropping_asks_and_can_be_tried(archive: Archive, run) -> None:  # type: ignore[no-untyped-def]
    catalogue(archive.conn, archive.id, "gone", "gone.png")
    run("embed", "--space", "tiny", code=3)
    tried = json.loads(run("space", "drop", "tiny", "--dry-run", "--json").stdout)
    assert tried == {"space": "tiny", "vectors": 0, "dropped": False}
    assert "--yes" in run("space", "drop", "tiny", code=1).stderr  # nobody said yes
    assert archive.rejects()
    assert json.loads(run("space", "drop", "tiny", "--yes", "--json").stdout)["dropped"] is True
    assert json.loads(run("space", "list", "--json").stdout) == []
    assert not archive.rejects()  # they were of the space


def test_wrong_usage(run, archive: Archive) -> None:  # type: ignore[no-untyped-def]
    assert "--space" in run("embed", code=2).stderr
    assert "either" in run("space", "create", "x", code=2).stderr
    assert "either" in run("space", "create", "x", "--dimension", "3", "--model", archive.model, code=2).stderr
    assert "mini-clip" in run("space", "create", "x", "--model", "nonsense", code=1).stderr
    assert "lower case" in run("space", "create", "X", "--dimension", "3", code=1).stderr
    assert "tiny" in run("embed", "--space", "other", code=1).stderr


def test_models_are_listed_and_shown(run, archive: Archive) -> None:  # type: ignore[no-untyped-def]
    names = [entry["name"] for entry in json.loads(run("model", "list", "--json").stdout)]
    assert names[0] == "mini-clip"
    assert {
        "features:mini-clip",
        "mini-location",
        "mini-nadir",
        "remoteclip:RN50",
        "remoteclip:ViT-B-32",
        "remoteclip:ViT-L-14",
    } <= set(names)
    every = [entry["name"] for entry in json.loads(run("model", "list", "--all", "--json").stdout)]
    assert "open_clip:ViT-B-32/laion2b_s34b_b79k" in every
    shown = json.loads(run("model", "show", archive.model, "--json").stdout)
    assert shown["dimension"] == 24
    assert shown["reads"] == ["image", "text"]
    assert len(shown["weights_sha256"]) == 64
    assert shown["preprocessing"]["mean"] == [0.3, 0.35, 0.4]


SLOWLY = """
import sys, time
from geosearch.embedding.run import embed
from geosearch.encoders import registry

encoder = registry.load(sys.argv[2], "cpu")
encode = encoder.encode_prepared

def slowly(prepared):
    time.sleep(0.05)
    return encode(prepared)

encoder.encode_prepared = slowly
print(embed(sys.argv[1], "tiny", encoder=encoder, batch_size=4).embedded)
"""


def test_killed_at_any_moment_and_run_again(archive: Archive) -> None:
    """`kill -9` in the middle, three times over: every image has its own vector in the end, and only once."""
    total = 120
    for i in range(total):
        archive.save(f"p{i}", i)
    catalogue(archive.conn, archive.id, "gone", "gone.png")
    command = [sys.executable, "-c", SLOWLY, archive.url, archive.model]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    from geosearch.database.moments import compute_moments

    compute_moments(archive.url, "tiny")

    def count() -> int:
        row = archive.conn.execute("select count(*) from geosearch.space_tiny").fetchone()
        assert row is not None
        return int(row[0])

    reached = 0
    for stop_at in (1, 30, 70):
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 120
        while count() < stop_at and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
        wait_for_its_sessions_to_end(archive)
        assert stop_at <= count() < total
        assert count() >= reached, "committed vectors were lost"
        reached = count()
        assert count() % 4 == 0, "half a batch was committed"
        assert not never_wrong(archive.conn, "tiny").current
    from geosearch.embedding.run import embed

    counts = embed(archive.url, "tiny")
    assert (counts.unchanged, counts.embedded, counts.rejected) == (reached, total - reached, 1)
    assert set(archive.rejects()) == {"gone"}
    assert never_wrong(archive.conn, "tiny").current
    whole = archive.vectors()
    archive.conn.execute("truncate geosearch.space_tiny")
    embed(archive.url, "tiny")
    unbroken = archive.vectors()
    assert whole.keys() == unbroken.keys()
    for name, vector in whole.items():
        assert vector == pytest.approx(unbroken[name], abs=1e-3)


def wait_for_its_sessions_to_end(archive: Archive) -> None:
    """The server notices a killed client within moments; what it was committing then may still be committed."""
    for _ in range(400):
        row = archive.conn.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchone()
        if row == (0,):
            return
        time.sleep(0.05)
    raise AssertionError("the killed run is still connected")
