"""What cannot be searched is refused, saying what was wrong and what to do; no argument is ever run as SQL."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

Q = "'[1,0,0,0,0,0,0,0]'"

REFUSED = [
    (f"'nothing', {Q}", "no space is named 'nothing'", "Spaces: toy."),
    (f"null, {Q}", "a search needs a space", "Spaces: toy."),
    ("'toy', null", "the query vector is null", "image or a text"),
    ("'toy', '[1,2,3]'", "space toy holds vectors of 8 dimensions, the query has 3", "model of that space"),
    ("'toy', '[0,0,0,0,0,0,0,0]'", "zero and has no direction", "not all zeros"),
    ("'toy', '[NaN,0,0,0,0,0,0,0]'", "NaN not allowed in vector", ""),
    (f"'toy', {Q}, k => 0", "k is 0", "at least 1"),
    (f"'toy', {Q}, k => -3", "k is -3", "at least 1"),
    (f"'toy', {Q}, k => null", "k is null", "at least 1"),
    (f"'toy', {Q}, 'POINT(0 0)'::geography, -1", "radius_m is -1", "0 or more"),
    (f"'toy', {Q}, 'POINT(0 0)'::geography, null", "radius_m is null", "0 or more"),
    (f"'toy', {Q}, 'POINT(0 0)'::geography, 'NaN'", "radius_m is NaN", "0 or more"),
    (f"'toy', {Q}, 'POINT(0 0)'::geography, 'infinity'", "radius_m is Infinity", "0 or more"),
    (f"'toy', {Q}, 'POINT EMPTY'::geography", "near is an empty geography", "null for the whole Earth"),
    (f"'toy', {Q}, st_makepoint('NaN', 0)::geography", "not a number", "longitude and latitude"),
    (f"'toy', {Q}, st_makepoint(0, 'NaN')::geography", "not a number", "longitude and latitude"),
    (f"'toy', {Q}, st_makepoint('-Infinity', 0)::geography", "not a number", "longitude and latitude"),
    (f"'toy', {Q}, st_makeline(st_point(0, 0), st_point('NaN', 1))::geography", "not a number", "longitude"),
    (f"'toy', {Q}, 'SRID=4269;POINT(0 0)'::geography", "near has SRID 4269", "WGS 84"),
    (f"'toy', {Q}, archive => 'nothing'", "no archive is named 'nothing'", "Archives: even, odd."),
    (f"'toy', {Q}, strategy => 'hnsw'", "space toy has no approximate index", "geosearch space index toy"),
    (f"'toy', {Q}, strategy => 'best'", "no strategy is named 'best'", "auto, exact or hnsw"),
    (f"'toy', {Q}, strategy => null", "no strategy is named NULL", "auto, exact or hnsw"),
    (f"'toy', {Q}, captured_from => '2020-01-02Z', captured_to => '2020-01-02Z'", "no time lies from", "first moment"),
    (f"'toy', {Q}, captured_from => '2020-01-02Z', captured_to => '2020-01-01Z'", "no time lies from", "first moment"),
    (f"'toy', {Q}, captured_from => 'infinity', captured_to => '-infinity'", "no time lies from", "after the last"),
]


@pytest.mark.parametrize("function", ["search", "search_plan"])
@pytest.mark.parametrize(("arguments", "message", "hint"), REFUSED)
def test_a_search_that_cannot_be_answered_is_refused(world, function, arguments, message, hint):
    with pytest.raises(psycopg.Error) as caught:
        world.conn.execute(f"select * from geosearch.{function}({arguments})")
    assert message in caught.value.diag.message_primary
    assert hint in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("-1, 'toy'", "there is no image -1", "by name"),
        ("null, 'toy'", "there is no image null", "by name"),
        ("1, 'nothing'", "no space is named 'nothing'", "Spaces: toy."),
        ("1, null", "no space is given", "Spaces: toy."),
    ],
)
def test_similar_says_what_is_missing(world, arguments, message, hint):
    with pytest.raises(psycopg.Error) as caught:
        world.conn.execute(f"select * from geosearch.similar({arguments})")
    assert message in caught.value.diag.message_primary
    assert hint in caught.value.diag.message_hint


def test_similar_says_that_an_image_has_no_vector(conn):
    conn.execute("insert into geosearch.archive (name) values ('a')")
    image_id = conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m) select id, 'x', 0 from geosearch.archive returning id"
    ).fetchone()[0]
    conn.execute("select geosearch.create_space('empty', 3)")
    with pytest.raises(psycopg.errors.NoDataFound, match=f"image {image_id} has no vector in space empty"):
        conn.execute("select * from geosearch.similar(%s, 'empty')", [image_id])


def test_near_may_be_a_line_or_an_area(world):
    """Distance then runs from the nearest point of it; nothing is refused that PostGIS can measure."""
    rows = world.conn.execute(
        f"select distance_m from geosearch.search('toy', {Q}, 'LINESTRING(-10 0,10 0)'::geography, 1e6, 1000)"
    ).fetchall()
    assert len(rows) > 5
    assert min(row[0] for row in rows) == 0


ATTACKS = [
    "x'; drop table geosearch.image; --",
    'toy"; drop table geosearch.image; --',
    "toy s; drop table geosearch.image; --",
    "') ; drop table geosearch.image; --",
    "$1",
    "%s %I %L",
    "\\'; select 1",
    "TOY",
    "toy ",
    "",
    "toy\n",
    "ToY" * 40,
]


NO_BANK = "(1, 'b', 'e', null, null, null, null, 1, 1, true, false, 1, null, '{}', now(), null, null, null)"
BANK_CALLS = [
    "geosearch.bank_of(%s)",
    "geosearch.create_bank(%s, 'e', 3, 3)",
    "geosearch.finish_bank(%s)",
    "geosearch.drop_bank(%s)",
    "geosearch.create_bank_view(%s)",
    "geosearch.range_state(%s)",
    "geosearch.build_bank(%s, 'toy', 'e')",
    "geosearch.build_bank('b', %s, 'e')",
    "geosearch.build_bank('b', 'toy', %s)",
    "geosearch.build_bank('b', 'toy', 'e', %s)",
    "geosearch.build_bank('b', 'toy', 'e', archive => %s)",
    "geosearch.range_embedding(%s, 'POINT(0 0)')",
    "geosearch.range_account(%s, 'POINT(0 0)')",
    "geosearch.range_similar(%s, 'POINT(0 0)')",
    f"geosearch.range_weights({NO_BANK}::geosearch.bank, 'POINT(0 0)', 1, 1, 1, null, %s, 1)",
]
# search_best and search_account, whose arguments are not named where others call them.
INSIDE = [
    (function, f"{space}, {Q}, null, 0, 1, {archive}, {strategy}")
    for function in ("search_account", "search_best")
    for space, archive, strategy in (("%s", "null", "'exact'"), ("'toy'", "%s", "'exact'"), ("'toy'", "null", "%s"))
]
# space, population, strategy, archive, late and method, in their places.
COMPOSED = ["'toy'", "'space'", "'exact'", "null", "'compute'", "'weicom'"]
COMPOSE_CALLS = [
    "geosearch.default_lambda(%s)",
    f"geosearch.compose_question(%s, {Q}, {Q}, null, 'weicom')",
    f"geosearch.compose_question('toy', {Q}, {Q}, null, %s)",
    f"geosearch.compose(%s, {Q})",
    *(
        f"geosearch.{function}('toy', {Q}, {name} => %s)"
        for function in ("compose", "compose_plan")
        for name in ("population", "strategy", "method", "archive", "late")
    ),
    f"geosearch.compose_plan(%s, {Q})",
    *(
        "geosearch.{}({}, array[{}]::vector[], '{{1}}', null, 0, 1, {}, {}, {}, null, null, null, {}, {})".format(
            function,
            COMPOSED[0] if n else "%s",
            Q,
            *(value if n != i else "%s" for i, value in enumerate(COMPOSED) if i),
        )
        for function in ("compose_parts", "compose_account", "compose_best")
        for n in range(len(COMPOSED))
    ),
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_argument_is_run_as_sql(world, attack):
    models = [[attack, "satclip", "0" * 64], ["x", attack, "0" * 64], ["x", "satclip", attack]]
    calls = [
        ("select * from geosearch.search(%s, '[1,0,0,0,0,0,0,0]')", [attack]),
        ("select * from geosearch.search('toy', '[1,0,0,0,0,0,0,0]', archive => %s)", [attack]),
        ("select * from geosearch.search('toy', '[1,0,0,0,0,0,0,0]', strategy => %s)", [attack]),
        ("select * from geosearch.search_plan(%s, '[1,0,0,0,0,0,0,0]')", [attack]),
        ("select * from geosearch.search_plan('toy', '[1,0,0,0,0,0,0,0]', archive => %s)", [attack]),
        ("select * from geosearch.search_plan('toy', '[1,0,0,0,0,0,0,0]', strategy => %s)", [attack]),
        ("select * from geosearch.search_many(%s, array['[1,0,0,0,0,0,0,0]']::vector[])", [attack]),
        ("select * from geosearch.search_many('toy', array['[1,0,0,0,0,0,0,0]']::vector[], archive => %s)", [attack]),
        ("select * from geosearch.search_many('toy', array['[1,0,0,0,0,0,0,0]']::vector[], strategy => %s)", [attack]),
        ("select * from geosearch.candidates(%s)", [attack]),
        ("select * from geosearch.candidates('toy', 'POINT(0 0)', 1, %s)", [attack]),
        ("select geosearch.space_of(%s)", [attack]),
        ("select geosearch.count_cells(%s)", [attack]),
        ("select * from geosearch.moments_state(%s)", [attack]),
        *((f"select * from geosearch.{inside}({values}, null, null, null)", [attack]) for inside, values in INSIDE),
        ("select * from geosearch.search_scan(geosearch.space_of('toy'), null, %s, null, null, 1)", [attack]),
        (
            "select * from geosearch.search_source("
            "geosearch.space_of('toy'), null, 0, %s, null, null, null, 'distance')",
            [attack],
        ),
        ("select * from geosearch.similar(1, %s)", [attack]),
        ("select * from geosearch.similar(1, 'toy', strategy => %s)", [attack]),
        ("select * from geosearch.similar(1, 'toy', archive => %s)", [attack]),
        ("select geosearch.embedding_of(%s, 1)", [attack]),
        ("select geosearch.create_space(%s, 3)", [attack]),
        ("select geosearch.create_space('new', 3, %s)", [attack]),
        ("select geosearch.create_space('new', 3, metric => %s)", [attack]),
        ("select geosearch.create_space('new', 3, embeds => %s)", [attack]),
        ("select geosearch.drop_space(%s)", [attack]),
        ("select geosearch.grant_read(%s)", [attack]),
        ("select geosearch.encode_place(%s, 'POINT(0 0)')", [attack]),
        ("select geosearch.check_location_model(%s)", [attack]),
        *(("select geosearch.install_location_model(%s, %s, 3, '{}', %s)", given) for given in models),
        *((f"select * from {call}", [attack]) for call in BANK_CALLS + COMPOSE_CALLS),
    ]
    before = world.conn.execute("select count(*) from geosearch.image").fetchone()
    for statement, arguments in calls:
        # Every one is refused by geosearch itself, as an unknown name or a bad value; none is a syntax error.
        with pytest.raises((psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue)):
            world.conn.execute(statement, arguments)
    assert world.conn.execute("select count(*) from geosearch.image").fetchone() == before


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "call",
    [
        "select geosearch.create_space_table(%s, 'x', 3)",
        "select geosearch.create_space_table('space_x', %s, 3)",
        "select geosearch.comment_space_table(%s, 'x', 3)",
        "select geosearch.comment_space_table('space_toy', %s, 3)",
        "select geosearch.add_space_triggers(%s, 3)",
        "select geosearch.add_space_triggers(%s, 4000)",
        "select geosearch.count_vector_changes(%s)",
        "select geosearch.add_space_keys(%s)",
        "select geosearch.finish_space_table(%s, 3)",
        "select * from geosearch.search_source(geosearch.space_of('toy'), null, 0, null, null, null, null, %s)",
        "select geosearch.fill_bank(%s, 'toy', 'toy', null, 1, 1, 0)",
        "select geosearch.fill_bank('x', %s, 'toy', null, 1, 1, 0)",
        "select geosearch.fill_bank('x', 'toy', %s, null, 1, 1, 0)",
    ],
)
def test_steps_for_the_owner_take_a_name_as_a_name(world, call, attack):
    """They may make a table of that name, or find none; nothing in the name is a statement."""
    tables = "select relname from pg_class where relnamespace = 'geosearch'::regnamespace and relkind = 'r' order by 1"
    before = world.conn.execute(tables).fetchall()
    with world.conn.transaction(force_rollback=True):
        try:
            with world.conn.transaction():
                world.conn.execute(call, [attack])
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidName) as error:
            assert "syntax" not in str(error)
        except psycopg.errors.SyntaxError as error:
            assert attack == "" and "zero-length delimited identifier" in str(error)
        after = world.conn.execute(tables).fetchall()
        assert set(before) <= set(after) <= {*before, (attack[:63],), ("space_x",)}
        assert world.conn.execute("select count(*) from geosearch.image").fetchone() == (len(world.ids),)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_subject_that_looks_like_sql_is_just_one_that_never_changed(world, attack):
    for function in ("change_count", "fold_changes"):
        assert world.conn.execute(f"select geosearch.{function}(%s)", [attack]).fetchone() == (0,)


def test_no_function_with_a_text_argument_was_forgotten(conn):
    """Those of saved questions have tests of their own, in tests/worker."""
    here = Path(__file__).read_text("utf-8")
    names = conn.execute(
        "select distinct p.proname from pg_proc p where p.pronamespace = 'geosearch'::regnamespace"
        " and 'text'::regtype = any (p.proargtypes::oid[]) and p.proname not in ('ask', 'ask_and_wait')"
    ).fetchall()
    forgotten = [name for (name,) in names if not re.search(rf'geosearch\.{name}\(|"{name}"', here)]
    assert forgotten == [] and len(names) > 12


def test_names_that_look_like_sql_are_just_names(conn):
    """An archive may bear any name."""
    conn.execute("select geosearch.create_space('t', 2)")
    for name in (a for a in ATTACKS if a):
        conn.execute("insert into geosearch.archive (name) values (%s)", [name])
        rows = conn.execute("select * from geosearch.search('t', '[1,0]', archive => %s)", [name]).fetchall()
        assert rows == []
