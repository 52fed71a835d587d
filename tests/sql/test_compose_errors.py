"""What cannot be composed is refused, saying what was wrong and what to do; nothing is left behind by any question."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest
from toy_world import World

from geosearch.database.connection import connect
from geosearch.database.moments import compute_moments

IMAGE, WORDS = "'[1,0,0,0,0,0,0,0]'", "'[0,1,0,0,0,0,0,0]'"
BOTH = f"'toy', {IMAGE}, {WORDS}"

REFUSED = [
    (f"'nothing', {IMAGE}, {WORDS}", "no space is named 'nothing'", "Spaces: toy."),
    (f"null, {IMAGE}, {WORDS}, 0.5", "a search needs a space", "Spaces: toy."),
    (f"null, {IMAGE}, {WORDS}", "a search needs a space", "Spaces: toy."),
    ("'toy'", "a composed question needs an image or a text", "or both"),
    (f"{BOTH}, -0.1", "lambda is -0.1", "from 0 (the image alone) to 1"),
    (f"{BOTH}, 1.0000001", "lambda is 1.0000001", "from 0"),
    (f"{BOTH}, 'NaN'", "lambda is NaN", "from 0"),
    (f"{BOTH}, 'infinity'", "lambda is Infinity", "from 0"),
    (f"'toy', {IMAGE}, null, 2", "lambda is 2", "from 0"),
    (f"'toy', {IMAGE}, method => 'text'", "method text needs the vector of a text", "or both"),
    (f"'toy', null, {WORDS}, method => 'image'", "method image needs the vector of an image", "or both"),
    (
        f"'toy', {IMAGE}, '[1,2,3]'",
        "space toy holds vectors of 8 dimensions, vector 2 of the question has 3",
        "that space",
    ),
    (f"'toy', '[1,2,3]', {WORDS}, 1", "vector 1 of the question has 3", "that space"),
    (f"'toy', {IMAGE}, '[0,0,0,0,0,0,0,0]'", "vector 2 of the question is zero", "not all zeros"),
    ("'toy', '[NaN,0,0,0,0,0,0,0]'", "NaN not allowed in vector", ""),
    (f"{BOTH}, k => 0", "k is 0", "at least 1"),
    (f"{BOTH}, k => null", "k is null", "at least 1"),
    (f"{BOTH}, population => 'all'", "no population is named 'all'", "space or candidates"),
    (f"{BOTH}, population => null", "no population is named NULL", "space or candidates"),
    (f"{BOTH}, strategy => 'hnsw'", "no strategy is named 'hnsw'", "auto, exact or fast"),
    (f"{BOTH}, strategy => null", "no strategy is named NULL", "auto, exact or fast"),
    (f"{BOTH}, strategy => 'fast'", "space toy has no approximate index", "geosearch space index toy"),
    (f"{BOTH}, method => 'sum'", "no method is named 'sum'", "weicom, mean, image or text"),
    (f"{BOTH}, method => null", "no method is named NULL", "weicom, mean, image or text"),
    (f"{BOTH}, late => 'ignore'", "late is 'ignore'", "compute or refuse"),
    (f"{BOTH}, late => null", "late is null", "compute or refuse"),
    (f"{BOTH}, archive => 'nothing'", "no archive is named 'nothing'", "Archives: even, odd."),
    (f"{BOTH}, near => 'POINT EMPTY'::geography", "near is an empty geography", "null for the whole Earth"),
    (f"{BOTH}, near => 'POINT(0 0)'::geography, radius_m => -1", "radius_m is -1", "0 or more"),
    (f"{BOTH}, captured_from => '2020-01-02Z', captured_to => '2020-01-02Z'", "no time lies from", "first moment"),
]
PARTS_REFUSED = [
    ("null, array[1]", "0 vectors and 1 weights do not belong together", "of one length"),
    (f"array[{IMAGE}]::vector[], null", "1 vectors and 0 weights do not belong together", "of one length"),
    ("'{}', '{}'", "0 vectors and 0 weights do not belong together", "at least one part"),
    (f"array[{IMAGE}, {WORDS}]::vector[], array[1]", "2 vectors and 1 weights do not belong together", "of one length"),
    (f"array[[{IMAGE}], [{WORDS}]]::vector[], array[1, 1]", "do not belong together", "of one length"),
    (f"array[{IMAGE}, {WORDS}]::vector[], array[0, 0]", "the weights are {0,0}", "at least one of them not 0"),
    (f"array[{IMAGE}, {WORDS}]::vector[], array[1, null]", "the weights are {1,NULL}", "Give numbers"),
    (f"array[{IMAGE}, {WORDS}]::vector[], array[1, 'NaN'::float8]", "the weights are {1,NaN}", "Give numbers"),
    (
        f"array[{IMAGE}, {WORDS}]::vector[], array[1, 'infinity'::float8]",
        "the weights are {1,Infinity}",
        "Give numbers",
    ),
    (f"array[{IMAGE}, null]::vector[], array[1, 1]", "vector 2 of the question is null", "images or texts"),
    (f"array[{IMAGE}, '[1,2]']::vector[], array[1, 0]", "vector 2 of the question has 2", "model of that space"),
    (
        f"array_fill({IMAGE}::vector, array[31]), array_fill(1.0::float8, array[31])",
        "cannot have 31 parts",
        "at most 30",
    ),
    (f"array[{IMAGE}]::vector[], array[1], method => 'image'", "no method is named 'image'", "weicom or mean"),
]


@pytest.fixture(scope="module")
def kept(world: World) -> Iterator[World]:
    compute_moments(world.url, "toy")
    yield world


@pytest.mark.parametrize("function", ["compose", "compose_plan"])
@pytest.mark.parametrize(("arguments", "message", "hint"), REFUSED)
def test_a_question_that_cannot_be_answered_is_refused(kept, function, arguments, message, hint):
    with pytest.raises(psycopg.Error) as caught:
        kept.conn.execute(f"select * from geosearch.{function}({arguments})")
    assert message in caught.value.diag.message_primary
    assert hint in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(("arguments", "message", "hint"), PARTS_REFUSED)
def test_parts_that_are_none_are_refused(kept, arguments, message, hint):
    with pytest.raises(psycopg.Error) as caught:
        kept.conn.execute(f"select * from geosearch.compose_parts('toy', {arguments})")
    assert message in caught.value.diag.message_primary
    assert hint in (caught.value.diag.message_hint or "")


def test_arrays_may_begin_anywhere_and_thirty_parts_are_taken(kept):
    plain = f"select * from geosearch.compose_parts('toy', array[{IMAGE}, {WORDS}]::vector[], array[0.5, 0.5])"
    shifted = (
        "select * from geosearch.compose_parts('toy', format('[5:6]={%%s,%%s}', to_json(%s::text), to_json(%s::text))"
        "::vector[], '[-2:-1]={0.5,0.5}'::float8[])"
    )
    given = [value.strip("'") for value in (IMAGE, WORDS)]
    assert kept.conn.execute(plain).fetchall() == kept.conn.execute(shifted, given).fetchall()
    many = (
        "select image_id from geosearch.compose_parts('toy', (select array_agg(case n % 2 when 0 then %s else %s"
        " end::vector) from generate_series(1, 30) n), array_fill(1.0::float8, array[30]))".replace("n % 2", "n %% 2")
    )
    few = "select image_id from geosearch.compose_parts('toy', array[%s, %s]::vector[], array[1, 1])"
    assert kept.conn.execute(many, given).fetchall() == kept.conn.execute(few, given).fetchall()


SETTINGS = "select name, setting from pg_settings where name not like 'transaction%' order by name"
ASK = f"select image_id, similarity from geosearch.compose({BOTH}, 0.4, 'POINT(10 45)')"


def test_hostile_sessions_get_the_same_answer_and_keep_their_settings(kept):
    expected = kept.conn.execute(ASK, binary=True).fetchall()
    hostile = [
        "set search_path = pg_temp",
        "set enable_indexscan = off; set enable_sort = off; set enable_hashjoin = off; set enable_nestloop = off",
        "set jit = on; set jit_above_cost = 0; set plan_cache_mode = force_custom_plan",
        "set max_parallel_workers_per_gather = 4; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0;"
        " set parallel_tuple_cost = 0",
        "set extra_float_digits = -15; set work_mem = '64kB'; set hnsw.ef_search = 7; set datestyle = 'SQL, DMY'",
        "set default_transaction_read_only = on",
        "set standard_conforming_strings = off; set transform_null_equals = on; set bytea_output = 'escape'",
    ]
    for setting in hostile:
        with connect(kept.url, autocommit=True) as conn:
            conn.execute(ASK)  # whose libraries have settings of their own
            conn.execute(setting)
            before = conn.execute(SETTINGS).fetchall()
            assert conn.execute(ASK, binary=True).fetchall() == expected, setting
            assert conn.execute(SETTINGS).fetchall() == before


def test_a_session_may_have_functions_and_tables_of_its_own(kept):
    with connect(kept.url, autocommit=True) as conn:
        conn.execute("create function pg_temp.tail(float8) returns float8 language sql as 'select 7.0::float8'")
        conn.execute("create function pg_temp.format(text, text) returns text language sql as $$select 'x'$$")
        conn.execute(
            "create temp table e (image_id bigint); create temp table r (tail float8); create temp table moments()"
        )
        assert conn.execute(ASK, binary=True).fetchall() == kept.conn.execute(ASK, binary=True).fetchall()


def test_prepared_statements_and_snapshots(kept):
    expected = kept.conn.execute(ASK).fetchall()
    with connect(kept.url) as conn:
        conn.execute("set transaction isolation level repeatable read, read only")
        conn.execute("select count(*) from geosearch.image")
        for n in range(8):
            lam = 0.4 if n % 2 else 0.9
            mine = conn.execute(ASK.replace("0.4", "%s"), [lam], prepare=True).fetchall()
            assert (mine == expected) is (n % 2 == 1)


@pytest.mark.parametrize("strategy", ["exact", "fast"])
def test_a_cancelled_question_leaves_nothing_behind(kept, strategy):
    call = (
        "select count(*) from generate_series(1, 100000) g, lateral geosearch.compose('toy',"
        f" array_fill(g::real, array[8])::vector, {WORDS}, 0.4, strategy => %s) s"
    )
    kept.conn.execute(
        "create index if not exists space_toy_hnsw_idx on geosearch.space_toy using hnsw (embedding halfvec_cosine_ops)"
    )
    kept.conn.execute("update geosearch.space set indexed_as = 'halfvec', counted = counted * 10000")
    try:
        with connect(kept.url, autocommit=True) as conn:
            conn.execute(ASK)
            conn.execute("set hnsw.ef_search = 41")
            before = conn.execute(SETTINGS).fetchall()
            for milliseconds in (1, 4, 15, 40):
                conn.execute(f"set statement_timeout = {milliseconds}")
                with pytest.raises(psycopg.errors.QueryCanceled):
                    conn.execute(call, [strategy])
                conn.execute("reset statement_timeout")
                timer = threading.Timer(milliseconds / 1000 + 0.02, conn.cancel)
                timer.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    conn.execute(call, [strategy])
                timer.join()
                assert conn.execute(SETTINGS).fetchall() == before
                assert conn.execute("select count(*) from pg_class where relpersistence = 't'").fetchone() == (0,)
            assert len(conn.execute(ASK).fetchall()) == 10
    finally:
        kept.conn.execute("update geosearch.space set indexed_as = null, counted = counted / 10000")


def test_a_reader_may_ask(kept):
    with connect(kept.url, autocommit=True) as conn:
        expected = conn.execute(ASK).fetchall()
        conn.execute("set role geosearch_read")
        assert conn.execute(ASK).fetchall() == expected
        assert conn.execute(f"select strategy, moments from geosearch.compose_plan({BOTH}, 0.4)").fetchone() == (
            "exact", "kept",
        )  # fmt: skip
