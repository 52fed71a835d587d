"""Areas, times and properties through the client and the command line; files of many queries."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from geosearch_cli.main import app
from typer.testing import CliRunner

from geosearch.errors import GeosearchError, InputError, UnknownNameError
from geosearch.search.batch import read_queries
from geosearch.search.query import Query, moment

ALPS = {"type": "Polygon", "coordinates": [[[8, 43], [12, 43], [12, 47], [8, 47], [8, 43]]]}


@pytest.fixture
def dated(filled):
    """The small archive, its images a day apart from 1 June 2024 on, odd ones of one camera, even ones of another."""
    conn, ids = filled
    for n, image_id in enumerate(sorted(ids.values())):
        conn.execute(
            "update geosearch.image set captured_at = '2024-06-01T12:00Z'::timestamptz + %s * interval '1 day',"
            " properties = jsonb_build_object('camera', case when %s %% 2 = 1 then 'D5' else 'Z9' end, 'roll', %s::int)"
            " where id = %s",
            [n, n, n, image_id],
        )
    conn.commit()
    return conn, ids


def names(ranking):
    return sorted(f"{result.archive}/{result.name}" for result in ranking)


def test_an_area_takes_what_may_show_a_part_of_it(dated, client):
    """`atlas/north` overlaps it, `crew/photo` lies in it, `crew/north` is farther than its reach."""
    near = names(client.search(like="south", area=ALPS))
    assert near == ["atlas/north", "crew/photo"]
    feature = json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": ALPS}]})
    assert names(client.search(like="south", area=feature)) == near
    for west, found in (
        (-80, ["crew/north"]),
        (-70, []),
    ):
        box = [[west, 30], [west + 1, 30], [west + 1, 31], [west, 31], [west, 30]]
        assert names(client.search(like="south", area={"type": "Polygon", "coordinates": [box]})) == found


def test_a_time_begins_with_its_first_moment_and_ends_before_its_last(dated, client):
    of_days = {
        (None, "2024-06-02T12:00:00Z"): 1,
        ("2024-06-02T12:00:00Z", None): 5,
        (date(2024, 6, 2), date(2024, 6, 4)): 2,
        (datetime(2024, 6, 6, 12, tzinfo=UTC), None): 1,
        ("2024-06-02T14:00:00+02:00", "2024-06-03T12:00:00Z"): 1,
    }
    for (begin, end), count in of_days.items():
        assert len(client.search(like="south", captured_from=begin, captured_to=end)) == count, (begin, end)


def test_properties_narrow_a_search_and_are_never_run_as_sql(dated, client):
    assert len(client.search(like="south", properties={"camera": "D5"})) == 3
    assert len(client.search(like="south", properties={"camera": "D5", "roll": 3})) == 1
    assert len(client.search(like="south", properties={"roll": "3"})) == 0
    attack = client.search(like="south", properties={"camera'); drop table geosearch.image; --": "x"})
    assert attack.plan.candidates == 0
    assert client.conn.execute("select count(*) from geosearch.image").fetchone() == (6,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"area": ALPS, "near": (0, 0)},
        {"area": "{"},
        {"area": {"type": "Point", "coordinates": [1, 2]}},
        {"area": {"type": "Polygon", "coordinates": [[[1, 2]]]}},
        {"area": {"type": "Polygon", "coordinates": []}},
        {"area": {"type": "Polygon", "coordinates": [[[170, 0], [190, 0], [190, 9], [170, 0]]]}},
        {"area": {"type": "FeatureCollection", "features": []}},
        {"captured_from": "yesterday"},
        {"captured_from": "2024-02-01", "captured_to": "2024-02-01"},
        {"properties": {"a": float("nan")}},
    ],
    ids=str,
)
def test_what_narrows_nothing_is_refused(wrong):
    with pytest.raises(InputError):
        Query.of(text="a", **wrong)


def test_a_time_without_a_zone_is_meant_in_utc():
    assert moment("2024-06-30") == datetime(2024, 6, 30, tzinfo=UTC)
    assert moment("2024-06-30T12:00:00") == datetime(2024, 6, 30, 12, tzinfo=UTC)
    assert moment(date(2024, 6, 30)) == moment(datetime(2024, 6, 30))


def test_many_answers_are_those_of_one_by_one_and_a_bad_one_stops_none(filled, client):
    asked = [Query.of(like=name) for name in ("south", "east", "photo")]
    answers = list(client.search_many(asked))
    assert isinstance(answers[1], UnknownNameError)
    for query, answer in zip(asked, answers, strict=True):
        if not isinstance(answer, GeosearchError):
            assert answer.results == client.ask(query).results


@pytest.fixture
def run(dated, database_url, monkeypatch):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    return lambda *arguments: CliRunner().invoke(app, ["search", *map(str, arguments)])


def test_the_command_line_narrows_in_the_same_ways(run, tmp_path):
    area = tmp_path / "alps.geojson"
    area.write_text(json.dumps(ALPS), "utf-8")
    for options, count in (
        (["--area", area], 2),
        (["--from", "2024-06-02", "--to", "2024-06-04"], 2),
        (["--property", "camera=D5"], 3),
        (["--property", "camera=D5", "--property", "roll=3"], 1),
    ):
        result = run("--like", "south", *options, "--json")
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["results"]) == count, options


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_of_queries_is_answered_line_by_line(run, tmp_path, kind):
    file = tmp_path / f"queries.{kind}"
    if kind == "csv":
        file.write_text('id,like,near,radius_km,k\na,south,,,2\nb,photo,"45,12",100,\nc,east,,,\n', "utf-8")
    else:
        lines = [{"id": "a", "like": "south", "k": 2}, {"id": "b", "like": "photo", "near": [45, 12], "radius_km": 100},
                 {"id": "c", "like": "east"}]  # fmt: skip
        file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    result = run("--queries", file, "-k", 4, "--json")
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    assert {name: document[name] for name in ("queries", "answered", "failed")} == {
        "queries": 3, "answered": 2, "failed": 1,
    }  # fmt: skip
    a, b, c = document["rankings"]
    assert (a["id"], len(a["results"]), a["plan"]["requested"]) == ("a", 2, 2)
    assert (b["id"], [r["name"] for r in b["results"]], b["plan"]["requested"]) == ("b", ["photo", "north"], 4)
    assert (c["id"], c["line"]) == ("c", 4 if kind == "csv" else 3)
    assert "no image is named 'east'" in c["error"]
    table = run("--queries", file)
    assert table.exit_code == 3
    assert table.stdout.splitlines()[0].split()[:3] == ["query", "rank", "similarity"]
    assert "2 of 3 queries answered" in table.stderr


def test_a_file_with_a_bad_line_is_refused_whole_and_the_line_is_named(run, tmp_path):
    file = tmp_path / "queries.jsonl"
    file.write_text('{"like": "south"}\n{"like": "south", "nearby": 3}\n[1]\n{"like": "a", "text": "b"}\nx\n', "utf-8")
    result = run("--queries", file)
    assert result.exit_code == 2
    assert result.stdout == ""
    for part in ("line 2: there is no nearby", "line 3: is not a JSON object", "line 4:", "line 5: is not JSON"):
        assert part in result.stderr
    assert "Nothing was asked" in result.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", "\n\n", "holds no query"),
        ("q.csv", "like\na,b\n", "more fields than the header"),
        ("q.csv", "like,k\na,many\n", "k: invalid literal"),
        ("q.jsonl", '{"vector": "x"}', "not made of numbers"),
        ("q.jsonl", '{"like": "a", "radius_km": "far"}', "line 1"),
        ("q.jsonl", '{"like": "a", "k": "3"}', "line 1"),
        ("q.jsonl", '{"image": 5}', "line 1"),
        ("q.jsonl", '{"text": "a", "area": 5}', "line 1"),
        ("q.jsonl", '{"text": "a", "properties": [1]}', "line 1"),
    ],
)
def test_what_is_no_query_is_told(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        read_queries(file, {})


def test_lines_take_what_they_leave_out_from_the_options_and_pictures_lie_beside_the_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    file = tmp_path / "q.jsonl"
    file.write_text('{"image": "a.jpg", "near": "1,2"}\n{"text": "b", "archive": "mine"}', "utf-8")
    first, second = read_queries(file, {"area": ALPS, "archive": "all", "k": 7})
    assert (first.query.image, first.query.area, first.query.archive) == (tmp_path / "a.jpg", None, "all")
    assert (second.query.area, second.query.archive, second.query.k) == (ALPS, "mine", 7)
    assert (first.id, second.id) == ("1", "2")
