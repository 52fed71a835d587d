"""The frame of the command line: start-up, exit statuses, messages, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from geosearch_cli import common, main
from geosearch_cli.main import Groups, app
from typer.testing import CliRunner

from geosearch.errors import InputError

HEAVY = {
    "torch", "torchvision", "open_clip", "timm", "faiss", "transformers", "rasterio", "pyogrio", "pyarrow", "shapely",
    "sqlalchemy", "alembic", "scipy", "PIL",
}  # fmt: skip


def _run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from geosearch_cli.main import main; main()", *argv]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120, check=False
    )


@pytest.mark.parametrize(
    "program",
    [
        "import geosearch",
        "import sys; sys.argv = ['geosearch', '--help']; from geosearch_cli.main import main; main()",
        "import sys; sys.argv = ['geosearch', 'search', '--help']; from geosearch_cli.main import main; main()",
        "import sys; sys.argv = ['geosearch', 'db', 'status']; from geosearch_cli.main import main; main()",
    ],
    ids=["import geosearch", "geosearch --help", "geosearch search --help", "geosearch db status"],
)
def test_nothing_heavy_is_imported(program: str) -> None:
    """What takes the time is counted, not the time: a busy machine must not fail this."""
    watch = f"import atexit, sys; atexit.register(lambda: print('HEAVY', sorted({HEAVY!r} & set(sys.modules))))\n"
    done = subprocess.run(
        [sys.executable, "-c", watch + program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_help_names_the_groups_in_the_order_of_the_work() -> None:
    done = _run("--help", COLUMNS="200", TERM="dumb")
    at = [done.stdout.index(f"{group} ") for group in ("db", "catalog", "embed", "doctor")]
    assert at == sorted(at)


def test_version() -> None:
    from geosearch import __version__

    assert _run("--version").stdout == f"geosearch {__version__}\n"


@pytest.mark.parametrize("argv", [["nonsense"], ["db", "nonsense"], ["db", "url", "--format", "x"], ["--nonsense"]])
def test_wrong_usage_ends_with_2(argv: list[str]) -> None:
    done = _run(*argv)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "nonsense" in done.stderr or "'x'" in done.stderr


def test_wrong_setting_is_a_message_and_not_a_traceback() -> None:
    done = _run("db", "status", GEOSEARCH_BATCH_SIZE="many")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: a setting is wrong: batch_size: ")
    assert "Traceback" not in done.stderr


def test_unreachable_server_is_a_message(tmp_path: Path) -> None:
    done = _run("db", "migrate", GEOSEARCH_DATABASE_URL=f"postgresql:///x?host={tmp_path}")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def test_address_that_is_none() -> None:
    done = _run("db", "url", GEOSEARCH_DATABASE_URL="host=x port")
    assert done.returncode == 1
    assert "is not an address of PostgreSQL" in done.stderr


class TestErrors:
    """A small application with the same group class, whose command raises what it is told to."""

    @pytest.fixture
    def invoke(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        def build(error: Exception) -> Any:
            small = typer.Typer(cls=Groups, pretty_exceptions_enable=False)

            @small.callback()
            def root() -> None:
                """Root."""

            def boom() -> None:
                raise error

            module = type(sys)("boom")
            module.boom = boom  # type: ignore[attr-defined]
            monkeypatch.setattr(main, "GROUPS", ("boom",))
            monkeypatch.setattr(main, "import_module", lambda *_: module)
            return CliRunner().invoke(small, ["boom"])

        return build

    def test_known_error_is_its_message_with_status_1(self, invoke: Any) -> None:
        result = invoke(InputError("row 3 is empty. Fill it."))
        assert result.exit_code == 1
        assert result.stderr == "error: row 3 is empty. Fill it.\n"
        assert result.stdout == ""

    def test_database_error_is_its_message(self, invoke: Any) -> None:
        result = invoke(psycopg.errors.DiskFull("could not extend file"))
        assert result.exit_code == 1
        assert result.stderr == "error: the database answered: could not extend file\n"

    def test_file_that_cannot_be_used_is_named(self, invoke: Any) -> None:
        result = invoke(PermissionError(13, "Permission denied", "/some/file"))
        assert result.exit_code == 1
        assert result.stderr == "error: /some/file: Permission denied\n"

    def test_defect_keeps_its_traceback(self, invoke: Any) -> None:
        result = invoke(ZeroDivisionError("a defect"))
        assert isinstance(result.exception, ZeroDivisionError)


@dataclass
class Facts:
    name: str
    path: Path
    count: int | None = None


class TestEmit:
    def test_json_is_one_document_of_plain_values(self, capsys: pytest.CaptureFixture[str]) -> None:
        import datetime

        import numpy as np

        data = {"a": Facts("é", Path("/x")), "b": np.float32(0.5), "c": np.arange(2), "d": {"y", "x"}, "e": b"\x01"}
        common.emit({**data, "f": datetime.date(2026, 1, 2)}, json=True)
        assert json.loads(capsys.readouterr().out) == {
            "a": {"name": "é", "path": "/x", "count": None},
            "b": 0.5,
            "c": [0, 1],
            "d": ["x", "y"],
            "e": "01",
            "f": "2026-01-02",
        }

    def test_table_has_aligned_columns(self, capsys: pytest.CaptureFixture[str]) -> None:
        common.emit([Facts("long name", Path("/x"), 1), Facts("b", Path("/y"))])
        assert capsys.readouterr().out == "name       path  count\nlong name  /x    1\nb          /y    –\n"

    def test_nothing_to_list_leaves_standard_output_empty(self, capsys: pytest.CaptureFixture[str]) -> None:
        common.emit([])
        assert capsys.readouterr().out == ""
        common.emit([], json=True)
        assert capsys.readouterr().out == "[]\n"


def test_entry_point_is_the_application() -> None:
    assert isinstance(typer.main.get_command(app), Groups)


def test_ctrl_c_is_status_130_and_said() -> None:
    interrupted = typer.Typer(cls=Groups)

    @interrupted.callback(invoke_without_command=True)
    def stop() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(interrupted, [])
    assert (done.exit_code, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_sigterm_ends_a_command_in_order() -> None:
    program = """
import signal, time
from geosearch_cli import main
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("tidied", flush=True)
main.app = wait
main.main()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.read() == "tidied\n"
        assert process.wait(60) == 143


@pytest.mark.parametrize("state", ["42501", "25006"])
def test_a_login_without_the_right_is_told_what_to_do(state: str) -> None:
    error = psycopg.errors.lookup(state)("permission denied for function build_bank")
    message = common.known_failure(error) or ""
    assert message.startswith("the database answered: permission denied for function build_bank\n")
    assert "GEOSEARCH_DATABASE_URL" in message
    assert "geosearch_admin" in message


def test_facts_within_facts_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    common.emit({"seconds": {"read": 0.0041451, "total": 12.0}, "of": {"a": {"b": None}, "c": []}, "none": {}})
    assert capsys.readouterr().out.splitlines() == [
        "seconds: read 0.004145, total 12", "of:      a (b –), c –", "none:    –",
    ]  # fmt: skip
