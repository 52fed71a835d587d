"""What a sceptic typed: odd files of queries, areas as people draw them, bytes that are no text."""

from __future__ import annotations

import csv
import json

import numpy as np
import psycopg
import pytest
from geosearch_cli.main import app
from typer.testing import CliRunner

from geosearch.errors import DatabaseError, InputError
from geosearch.search.batch import read_queries
from geosearch.search.query import Query


@pytest.fixture
def run(filled, database_url, monkeypatch):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    return lambda *arguments: CliRunner().invoke(app, ["search", *map(str, arguments)])


def box(west, south, east, north):
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.fixture
def parallel(filled):
    """One image in the sea of every 10 degrees of longitude at 50 north, where great circles leave parallels."""
    conn, _ = filled
    conn.execute("insert into geosearch.archive (name) values ('parallel')")
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m)"
        " select a.id, 'p' || x, st_makepoint(x, 50)::geography, 0"
        " from geosearch.archive a, generate_series(-175, 175, 10) x where a.name = 'parallel'"
    )
    conn.execute(
        "insert into geosearch.space_four (image_id, embedding) select i.id, '[1,0,0,0]' from geosearch.image i"
        " join geosearch.archive a on a.id = i.archive_id where a.name = 'parallel'"
    )
    conn.commit()


@pytest.mark.parametrize(
    ("area", "count"),
    [
        (box(0, 49, 170, 51), 17),  # the great circle between its southern corners passes north of 80 degrees
        (box(-170, 1, 170, 80), 34),  # wide: the short way round is the other one
        (box(-180, 0, 180, 90), 36),
        (box(-180, -90, 180, 90), 36),
        (box(0, 51, 170, 60), 0),
        (box(-180, -90, 180, 49), 0),
    ],
    ids=str,
)
def test_an_area_is_what_was_drawn_on_the_map(parallel, client, area, count):
    assert len(client.search(vector=[1, 0, 0, 0], area=area, archive="parallel", k=100)) == count


def test_an_area_without_ground_is_refused():
    with pytest.raises(InputError, match="holds some ground"):
        Query.of(text="a", area={"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0], [0, 0]]]})


def test_an_area_may_begin_with_the_mark_of_a_windows_editor(run, tmp_path):
    file = tmp_path / "area.geojson"
    file.write_text(json.dumps(box(8, 43, 12, 47)), "utf-8-sig")
    result = run("--like", "south", "--area", file, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["results"]) == 2


def test_the_lines_of_json_end_where_the_files_lines_do(tmp_path):
    file = tmp_path / "q.jsonl"
    texts = ["a\u2028b", "c\u0085d", "e\x1cf"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    file.write_text("\r\n\r\n".join(lines), "utf-8-sig", newline="")
    found = read_queries(file, {})
    assert [line.query.text for line in found] == texts
    assert [line.line for line in found] == [1, 3, 5]


def test_a_line_may_be_called_nought(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"text": "a"}\n{"id": 0, "text": "a"}\n{"id": "", "text": "a"}\n', "utf-8")
    assert [line.id for line in read_queries(file, {})] == ["1", "0", "3"]


def test_a_csv_file_may_hold_the_longest_vectors(tmp_path):
    file = tmp_path / "q.csv"
    vector = np.linspace(0.1, 1, 8448).tolist()
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["vector"], [json.dumps(vector)]])
    assert read_queries(file, {})[0].query.vector.shape == (8448,)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "radius_km": 1' + 400 * "0" + "}", "kilometres from 0 up"),
        ('{"text": "a", "radius_km": "5"}', "the radius is a number"),
        ('{"text": "a", "radius_km": true}', "the radius is a number"),
        ('{"text": "a", "near": [1' + 400 * "0" + ", 3]}", "a place is"),
        (100_000 * "[", "is not JSON"),
        ('{"like": "\\ud800"}', "not UTF-8"),
        ('{"text": "\\ud800"}', "not UTF-8"),
    ],
    ids=lambda text: text[:30],
)
def test_what_no_database_could_take_is_a_wrong_line(tmp_path, line, message):
    file = tmp_path / "q.jsonl"
    file.write_text(line, "utf-8")
    with pytest.raises(InputError, match=f"line 1: .*{message}"):
        read_queries(file, {})


def test_one_query_that_the_database_breaks_off_does_not_take_the_others_with_it(client, monkeypatch):
    asked = [Query.of(like="south"), Query.of(like="photo")]
    ask = client.ask

    def break_off(query):
        if query is asked[0]:
            with client.conn.transaction():
                client.conn.execute("set local statement_timeout = 1")
                client.conn.execute("select pg_sleep(5)")
        return ask(query)

    monkeypatch.setattr(client, "ask", break_off)
    first, second = client.search_many(asked)
    assert isinstance(first, DatabaseError)
    assert "statement timeout" in str(first)
    assert len(second) > 0
    client.conn.close()
    with pytest.raises(psycopg.OperationalError):
        list(client.search_many(asked[1:]))
