"""The wheel carries all it needs: installed into an empty environment it migrates a database without the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "geosearch": "geosearch",
    "geosearch_cli": "cli",
    "geosearch_sql": "sql",
    "geosearch_migrations": "migrations",
}


def _run(*argv: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run without the variables that lead Python back to this environment or to the repository."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "PIP_"))}
    return subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    """Built from a copy: leftovers of an earlier build in the repository must not get in."""
    with tempfile.TemporaryDirectory(prefix="gs-wheel-") as name:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        for part in SOURCES.values():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "LICENSE", "README.md"):
            shutil.copy(ROOT / file, source / file)
        build = [
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--disable-pip-version-check",
            "--wheel-dir",
            folder,
        ]
        done = _run(sys.executable, "-m", "pip", "wheel", *build, source, cwd=folder)
        assert done.returncode == 0, done.stderr
        (built,) = folder.glob("*.whl")
        yield built


@pytest.fixture(scope="module")
def environment(wheel: Path) -> Iterator[Path]:
    """An empty virtual environment with the wheel; its dependencies are lent by the one that runs the tests."""
    with tempfile.TemporaryDirectory(prefix="gs-empty-") as name:
        venv = Path(name) / "venv"
        done = _run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=Path(name))
        assert done.returncode == 0, done.stderr
        python = venv / "bin" / "python"
        install = ["--no-deps", "--no-index", "--disable-pip-version-check", "--quiet", wheel]
        done = _run(sys.executable, "-m", "pip", "--python", python, "install", *install, cwd=Path(name))
        assert done.returncode == 0, done.stderr
        site = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=Path(name))
        # A path in a .pth file lends the packages, but not their own .pth files: the editable geosearch stays away.
        lent = Path(site.stdout.strip()) / "lent.pth"
        lent.write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n", encoding="utf-8")
        yield venv


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = set()
    for package, folder in SOURCES.items():
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                expected.add(f"{package}/{file.relative_to(ROOT / folder).as_posix()}")
    assert expected - inside == set()
    extra = {name for name in inside - expected if ".dist-info/" not in name}
    assert extra == set()


def test_it_is_geosearch_of_the_environment_that_runs(environment: Path, tmp_path: Path) -> None:
    names = ", ".join(SOURCES)
    program = f"import {names}; print(*[package.__file__ for package in ({names})], sep='\\n')"
    done = _run(environment / "bin" / "python", "-c", program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [Path(file).is_relative_to(environment) for file in done.stdout.splitlines()] == [True] * len(SOURCES)


def test_it_migrates_a_database_without_the_repository(
    environment: Path, empty_database_url: str, tmp_path: Path
) -> None:
    command = environment / "bin" / "geosearch"
    first = _run(command, "db", "migrate", "--json", cwd=tmp_path, GEOSEARCH_DATABASE_URL=empty_database_url)
    assert first.returncode == 0, first.stderr
    done = json.loads(first.stdout)["done"]
    assert {f"installed sql/{file.name}" for file in (ROOT / "sql").glob("*.sql")} <= set(done)
    again = _run(command, "db", "migrate", "--json", cwd=tmp_path, GEOSEARCH_DATABASE_URL=empty_database_url)
    assert json.loads(again.stdout) == {"done": []}


def test_its_commands_start(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "geosearch"
    assert _run(command, "--help", cwd=tmp_path).returncode == 0
    status = _run(command, "db", "status", "--json", cwd=tmp_path, GEOSEARCH_HOME=str(tmp_path / "home"))
    assert json.loads(status.stdout)["state"] == "absent"


def test_its_weights_are_found(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "geosearch"
    done = _run(command, "doctor", "--json", cwd=tmp_path, GEOSEARCH_HOME=str(tmp_path / "home"))
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["weights"]["state"] == "ok", checks["weights"]
