"""docker-compose.yml against the Compose schema and against what geosearch really has: no engine is needed.

compose_spec.json is the schema of the Compose specification as Docker Compose 1.29.2 carries it (Apache-2.0).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from database_urls import replace_in_url
from geosearch_cli.main import app
from typer.testing import CliRunner

from geosearch.settings import settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json.loads(Path(__file__).with_name("compose_spec.json").read_text(encoding="utf-8"))
    return jsonschema.Draft7Validator(schema)  # what Docker Compose itself checks this file's schema with


def test_file_has_the_shape_of_the_specification(compose: dict[str, Any], validator: Any) -> None:
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose)] == []


@pytest.mark.parametrize(
    ("service", "key", "value"),
    [("database", "shm-size", "1gb"), ("worker", "deploy", {"resources": {"reservations": {"devices": [{}, 1]}}})],
)
def test_schema_would_find_a_mistake(
    compose: dict[str, Any], validator: Any, service: str, key: str, value: object
) -> None:
    broken = {**compose, "services": {**compose["services"], service: {**compose["services"][service], key: value}}}
    assert not validator.is_valid(broken)


def test_what_services_name_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        build = service["build"]
        assert (ROOT / build["context"] / build["dockerfile"]).is_file(), name
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert source.startswith(".") or source in compose["volumes"]


def test_images_copy_only_what_is_there_and_not_ignored() -> None:
    allowed = [
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    missing = [path for path in allowed if not (ROOT / path).exists()]
    assert set(missing) <= {"README.md"}
    for dockerfile in (ROOT / "docker").glob("*.Dockerfile"):
        for source in re.findall(r"^COPY (\S+) ", dockerfile.read_text(encoding="utf-8"), re.MULTILINE):
            assert source == "." or source in allowed


def test_commands_of_the_services_exist(compose: dict[str, Any]) -> None:
    """Each service that runs geosearch: its words are commands, and its options are options of the last of them."""
    for name in ("migrate", "worker"):
        command: Any = typer.main.get_command(app)
        words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in compose["services"][name]["command"]]
        while words and hasattr(command, "get_command") and not words[0].startswith("-"):
            command = command.get_command(None, words.pop(0))
            assert command is not None, name
        assert name != "worker" or command.name == "worker"  # what answers questions, as the README says
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


def test_worker_reserves_a_gpu_and_waits_for_the_schema(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    devices = worker["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert worker["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert compose["services"]["migrate"]["depends_on"] == {"database": {"condition": "service_healthy"}}


def test_database_is_reachable_from_this_machine_only(compose: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["database"]["ports"])


def test_image_refuses_a_pgvector_with_the_hole() -> None:
    text = (ROOT / "docker" / "database.Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"dpkg --compare-versions .*postgresql-17-pgvector.* ge 0\.8\.2", text)
    from geosearch.database.server_programs import SAFE_PGVECTOR

    assert SAFE_PGVECTOR == (0, 8, 2)


def test_init_script_makes_a_database_that_migrates(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real script against a real server, with psql as the image's entry point calls it."""
    import uuid

    import psycopg
    from psycopg import sql

    from geosearch.database.links import find_psql

    # Roles belong to the whole server, where they may be already; the database gets a name of its own.
    name = f"gscompose_{uuid.uuid4().hex[:12]}"
    script = (ROOT / "docker" / "init-database.sh").read_text(encoding="utf-8")
    with psycopg.connect(server, autocommit=True) as conn:
        known = {row[0] for row in conn.execute("select rolname from pg_roles")}
        kept = [
            line
            for line in script.splitlines()
            if not ((role := re.match(r"create role (\w+)", line)) and role[1] in known)
        ]
    text = "\n".join(kept).replace("create database geosearch", f"create database {name}")
    text = text.replace("\\connect geosearch", f"\\connect {name}")
    (tmp_path / "init.sh").write_text(
        text.replace('--username "$POSTGRES_USER" --dbname postgres', '--dbname "$SERVER"')
    )
    path = f"{find_psql().parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GEOSEARCH_PASSWORD": "it's secret", "SERVER": server}
    try:
        done = subprocess.run(
            ["sh", tmp_path / "init.sh"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        url = replace_in_url(server, database=name, user="geosearch", password="it's secret")
        monkeypatch.setenv("GEOSEARCH_DATABASE_URL", url)
        settings.cache_clear()
        result = CliRunner().invoke(app, ["db", "migrate", "--json"])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["done"]
        again = CliRunner().invoke(app, ["db", "migrate", "--json"])
        assert json.loads(again.stdout) == {"done": []}
    finally:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
