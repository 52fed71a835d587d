"""`geosearch search` as it is called: options, exit status, one JSON document."""

import json

import pytest
from geosearch_cli.main import app
from typer.testing import CliRunner


@pytest.fixture
def run(filled, database_url, monkeypatch):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)

    def call(*arguments):
        return CliRunner().invoke(app, ["search", *map(str, arguments)])

    return call


@pytest.mark.parametrize("near", [["--near", "-3,-60"], ["--near=-3,-60"], ["--near", " -3, -60"]])
def test_negative_places_can_be_written_either_way(run, near):
    result = run("--like", "atlas/south", *near, "--radius-km", 500, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [r["name"] for r in document["results"]] == ["south"]
    assert document["results"][0]["distance_m"] == 0


def test_text_output_is_a_table(run):
    result = run("--like", "atlas/south", "-k", 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["rank", "similarity", "km", "lat", "lon", "archive", "name"]
    assert len(lines) == 3
    assert "2 of 6 candidates" in result.stderr


def test_html_is_written_beside_the_answer(run, tmp_path):
    page = tmp_path / "new" / "page.html"
    result = run("--like", "atlas/south", "--html", page, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert page.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--text", "a", "--like", "b"],
        ["--like", "south", "--radius-km", "10"],
        ["--like", "south", "--near", "here"],
        ["--like", "south", "--near", "-95,0"],
        ["--like", "south", "--near", "0,0", "--radius-km", "-1"],
        ["--like", "south", "-k", "0"],
        ["--like", "south", "--strategy", "fastest"],
        ["--image", "/no/such/file.jpg"],
        ["--vector", "1,2"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_from_failure(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "rror" in result.stderr
    assert result.stdout == ""


def test_a_failure_is_one_line_on_standard_error(run):
    result = run("--like", "east", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no image is named 'east'" in result.stderr
