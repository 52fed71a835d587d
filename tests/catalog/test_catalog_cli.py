"""`geosearch catalog` and `geosearch archive`: output, exit codes, nothing removed unasked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from catalog_helpers import ISS_HEADER, iss_row
from geosearch_cli.catalog import ReaderName
from geosearch_cli.main import app
from typer.testing import CliRunner, Result

from geosearch.catalog.readers import READERS

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


def test_add_list_show_rejects_remove(run: Run, write_csv: Callable[..., Path]) -> None:
    path = write_csv(ISS_HEADER, [iss_row(1), iss_row(2, LL_LAT="x"), iss_row(3, NADIR_LAT=-80)])
    added = run("catalog", "add", path, "--archive", "a", "--licence", "CC0-1.0", "--json")
    assert added.exit_code == 3  # done, with rejects
    facts = json.loads(added.stdout)
    assert {k: facts[k] for k in ("reader", "rows", "added", "updated", "unchanged", "rejected", "flagged")} == {
        "reader": "iss", "rows": 3, "added": 2, "updated": 0, "unchanged": 0, "rejected": 1, "flagged": 1
    }  # fmt: skip
    assert "recognised" in added.stderr and "catalog rejects --archive a" in added.stderr

    rejects = run("catalog", "rejects", "--archive", "a", "--json")
    assert rejects.exit_code == 0
    assert [(r["line"], r["name"], r["stage"]) for r in json.loads(rejects.stdout)] == [(3, "ISS001-E-2", "catalog")]
    assert "not a number" in run("catalog", "rejects").stdout

    assert [a["images"] for a in json.loads(run("archive", "list", "--json").stdout)] == [2]
    shown = json.loads(run("archive", "show", "a", "--json").stdout)
    assert (shown["licence"], shown["flagged"], shown["rejected"]) == ("CC0-1.0", 1, 1)

    dry = run("archive", "remove", "a", "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"archive": "a", "images": 2, "rejects": 1, "removed": False}
    unasked = run("archive", "remove", "a")
    assert unasked.exit_code == 1 and "--yes" in unasked.stderr
    assert len(json.loads(run("archive", "list", "--json").stdout)) == 1
    assert json.loads(run("archive", "remove", "a", "--yes", "--json").stdout)["removed"] is True
    assert json.loads(run("archive", "list", "--json").stdout) == []
    gone = run("archive", "show", "a")
    assert gone.exit_code == 1 and "no archive is named 'a'" in gone.stderr


def test_columns_by_option(run: Run, write_csv: Callable[..., Path]) -> None:
    path = write_csv(["breite", "laenge", "datei"], [[46, 200, "a.jpg"]])
    options = ["--column", "lat=breite", "--column", "lon=laenge", "--column", "name=datei", "--longitudes", 360]
    done = run("catalog", "add", path, "--archive", "a", *options, "--reach-km", 0)
    assert done.exit_code == 0, done.stderr
    assert "added:     1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--column", "name"], 2, "PART=COLUMN"),
        (["--reader", "magic"], 2, "magic"),
        (["--reader", "geotiff", "--layer", "x"], 1, "takes no option layer"),
        (["--column", "name=none"], 1, "has no column none"),
        (["--longitudes", "90"], 2, "90"),
    ],
)
def test_wrong_usage(run: Run, write_csv: Callable[..., Path], arguments: list[str], code: int, message: str) -> None:
    result = run("catalog", "add", write_csv(["name", "lat", "lon"], [["a", 1, 2]]), "--archive", "a", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_a_source_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("catalog", "add", tmp_path / "nothing", "--archive", "a")
    assert result.exit_code == 1
    assert "does not exist" in result.stderr


def test_readers_are_listed_and_offered(run: Run) -> None:
    listed = json.loads(run("catalog", "readers", "--json").stdout)
    assert [reader["name"] for reader in listed] == list(READERS)
    assert {name.value for name in ReaderName} == set(READERS)
