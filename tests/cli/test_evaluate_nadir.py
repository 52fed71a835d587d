"""`geosearch evaluate nadir`: figures, files and answers of a small case, and what is refused before any work."""

import csv
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from geosearch_cli.main import app
from nadir_case import Case, write_case
from typer.testing import CliRunner

from geosearch.encoders import registry


def _run(*options: Any) -> Any:
    return CliRunner().invoke(app, ["evaluate", "nadir", "--photos", "photos", "--tiles", "tiles", *map(str, options)])


@pytest.fixture
def case(conn: psycopg.Connection[Any], database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    made = write_case(conn, tmp_path)
    conn.commit()
    monkeypatch.setattr(registry, "load", lambda *_: made.encoder)
    return made


def test_figures_files_and_answers(case: Case) -> None:
    folder = case.folder
    options = ["--cache", folder / "kept", "--draws", 100]
    result = _run(*options, "--out", folder / "all.csv", "--write-answers", folder / "answers")
    assert result.exit_code == 0, result.output
    assert "photographs: 6; without footprint: 1; without vector: 1" in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[3] for line in lines[1:7]] == ["chance", "image", "filter", "concat", "concat+filter", "unknown"]
    assert lines[2][4] == "66.7"
    with (folder / "all.csv").open(newline="") as file:
        assert next(row for row in csv.DictReader(file) if row["way"] == "concat")["R@5"] == "100.0"
    judged = _run("--answers", folder / "answers" / "image.csv", "--json", "--draws", 100)
    assert judged.exit_code == 0, judged.output
    rows = json.loads(judged.stdout)["rows"]
    assert next(row for row in rows if row["way"] == "image")["R@1"] == 50  # "gone" has a footprint, and no answer
    assert list((folder / "kept").glob("compass-*.npy"))


def test_rotations_and_chosen_ways(case: Case) -> None:
    options = ["--cache", case.folder / "kept", "--draws", 100, "--json", "--way", "image", "--rotations", "used"]
    result = _run(*options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["rotations"] == "used"
    assert [row["way"] for row in report["rows"][:2]] == ["chance", "image"]
    assert (report["rows"][1]["R@5"], report["rows"][1]["R@10"]) == (
        66.67,
        100,
    )  # the tile is ninth


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "m", "--space", "s"], "give one of --model, --space and --answers"),
        (["--way", "sideways"], "there is no way 'sideways'"),
        (["--prior", "p.json", "--fit-prior", "a"], "give --prior"),
        (["--save-prior", "p.json"], "give that too"),
        (["--answers", "a.csv", "--way", "image"], "judges files as they are"),
        (["--space", "s", "--rotations", "shared"], "holds no turned pictures"),
    ],
)
def test_options_that_contradict_each_other(options: list[str], says: str) -> None:
    result = _run(*options)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_file_that_could_not_be_written_is_refused_at_once(case: Case) -> None:
    result = _run("--out", case.folder / "nowhere" / "all.csv")
    assert result.exit_code == 1
    assert case.encoder.encoded == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"nothing", "no place for a table"),
        (b"<!-- table: real -->\n<!-- end -->\n", "places for real"),
        (b"\xff", "cannot be read as text"),
    ],
)
def test_a_document_that_cannot_be_filled_is_told_before_an_hour_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, says: str
) -> None:
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", "postgresql:///?host=/nowhere")  # not even asked
    document = tmp_path / "a.md"
    document.write_bytes(text)
    refused = CliRunner().invoke(app, ["evaluate", "nadir-earth", "--document", str(document)])
    assert refused.exit_code == 1
    assert says in refused.stderr
    assert document.read_bytes() == text
