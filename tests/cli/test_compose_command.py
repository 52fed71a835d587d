"""`geosearch compose` as it is called: options, exit status, one JSON document, tables, pages."""

import json

import pytest
from composed_space import write_composed_space
from geosearch_cli.main import app
from typer.testing import CliRunner

LATE = "geosearch space moments tiny"


@pytest.fixture
def filled(conn, database_url, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)  # before anything reads settings
    return write_composed_space(conn, tmp_path)


@pytest.fixture
def run(filled):
    def call(*arguments):
        return CliRunner().invoke(app, ["compose", *map(str, arguments)])

    return call


def test_a_table_of_answers_with_each_parts_share_of_them(run, filled):
    result = run("--image", filled.pictures[0], "--text", "desert", "--without", "clouds", "--lambda", 0.4, "-k", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "rank", "score", "cos1", "z1", "cos2", "z2", "cos3", "z3", "km", "lat", "lon", "archive", "name"
    ]  # fmt: skip
    assert len(lines) == 4
    assert "part 1: image '0.png', weight +0.600" in result.stderr
    assert "part 3: without 'clouds', weight -0.200" in result.stderr
    assert "lambda 0.4\n" in result.stderr
    assert "3 of 60 candidates, space tiny, method weicom, population space" in result.stderr


def test_the_default_lambda_is_stated(run, filled):
    result = run("--image", filled.pictures[0], "--text", "desert", "-k", 1)
    assert result.exit_code == 0, result.output
    assert "the default of the space's model" in result.stderr
    document = json.loads(run("--image", filled.pictures[0], "--text", "desert", "--json").stdout)
    assert document["lambda"] == document["default_lambda"]
    assert document["lambda_given"] is False
    assert f"lambda {document['lambda']:g}, the default" in result.stderr
    # Where there is nothing to share out, none is spoken of.
    assert "lambda" not in run("--text", "desert", "-k", 1).stderr


def test_one_json_document_with_all_options(run, filled):
    result = run(
        "--image", filled.pictures[0], "--image", filled.pictures[1], "--like", "even/4", "--text", "desert",
        "--text", "sea", "--without", "clouds", "--weights", "2,1,1,1,1,0.5", "--near", "46,9", "--radius-km", 100,
        "--from", "2024-06-01", "--to", "2024-07-01", "--property", "roll=0", "--archive", "even", "--space", "tiny",
        "--population", "candidates", "--strategy", "exact", "--late", "refuse", "-k", 2, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [part["kind"] for part in document["parts"]] == ["image", "image", "like", "text", "text", "without"]
    assert [part["weight"] * 6.5 for part in document["parts"]] == pytest.approx([2, 1, 1, 1, 1, -0.5])
    assert document["lambda"] is None
    # Even, divisible by three, of June: 0, 6, 12, 18, 24.
    assert document["plan"]["candidates"] == 5
    assert all(int(answer["name"]) % 6 == 0 for answer in document["results"])
    assert document["plan"]["population"] == "candidates"


def test_late_moments_are_told_once_or_refused(run, filled):
    asked = ["--image", filled.pictures[0], "--text", "desert"]
    for how in (["--json"], ["--sweep"], ["--sweep", "--json"], []):
        result = run(*asked, *how)
        assert result.exit_code == 0, result.output
        assert result.stderr.count(LATE) == 1
    result = run(*asked, "--late", "refuse", "--json")
    assert result.exit_code == 1
    assert LATE in result.stderr
    assert result.stdout == ""


def test_a_page_is_written_beside_the_answer(run, filled, tmp_path):
    page = tmp_path / "new" / "page.html"
    result = run("--image", filled.pictures[0], "--text", "desert", "--html", page, "--json")
    assert result.exit_code == 0, result.output
    json.loads(result.stdout)
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert f"written: {page}" in result.stderr


def test_a_sweep_shows_eleven_lambdas_side_by_side(run, filled, tmp_path):
    page = tmp_path / "sweep.html"
    asked = ["--image", filled.pictures[0], "--text", "desert", "-k", 4, "--sweep"]
    result = run(*asked, "--html", page)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["rank", "0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1"]
    assert [line[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert all(len(line) == 12 for line in lines)
    document = json.loads(run(*asked, "--json").stdout)
    assert document["lambdas"] == pytest.approx([step / 10 for step in range(11)])
    columns = [[answer["name"] for answer in ranking["results"]] for ranking in document["rankings"]]
    for number, column in enumerate(columns):
        new = [number > 0 and name not in columns[number - 1] for name in column]
        assert [line[number + 1] for line in lines[1:]] == [
            f"{'+' if mark else ''}{name}" for mark, name in zip(new, column, strict=True)
        ]
    assert any("+" in cell for line in lines for cell in line)
    assert page.read_text("utf-8").count("<section>") == 11


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--text", ""],
        ["--image", "/no/such/file.jpg", "--text", "a"],
        ["--text", "a", "--like", "4", "--lambda", "1.5"],
        ["--text", "a", "--like", "4", "--lambda", "-0.1"],
        ["--text", "a", "--like", "4", "--lambda", "nan"],
        ["--text", "a", "--like", "4", "--lambda", "half"],
        ["--text", "a", "--like", "4", "--weights", "1"],
        ["--text", "a", "--like", "4", "--weights", "1,x"],
        ["--text", "a", "--like", "4", "--weights", "1,-1"],
        ["--text", "a", "--like", "4", "--weights", "1,1", "--lambda", "0.5"],
        ["--text", "a", "--method", "image"],
        ["--text", "a", "--method", "median"],
        ["--text", "a", "--population", "all"],
        ["--text", "a", "--strategy", "hnsw"],
        ["--text", "a", "--late", "never"],
        ["--text", "a", "--radius-km", "10"],
        ["--text", "a", "--near", "here"],
        ["--text", "a", "--property", "roll"],
        ["--text", "a", "-k", "0"],
        ["--text", "a", "--sweep"],
        ["--text", "a", "--like", "4", "--sweep", "--lambda", "0.5"],
        ["--text", "a", "--like", "4", "--sweep", "--weights", "1,1"],
        ["--text", "a", "--vector", "1,2"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_from_failure(monkeypatch, arguments):
    # No server is there: what is wrong is told before anything is connected to.
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    result = CliRunner().invoke(app, ["compose", *arguments])
    assert result.exit_code == 2, result.output
    assert "rror" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--like", "east", "--text", "a"], "no image is named 'east'"),
        (["--text", "a", "--archive", "atlantis"], "atlantis"),
        (["--text", "a", "--space", "nowhere"], "no space is named 'nowhere'"),
        (["--text", "a", "--strategy", "fast"], "geosearch space index tiny"),
    ],
)
def test_a_failure_is_one_line_on_standard_error(run, arguments, message):
    result = run(*arguments, "--json")
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert message in result.stderr
