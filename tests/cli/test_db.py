"""`geosearch db` and `geosearch doctor` on a private cluster, and the addresses they print given to real programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from geosearch_cli.main import app
from typer.testing import CliRunner, Result

from geosearch import doctor as doctor_module
from geosearch.database import links, server
from geosearch.database.server_programs import Programs
from geosearch.encoders.spec import shipped
from geosearch.errors import InputError
from geosearch.settings import settings

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="gs-db-"))
    home.chmod(0o755)
    yield home
    server.stop(home)
    shutil.rmtree(home)


@pytest.fixture
def home(module_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEOSEARCH_HOME", str(module_home))
    settings.cache_clear()
    return module_home


@pytest.fixture
def run() -> Run:
    def invoke(*argv: str) -> Result:
        settings.cache_clear()
        return CliRunner().invoke(app, argv)

    return invoke


class TestPrivateCluster:
    """One after the other, as a user would."""

    def test_status_before_anything(self, run: Run, home: Path) -> None:
        result = run("db", "status", "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["state"] == "absent"

    def test_start_makes_and_migrates(self, run: Run, home: Path) -> None:
        result = run("db", "start", "--json")
        assert result.exit_code == 0, result.stderr
        facts = json.loads(result.stdout)
        assert (facts["state"], facts["schema"], facts["images"]) == ("running", "current", 0)

    def test_migrate_again_has_nothing_to_do(self, run: Run, home: Path) -> None:
        assert json.loads(run("db", "migrate", "--json").stdout) == {"done": []}
        assert "nothing to do" in run("db", "migrate").stdout

    @pytest.mark.parametrize("written_for", ["url", "libpq"])
    def test_psql_connects_with_what_url_prints(self, run: Run, home: Path, written_for: str) -> None:
        address = run("db", "url", "--format", written_for).stdout.strip()
        argv = [str(links.find_psql()), "-XAt", address, "-c", "select count(*) from geosearch.image"]
        assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "0\n"

    @pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="ogrinfo is not installed (gdal-bin)")
    def test_gdal_opens_what_url_prints(self, run: Run, home: Path) -> None:
        address = run("db", "url", "--format", "gdal").stdout.strip()
        argv = ["ogrinfo", "-ro", "-so", address]
        clean = {k: v for k, v in os.environ.items() if k not in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA")}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=clean)
        assert done.returncode == 0, done.stderr
        assert "image_map" in done.stdout
        assert "space_" not in done.stdout
        assert "spatial_ref_sys" not in done.stdout

    def test_qgis_gets_its_fields(self, run: Run, home: Path) -> None:
        lines = dict(line.split(": ", 1) for line in run("db", "url", "--format", "qgis").stdout.splitlines())
        assert lines["Host"] == str(home / "postgres" / "run")
        assert (lines["Database"], lines["User name"], lines["Port"]) == ("geosearch", "geosearch", "5432")

    def test_psql_takes_what_follows(self, home: Path) -> None:
        argv = [sys.executable, "-c", "from geosearch_cli.main import main; main()", "db", "psql", "-XAt"]
        done = subprocess.run([*argv, "-c", "select current_user"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "geosearch\n"), done.stderr

    def test_doctor_knows_all_of_it(self, run: Run, home: Path) -> None:
        result = run("doctor", "--json")
        checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
        for name in ("settings", "disk", "data folder", "postgresql programs", "server", "postgis", "schema"):
            assert checks[name]["state"] in ("ok", "warn"), checks[name]
        assert checks["permissions"]["state"] == "ok"
        assert {"vector", "torch", "weights"} <= set(checks)
        assert result.exit_code == (0 if json.loads(result.stdout)["ok"] else 1)

    def test_doctor_warns_of_a_schema_that_is_open_to_all(self, run: Run, home: Path) -> None:
        assert "open schema" not in run("doctor").stdout
        with psycopg.connect(server.admin_url(home), dbname="geosearch", autocommit=True) as conn:
            conn.execute("grant create on schema public to public")
            lines = run("doctor").stdout.splitlines()
            conn.execute("revoke create on schema public from public")
        (at,) = (i for i, line in enumerate(lines) if line.startswith("warn  open schema: everyone"))
        assert "revoke create on schema public from public;" in lines[at + 1]

    def test_doctor_says_what_to_create(self, run: Run, home: Path) -> None:
        with psycopg.connect(server.admin_url(home), autocommit=True) as conn:
            conn.execute("create database bare owner geosearch template template0")
        url = server.ensure_running(home).replace("/geosearch?", "/bare?")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GEOSEARCH_DATABASE_URL", url)
            result = run("doctor", "--json")
        assert result.exit_code == 1
        checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
        assert checks["vector"]["state"] == "fail"
        assert "create extension vector" in checks["vector"]["mend"]
        assert checks["schema"] == {
            "name": "schema", "state": "warn", "found": "missing (revision none)", "mend": "geosearch db migrate",
        }  # fmt: skip

    def test_stop(self, run: Run, home: Path) -> None:
        assert run("db", "stop").stdout == "stopped\n"
        assert json.loads(run("db", "stop", "--json").stdout) == {"stopped": False}
        assert json.loads(run("db", "status", "--json").stdout)["state"] == "stopped"


class TestDoctor:
    """Each finding, made to happen; every one that is not ok says how to mend it."""

    def test_nothing_set_up(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "none"))
        monkeypatch.setenv("GEOSEARCH_SERVER_BIN", str(tmp_path))
        result = run("doctor")
        assert result.exit_code == 1
        assert "fail  postgresql programs: GEOSEARCH_SERVER_BIN names" in result.stdout
        assert "Traceback" not in result.output
        assert not (tmp_path / "none").exists()
        lines = result.stdout.splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith(("fail", "warn")):
                assert following.startswith("      → "), line

    def test_wrong_setting(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEOSEARCH_BATCH_SIZE", "0")
        result = run("doctor", "--json")
        assert result.exit_code == 1
        first = json.loads(result.stdout)["checks"][0]
        assert (first["name"], first["state"]) == ("settings", "fail")
        assert "batch_size" in first["found"]

    def test_server_that_is_not_there(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEOSEARCH_DATABASE_URL", f"postgresql://me:secret@/x?host={tmp_path}")
        result = run("doctor")
        assert result.exit_code == 1
        assert "fail  server: " in result.stdout
        assert "secret" not in result.output

    def test_pgvector_with_the_hole(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from geosearch.database import doctor as database_doctor

        def old(*_: object) -> Programs:
            return Programs(tmp_path, "16.1", {"postgis": "3.4.0", "vector": "0.8.1"})

        monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "none"))
        monkeypatch.setattr(database_doctor, "choose", old)
        checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)["checks"]}
        assert checks["vector"]["state"] == "warn"
        assert "CVE-2026-3172" in checks["vector"]["found"]
        assert "0.8.2" in checks["vector"]["mend"]

    @pytest.mark.parametrize(("free", "state"), [(10, "fail"), (2 * 2**30, "warn"), (50 * 2**30, "ok")])
    def test_free_disk(self, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
        usage = shutil.disk_usage("/")._replace(free=free)
        monkeypatch.setattr(doctor_module.shutil, "disk_usage", lambda _: usage)
        (check,) = doctor_module._disk()
        assert check.state == state

    def test_gpu_that_was_asked_for_and_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setenv("GEOSEARCH_DEVICE", "cuda")
        settings.cache_clear()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        (check,) = doctor_module._gpu("2.14.0")
        assert check.state == "fail"
        assert "GEOSEARCH_DEVICE=auto" in str(check.mend)

    @pytest.mark.parametrize("broken", ["missing", "truncated"])
    @pytest.mark.parametrize("model", list(doctor_module.SHIPPED))
    def test_weights_that_cannot_be_used(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str, model: str
    ) -> None:
        for name, config in doctor_module.SHIPPED.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / config).write_text("{}")
            if name != model:
                shutil.copy(shipped(name) / "model.safetensors", tmp_path / name)
        if broken == "truncated":
            (tmp_path / model / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
        monkeypatch.setattr(doctor_module, "files", lambda _: tmp_path)
        (check,) = doctor_module._weights()
        assert check.state == "fail"
        assert model in check.found
        assert ("lacks model.safetensors" if broken == "missing" else "damaged") in check.found

    def test_check_that_breaks_does_not_hide_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken() -> Iterator[doctor_module.Check]:
            raise ZeroDivisionError("oh")
            yield

        monkeypatch.setattr(doctor_module, "_disk", broken)
        monkeypatch.setattr(doctor_module, "_torch", lambda: iter(()))
        checks = {check.name: check for check in doctor_module.examine()}
        assert (checks["disk"].state, checks["disk"].found) == ("fail", "ZeroDivisionError: oh")
        assert "weights" in checks


class TestNamedServer:
    def test_it_is_not_started_or_stopped(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEOSEARCH_DATABASE_URL", "postgresql://somewhere/x")
        for word in ("start", "stop"):
            result = run("db", word)
            assert result.exit_code == 1
            assert f"does not {word}" in result.stderr

    def test_status_and_migrate(self, run: Run, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GEOSEARCH_DATABASE_URL", empty_database_url)
        assert json.loads(run("db", "status", "--json").stdout)["schema"] == "missing"
        assert run("db", "migrate").exit_code == 0
        assert json.loads(run("db", "status", "--json").stdout)["schema"] == "current"


class TestLinks:
    URL = "postgresql://me:p%40ss%20word@example.org:5433/maps?sslmode=require&application_name=x"

    def test_libpq_words_mean_the_same_as_the_url(self) -> None:
        assert psycopg.conninfo.conninfo_to_dict(links.link(self.URL, "libpq")) == psycopg.conninfo.conninfo_to_dict(
            self.URL
        )

    def test_gdal_gets_only_words_it_knows(self) -> None:
        text = links.link(self.URL, "gdal")
        assert text.startswith("PG:")
        assert text.endswith(" schemas=geosearch")
        assert "application_name" not in text
        assert "password='p@ss word'" in text

    def test_password_is_masked(self) -> None:
        assert "p@ss" not in links.masked(self.URL)
        assert "password=***" in links.masked(self.URL)

    def test_no_address(self) -> None:
        with pytest.raises(InputError, match="is not an address of PostgreSQL"):
            links.link("nonsense", "libpq")
