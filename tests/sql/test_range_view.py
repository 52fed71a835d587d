"""The view range_<bank>, which computes only what is read; images that look as expected; how late stored rows are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import psycopg
import pytest
from bank_spaces import DK, DV, Spaces
from range_truth import as_array, ask
from search_truth import text

COUNT = 40
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sql.md"


@pytest.fixture
def built(conn):
    """Spaces k and v of 40 images, two without a place, and the bank of them."""
    spaces = Spaces(conn, COUNT, placeless=2)
    spaces.build()
    conn.commit()
    return spaces


def test_each_image_with_a_place_is_there_with_its_embedding(built):
    conn = built.conn
    footprint = "MULTIPOLYGON(((178 -2,180 -2,180 2,178 2,178 -2)),((-180 -2,-176 -2,-176 2,-180 2,-180 -2)))"
    conn.execute("update geosearch.image set footprint = %s where name = 'i7'", [footprint])
    rows = conn.execute(
        "select v.id, v.archive, v.name, st_x(v.geom), st_y(v.geom), st_srid(v.geom), v.embedding"
        " from geosearch.range_bank v order by v.id"
    ).fetchall()
    assert [row[0] for row in rows] == built.ids[2:]
    for n, (_, archive, name, lon, lat, srid, embedding) in enumerate(rows, start=2):
        assert (archive, name, srid) == ("ab"[n % 2], f"i{n}", 4326)
        if n == 7:
            assert abs(lat) <= 2 and (lon >= 178 or lon <= -176)  # a point of it, not the middle of its numbers
        else:
            assert (lon, lat) == pytest.approx((built.lon[n], built.lat[n]), abs=1e-12)
        np.testing.assert_array_equal(as_array(embedding), ask(conn, "bank", lat, lon)[0])


def test_columns_are_typed(built):
    rows = built.conn.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a"
        " where a.attrelid = 'geosearch.range_bank'::regclass and a.attnum > 0 order by a.attnum"
    ).fetchall()
    assert [name for name, _ in rows] == ["id", "archive", "name", "geom", "embedding"]
    assert [kind.removeprefix("public.") for _, kind in rows] == [
        "bigint", "text", "text", "geometry(Point,4326)", f"vector({DK + DV})"]  # fmt: skip


def test_the_embedding_is_computed_only_where_it_is_read(built):
    """Without the weights of the encoder nothing that computes an embedding can work."""
    conn = built.conn
    conn.execute("delete from geosearch.location_weight")
    for query in (
        "select count(*) from geosearch.range_bank",
        "select id, archive, name, geom from geosearch.range_bank where st_y(geom) > 0 order by name",
        "select v.id from geosearch.range_bank v join geosearch.image i using (id) where i.name = 'i5'",
        "select id from (select * from geosearch.range_bank) v",
        "select id, embedding from geosearch.range_bank where name = 'none'",
    ):
        conn.execute(query)
        plan = json.dumps(conn.execute(f"explain (verbose, format json) {query}").fetchone()[0])
        assert ("range_embedding" in plan) is ("embedding" in query)
    with pytest.raises(psycopg.errors.NoDataFound, match="weights of enc"):
        conn.execute("select embedding from geosearch.range_bank limit 1")


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ("select id, embedding from geosearch.range_bank order by name limit 3", 3),
        ("select embedding from geosearch.range_bank where name in ('i4', 'i5')", 2),
        ("select v.embedding from geosearch.image i join geosearch.range_bank v using (id) where i.name = 'i9'", 1),
        ("select id, geom from geosearch.range_bank", 0),
    ],
)
def test_it_is_computed_once_a_row_and_for_no_row_more(built, superuser_url, query, calls):
    with psycopg.connect(superuser_url) as conn:
        conn.execute("set track_functions = 'all'")
        conn.execute(query)
        found = conn.execute(
            "select coalesce(sum(calls), 0) from pg_stat_xact_user_functions where funcname = 'range_embedding'"
        ).fetchone()
    assert found == (calls,)


def test_a_parallel_worker_computes_the_same(built):
    conn = built.conn
    query = "select id, embedding::text from geosearch.range_bank order by id"
    alone = conn.execute(query).fetchall()
    name = "debug_parallel_query" if conn.info.server_version >= 160000 else "force_parallel_mode"
    with conn.transaction(force_rollback=True):
        conn.execute(f"set local {name} = on")
        assert "Workers Planned" in str(conn.execute(f"explain {query}").fetchall())
        assert conn.execute(query).fetchall() == alone


def test_the_view_shows_what_its_reader_may_see(built):
    """It reads with the rights of whoever reads it."""
    conn = built.conn
    options = conn.execute("select reloptions from pg_class where oid = 'geosearch.range_bank'::regclass").fetchone()
    assert options == (["security_invoker=true"],)
    with conn.transaction(force_rollback=True):
        conn.execute("set local role geosearch_ask")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("select id from geosearch.range_bank")


def test_files_of_sql_are_installed_anew_beneath_banks(built, database_url):
    """The views stand on functions that a migration replaces; they come back, with their grants and comments."""
    from geosearch.database.migrate import migrate

    conn = built.conn
    about = (
        "select pg_get_viewdef(oid), relacl::text, obj_description(oid), reloptions from pg_class"
        " where oid = 'geosearch.range_bank'::regclass"
    )
    conn.execute("select geosearch.create_bank('unfinished', 'enc', 6, 4)")
    before = conn.execute(about).fetchone()
    files = [row[0] for row in conn.execute("select name from geosearch.installed_sql order by name").fetchall()]
    for some in ([name for name in files if name[0] == "7"], ["74_range.sql"], ["72_banks.sql"], files):
        conn.execute("update geosearch.installed_sql set sha256 = '' where name = any (%s)", [some])
        conn.execute("comment on view geosearch.range_bank is 'as an older release made it'")
        conn.commit()
        assert migrate(database_url) == [f"installed sql/{name}" for name in some]
        assert conn.execute(about).fetchone() == before
        assert conn.execute("select to_regclass('geosearch.range_unfinished')").fetchone() == (None,)
        conn.execute("select embedding from geosearch.range_bank limit 1")


def similar(built: Spaces, arguments: str = "") -> list[tuple]:
    return built.conn.execute(
        "select rank, image_id, similarity, distance_m"
        f" from geosearch.range_similar('bank', 'POINT(11 48)'{arguments})",
        binary=True,
    ).fetchall()


def test_similar_images_are_those_of_a_search_with_the_expected_value(built):
    conn = built.conn
    for options, filters in (
        ({}, {}),
        ({"beta": 0.0, "tau_geo": 100.0}, {"k": 3}),
        ({"mode": "topk"}, {"archive": "'b'", "k": 50}),
        ({"beta": 1.0, "tau_sem": 3.0}, {"near": "'POINT(0 0)'::geography", "radius_m": "6e6"}),
        ({"min_cos": -0.5}, {"strategy": "'exact'"}),
    ):
        given = ", ".join(f"{name} => {value}" for name, value in filters.items())
        asked = ", ".join(f"{name} => '{value}'" for name, value in options.items())
        expected = ask(conn, "bank", 48.0, 11.0, **options)[0][:DV]
        right = conn.execute(
            "select rank, image_id, similarity, distance_m"
            f" from geosearch.search('v', %s{', ' + given if given else ''})",
            [text(expected)], binary=True,
        ).fetchall()  # fmt: skip
        assert right
        assert similar(built, "".join(f", {part}" for part in (given, asked) if part)) == right
    assert similar(built, ", mode => 'topk', mode_k => 2") != similar(built, ", mode => 'topk', mode_k => 20")


def test_the_space_to_search_is_that_of_the_values_or_the_one_of_their_model(built):
    conn = built.conn
    usual = similar(built)
    assert similar(built, ", space => 'v'") == usual
    conn.execute("update geosearch.bank set value_space_id = null")
    assert similar(built) == usual
    conn.execute("select geosearch.create_space('v2', 4, 'v')")
    with pytest.raises(psycopg.errors.UndefinedObject) as caught, conn.transaction():
        similar(built)
    assert caught.value.diag.message_primary == "several spaces hold vectors like the values of bank bank"
    assert caught.value.diag.message_hint == "Give space => a space of 4 dimensions, made by v: v, v2."
    conn.execute("update geosearch.space set active = false where name = 'v2'")
    assert similar(built) == usual
    conn.execute("update geosearch.bank set value_model = null")
    with pytest.raises(psycopg.errors.UndefinedObject) as caught, conn.transaction():
        similar(built)
    assert caught.value.diag.message_primary == "no active space holds vectors like the values of bank bank"
    assert caught.value.diag.message_hint == "Give space => a space of 4 dimensions."
    assert similar(built, ", space => 'v'") == usual
    for space, error in (
        ("k", "the values of bank bank have 4 dimensions, the vectors of space k 6"),
        ("x", "named 'x'"),
    ):
        with pytest.raises(psycopg.Error, match=error), conn.transaction():
            similar(built, f", space => '{space}'")


def state(conn: psycopg.Connection) -> tuple:
    row = conn.execute("select images, stored, stored_at is not null, changed from geosearch.range_state('bank')")
    found = row.fetchone()
    assert found is not None
    return found


def test_the_state_tells_what_is_stored_and_whether_images_changed_since(built):
    conn = built.conn
    assert state(conn) == (COUNT - 2, 0, False, True)
    conn.execute(
        "insert into geosearch.range_bank_stored select v.id, v.embedding, v.geom from geosearch.range_bank v limit 5"
    )
    note = "update geosearch.bank set stored_at = now(), stored_changes = geosearch.change_count('image')"
    conn.execute(note)
    assert state(conn) == (COUNT - 2, 5, True, False)
    for change, after in (
        ("update geosearch.image set nadir = 'POINT(0 0)' where name = 'i0'", (COUNT - 1, 5, True, True)),
        ("delete from geosearch.image where name = 'i2'", (COUNT - 2, 4, True, True)),
        (
            "insert into geosearch.image (archive_id, name, reach_m) select min(id), 'new', 0 from geosearch.archive",
            (COUNT - 2, 4, True, True),
        ),
    ):
        conn.execute(change)
        assert state(conn) == after
        conn.execute(note)
        assert state(conn)[3] is False
    conn.execute("update geosearch.image set name = name || 'x'")
    assert state(conn)[3] is False


def test_the_examples_of_the_reference_run_as_one_session(conn):
    """Those of the section RANGE, in their order: build a bank, embed, rank, join, drop."""
    Spaces(conn, 60)
    conn.execute("update geosearch.model set name = 'mini-location' where name = 'enc'")
    for name, space in (("clip", "k"), ("features", "v")):
        dimension = {"k": DK, "v": DV}[space]
        conn.execute("select geosearch.create_space(%s, %s, %s)", [name, dimension, space])
        conn.execute(
            f"insert into geosearch.space_{name} (image_id, embedding)"
            f" select image_id, embedding from geosearch.space_{space}"
        )
    section = REFERENCE.read_text(encoding="utf-8").partition("\n## RANGE\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    counts = [conn.execute(block).rowcount for block in blocks]
    assert len(counts) >= 9
    assert conn.execute("select name, places from geosearch.bank").fetchall() == [("two", 0)]
