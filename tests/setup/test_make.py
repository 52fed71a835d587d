"""The Makefile and its scripts: what they promise, what they say where they may not install, what they leave alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def scripts() -> Iterator[Path]:
    """A copy of setup/ that every user can read, beside stand-ins for programs: sudo refuses, psql does not exist."""
    folder = Path(tempfile.mkdtemp(prefix="gs-setup-"))
    folder.chmod(0o755)
    shutil.copytree(ROOT / "setup", folder / "setup")
    (folder / "bin").mkdir()
    _program(folder / "bin" / "sudo", "exit 1")
    yield folder
    shutil.rmtree(folder)


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _as_user(scripts: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run as an ordinary user, also when the tests run as root: nothing may be installed by a test."""
    drop = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    path = f"{scripts / 'bin'}:/usr/bin:/bin"
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        argv,
        cwd=scripts,
        env={"PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **drop,
    )


@pytest.mark.parametrize("script", ["setup/system.sh", "setup/environment.sh", "setup/find-python.sh", ".ci/run"])
def test_scripts_are_sh_and_can_be_run(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", path], check=False).returncode == 0


def test_missing_server_is_named_with_the_line_that_installs_it(scripts: Path) -> None:
    done = _as_user(scripts, "setup/system.sh", "server", GEOSEARCH_SERVER_BIN="/nonexistent")
    assert done.returncode == 1
    assert "PostgreSQL 15 to 18 with PostGIS and pgvector" in done.stderr
    assert re.search(r"setup/system\.sh|apt-get install|dnf install|brew install|from PGDG", done.stderr)
    assert "docker compose run --rm migrate" in done.stderr
    assert "Python" not in done.stderr  # what is there is not complained about


def test_nothing_missing_says_nothing(scripts: Path) -> None:
    done = _as_user(scripts, "setup/system.sh", "server", GEOSEARCH_DATABASE_URL="postgresql://elsewhere/x")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


@pytest.mark.parametrize(
    ("extensions", "version", "complete"),
    [
        (("postgis", "vector"), "PostgreSQL 16.3", True),
        (("postgis",), "PostgreSQL 16.3", False),
        (("postgis", "vector"), "PostgreSQL 14.9", False),
    ],
)
def test_server_counts_when_it_is_complete(
    scripts: Path, extensions: tuple[str, ...], version: str, complete: bool
) -> None:
    folder, share = scripts / "pg", scripts / "share"
    folder.mkdir()
    (share / "extension").mkdir(parents=True)
    for name in ("initdb", "pg_ctl"):
        _program(folder / name, "exit 0")
    _program(folder / "pg_config", f'[ "$1" = --version ] && echo "{version}" || echo {share}')
    for name in extensions:
        (share / "extension" / f"{name}.control").touch()
    done = _as_user(scripts, "setup/system.sh", "server", GEOSEARCH_SERVER_BIN=str(folder))
    assert (done.returncode == 0) is complete


def test_python_that_cannot_make_environments_is_passed_over(scripts: Path) -> None:
    # Debian's python3 without python3-venv, and a version manager's shim that leads nowhere, both fail like this.
    for name in ("python3", "python3.13", "python3.12"):
        _program(scripts / "bin" / name, "exit 1")
    _program(scripts / "bin" / "python3.11", "exit 0")
    done = _as_user(scripts, "setup/find-python.sh")
    assert done.stdout.strip() == str(scripts / "bin" / "python3.11")


def test_named_python_comes_first(scripts: Path) -> None:
    _program(scripts / "bin" / "mine", "exit 0")
    assert _as_user(scripts, "setup/find-python.sh", PYTHON="mine").stdout.strip() == str(scripts / "bin" / "mine")


def _make(*argv: str) -> str:
    """Run make as a person would: not as a part of the make that runs these tests."""
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    done = subprocess.run(["make", *argv], cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    return done.stdout


@MAKE
def test_help_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    shown = _make("help")
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets is not None
    for target in targets[1].split():
        assert f"make {target} " in shown


@MAKE
def test_a_second_run_starts_at_once(tmp_path: Path) -> None:
    """With stamps newer than what they depend on, `make demo` is the demo and nothing else."""
    stamps = tmp_path / ".stamps"
    stamps.mkdir()
    (stamps / "checkout").write_text(f"{ROOT}\n")
    for name in ("system", "gdal", "environment"):
        (stamps / name).touch()
    planned = _make("-n", f"VENV={tmp_path}", "DEMO_OPTIONS=", "demo")
    lines = planned.splitlines()
    assert [line for line in lines if not line.startswith(f"{tmp_path}/bin/geosearch")] == []
    assert lines


@MAKE
def test_environment_of_another_checkout_is_pointed_here(tmp_path: Path) -> None:
    stamps = tmp_path / ".stamps"
    stamps.mkdir()
    (stamps / "checkout").write_text("/somewhere/else\n")
    for name in ("system", "gdal", "environment"):
        (stamps / name).touch()
    planned = _make("-n", f"VENV={tmp_path}", "lint")
    assert f"setup/environment.sh {tmp_path}" in planned
    assert "setup/system.sh" not in planned  # the machine's packages are the same


def test_ci_runs_make_test() -> None:
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()


def _pins() -> dict[str, str]:
    lines = (ROOT / "setup" / "constraints.txt").read_text().splitlines()
    pins = (re.fullmatch(r"([A-Za-z0-9._-]+)={2,3}(\S+)", line) for line in lines if line and line[0] != "#")
    return {_plain(pin[1]): pin[2] for pin in pins if pin}


class TestConstraints:
    def test_every_direct_dependency_is_pinned(self) -> None:
        import tomllib

        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"], *(w for ws in project["optional-dependencies"].values() for w in ws)]
        names = {re.match(r"[A-Za-z0-9._-]+", w)[0] for w in wanted} - {"geosearch"}  # type: ignore[index]
        assert {_plain(name) for name in names} - set(_pins()) == set()

    def test_pins_are_within_the_bounds_of_the_project(self) -> None:
        from packaging.requirements import Requirement

        pins = _pins()
        for text in metadata.requires("geosearch") or ():
            requirement = Requirement(text)
            if (pin := pins.get(_plain(requirement.name))) is not None:
                assert pin in requirement.specifier, text

    def test_a_cpu_only_build_of_torch_is_shut_out(self) -> None:
        """`==2.14.0` would let 2.14.0+cpu in; `===` compares the letters."""
        from packaging.specifiers import SpecifierSet

        text = (ROOT / "setup" / "constraints.txt").read_text()
        for name in ("torch", "torchvision"):
            pin = re.search(rf"^{name}(===\S+)$", text, re.MULTILINE)
            assert pin is not None
            assert not SpecifierSet(pin[1]).contains(f"{_pins()[name]}+cpu")
            assert SpecifierSet(pin[1]).contains(_pins()[name])

    def test_no_index_is_named(self) -> None:
        for name in ("setup/constraints.txt", "setup/environment.sh", "Makefile", "pyproject.toml"):
            assert not re.search(r"index-url|find-links|https?://\S*(simple|whl)", (ROOT / name).read_text()), name


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_lowest_python_of_the_project_is_the_one_the_scripts_look_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11"' in text
    assert "(3, 11) <= sys.version_info" in (ROOT / "setup" / "find-python.sh").read_text()
    assert sys.version_info >= (3, 11)
