"""Every object of the schema: commented, not overloaded, pinned, closed to the public, documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sql.md"

FUNCTIONS = (
    "select p.proname, p.provolatile, p.proparallel, p.prorows, p.proconfig, p.prosecdef, p.proacl::text[],"
    " pg_catalog.obj_description(p.oid, 'pg_proc') from pg_catalog.pg_proc p"
    " where p.pronamespace = 'geosearch'::regnamespace"
)


@pytest.fixture
def spaced(conn):
    """A database with one space, so that what create_space makes is looked at as well."""
    conn.execute("select geosearch.create_space('toy', 3)")
    return conn


def test_a_function_name_has_one_row(spaced):
    names = [row[0] for row in spaced.execute(FUNCTIONS).fetchall()]
    assert len(names) == len(set(names)) >= 8


def test_the_type_of_each_result_column_is_the_one_promised(conn):
    def result(name):
        return conn.execute(
            "select pg_catalog.pg_get_function_result(p.oid), pg_catalog.pg_get_function_arguments(p.oid)"
            " from pg_catalog.pg_proc p where p.pronamespace = 'geosearch'::regnamespace and p.proname = %s",
            [name],
        ).fetchone()

    rows = (
        "TABLE(rank integer, image_id bigint, name text, similarity double precision, distance_m double precision,"
        " geom geometry)"
    )
    rest = (
        "near geography DEFAULT NULL::geography, radius_m double precision DEFAULT 2500000, k integer DEFAULT 10,"
        " archive text DEFAULT NULL::text, strategy text DEFAULT 'auto'::text,"
        " captured_from timestamp with time zone DEFAULT NULL::timestamp with time zone,"
        " captured_to timestamp with time zone DEFAULT NULL::timestamp with time zone,"
        " among bigint[] DEFAULT NULL::bigint[]"
    )
    assert result("search") == (rows, f"space text, query vector, {rest}")
    assert result("similar") == (rows, f"image_id bigint, space text, {rest}")
    assert result("search_plan") == (
        "TABLE(strategy text, estimated bigint, candidates bigint, requested integer, returned integer,"
        " exhausted boolean)",
        f"space text, query vector, {rest}",
    )
    assert result("search_many") == (
        rows.replace("TABLE(", "TABLE(query integer, "),
        f"space text, queries vector[], {rest}",
    )
    without = rest.replace(" k integer DEFAULT 10,", "").replace(" strategy text DEFAULT 'auto'::text,", "")
    assert result("candidates") == ("TABLE(image_id bigint, version bigint)", f"space text, {without}")


def test_functions_pin_their_search_path_and_are_closed_to_the_public(spaced):
    for name, _, _, _, config, _, acl, _ in spaced.execute(FUNCTIONS).fetchall():
        assert acl, name
        assert not [entry for entry in acl if entry.startswith("=")], f"{name} may be run by everybody"
        if name == "ask_and_wait":  # a procedure with a SET clause may not commit
            continue
        path = next(c for c in config if c.startswith("search_path="))
        assert re.fullmatch(r"search_path=\"?geosearch\"?, .*pg_temp\"?", path), name


def test_search_is_stable_and_keeps_its_settings_to_itself(conn):
    rows = {row[0]: row for row in conn.execute(FUNCTIONS).fetchall()}
    for name in ("search", "similar"):
        assert rows[name][1:4] == ("s", "u", 10.0)
    # What sets something for a part of itself (set_config) cannot do so in a parallel query.
    for name, (_, volatility, parallel, *_) in rows.items():
        if name in ("search_many", "search_plan", "candidates", "embedding_of", "place_within"):
            assert volatility == "s", name
        calls_it = name.startswith(("search", "similar", "range_similar", "compose")) and name not in (
            "search_source",
            "search_estimate",
            "search_scan",
            "similarity_moments",
            "compose_units",
            "compose_moments",
            "compose_statement",
            "compose_question",
        )
        assert (parallel == "u") is (calls_it or volatility == "v"), name
    conn.execute("select geosearch.create_space('toy', 3)")
    before = conn.execute("select name, setting from pg_settings order by name").fetchall()
    conn.execute("select * from geosearch.search('toy', '[1,2,3]', 'POINT(0 0)'::geography)")
    assert conn.execute("select name, setting from pg_settings order by name").fetchall() == before


def test_only_few_functions_run_with_the_owners_rights(conn):
    """Those that make and drop tables; triggers and counts that write where their caller may not; one number."""
    owners = {row[0] for row in conn.execute(FUNCTIONS).fetchall() if row[5]}
    assert owners == {
        "create_space",
        "drop_space",
        "note_extents",
        "log_space_change",
        "count_cells",
        "questions_before",
        "fold_changes",
        "note_image_change",
        "note_vector_change",
        "create_bank",
        "build_bank",
        "finish_bank",
        "drop_bank",
    }
    # Nothing of a caller's own can take the place of what these call.
    for name in owners:
        body = conn.execute(
            "select prosrc from pg_catalog.pg_proc where pronamespace = 'geosearch'::regnamespace and proname = %s",
            [name],
        ).fetchone()[0]
        assert not re.search(r"(?<![.\w])format\(", body), f"{name} calls format by its bare name"


def test_everything_has_a_comment(spaced):
    missing = spaced.execute(
        "select c.oid::regclass::text from pg_catalog.pg_class c where c.relnamespace = 'geosearch'::regnamespace"
        " and c.relkind in ('r', 'v', 'm', 'p') and pg_catalog.obj_description(c.oid, 'pg_class') is null"
        " union all select c.oid::regclass || '.' || a.attname from pg_catalog.pg_class c"
        " join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where c.relnamespace = 'geosearch'::regnamespace and c.relkind in ('r', 'v', 'm', 'p')"
        " and pg_catalog.col_description(c.oid, a.attnum) is null"
    ).fetchall()
    missing += [row[0] for row in spaced.execute(FUNCTIONS).fetchall() if not row[-1]]
    assert missing == []


def test_the_reference_has_a_section_for_every_function_view_and_table(conn):
    names = [row[0] for row in conn.execute(FUNCTIONS).fetchall()]
    names += [
        row[0]
        for row in conn.execute(
            "select relname from pg_catalog.pg_class where relnamespace = 'geosearch'::regnamespace"
            " and relkind in ('r', 'v')"
        ).fetchall()
    ]
    headings = re.findall(r"^###+ `(?:geosearch\.)?(\w+)", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted([*names, "space_", "bank_", "range_", "range_"])


def test_the_reference_shows_each_function_as_it_is(conn):
    """The signature in the reference is the one in the database, with names and defaults."""
    document = re.sub(r"\s+", " ", REFERENCE.read_text(encoding="utf-8"))
    for name, arguments in conn.execute(
        "select p.proname, pg_catalog.pg_get_function_arguments(p.oid) from pg_catalog.pg_proc p"
        " where p.pronamespace = 'geosearch'::regnamespace"
    ).fetchall():
        plain = re.sub(r"::[\w \[\]]+?(?=,|$)", "", arguments)
        plain = plain.replace("double precision", "float8").replace("integer", "int").replace("DEFAULT", "default")
        plain = plain.replace("timestamp with time zone", "timestamptz").replace("INOUT", "inout")
        plain = re.sub(r"\bIN ", "", plain)  # of procedures
        for kind in ("space", "bank"):  # which are in this search_path
            plain = plain.replace(f"found_{kind} {kind}", f"found_{kind} geosearch.{kind}")
        plain = re.sub(r"NULL", "null", re.sub(r", OUT .*", "", plain))
        assert f"geosearch.{name}({plain})" in document, f"geosearch.{name}({plain})"


def test_every_example_of_the_reference_runs(world):
    """Each ```sql block with a select, on the toy archive."""
    blocks = re.findall(r"```sql\n(.*?)```", REFERENCE.read_text(encoding="utf-8"), re.DOTALL)
    ran = 0
    for block in blocks:
        if block.startswith(("select", "insert", "begin")):
            with world.conn.transaction(force_rollback=True):
                world.conn.execute(block)
            ran += 1
    assert ran >= 8
