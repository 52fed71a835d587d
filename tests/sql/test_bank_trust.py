"""Banks are made with the owner's rights, in a schema of extensions where others may make functions and operators."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from bank_spaces import Spaces
from psycopg import sql

OPERATORS = ["+", "-", "*", "/", "%", "<", "<=", ">", ">=", "=", "<>", "||"]
TYPES = ["smallint", "integer", "bigint", "real", "double precision", "numeric", "text", "varchar", "name", "vector"]
FUNCTIONS = [
    "abs", "array_length", "asin", "atan2", "cell", "cos", "degrees", "floor", "format", "generate_series",
    "jsonb_typeof", "l2_normalize", "md5", "radians", "round", "row_number", "substr", "unnest", "vector_dims",
    "vector_norm", "width_bucket",
]  # fmt: skip
AGGREGATES = ["array_agg", "count", "max", "min", "string_agg", "sum"]
TRAP = "returns {} language plpgsql as $$ begin raise exception 'the trap % was called', {}; end $$"


@pytest.fixture
def trapped(conn, superuser_url):
    """Two spaces; in public, whatever suits some arguments better than what pg_catalog has, and says so when called."""
    spaces = Spaces(conn, 30, placeless=2)
    conn.commit()
    with psycopg.connect(superuser_url, autocommit=True) as owner:

        def trap(name: str, kinds: tuple[str, ...], result: str = "integer") -> sql.Composed:
            return sql.SQL(f"create function public.{{}}({', '.join(kinds)}) " + TRAP.format(result, "{}")).format(
                sql.Identifier(name), f"{name}({', '.join(kinds)})"
            )

        there = "select 1 from pg_operator where oprname = %s and oprleft = %s::regtype and oprright = %s::regtype"
        for n, (operator, *kinds) in enumerate(itertools.product(OPERATORS, TYPES, TYPES)):
            if owner.execute(there, [operator, *kinds]).fetchone():
                continue
            result = "boolean" if operator[0] in "<>=" else "text" if operator == "||" else kinds[0]
            owner.execute(trap(f"of_operator_{n}", tuple(kinds), result))
            owner.execute(
                f"create operator public.{operator} (leftarg = {kinds[0]}, rightarg = {kinds[1]},"
                f" function = public.of_operator_{n})"
            )
        there = "select 1 from pg_proc where proname = %s and proargtypes[0] = %s::regtype and pronargs = 1"
        for name, kind in itertools.product(FUNCTIONS + AGGREGATES, TYPES):
            if owner.execute(there, [name, kind]).fetchone():
                continue
            if name in FUNCTIONS:
                owner.execute(trap(name, (kind,), "double precision"))
                owner.execute(trap(name, (kind, "text"), "double precision"))
            else:
                owner.execute(trap(f"of_{name}", ("bigint", kind), "bigint"))
                owner.execute(f"create aggregate public.{name}({kind}) (sfunc = public.of_{name}, stype = bigint)")
    return spaces


def test_nothing_of_others_is_called_with_the_rights_of_the_owner(trapped):
    conn = trapped.conn
    with pytest.raises(psycopg.errors.RaiseException, match=r"the trap of_operator_\d+"):
        conn.execute("set search_path = public; select 2::smallint || 'a'::name")
    conn.rollback()
    assert trapped.build(fraction=0.5, archive="a") == 7
    assert trapped.build(name="other") == 28
    for call in (
        "select geosearch.build_bank('third', 'unknown', 'enc')",
        "select geosearch.build_bank('third', 'k', 'unknown')",
        "select geosearch.build_bank('third', 'k', 'enc', archive => 'unknown')",
        "select geosearch.build_bank('other', 'k', 'enc')",
        "select geosearch.create_bank('a b', 'enc', 6, 4)",
        "select geosearch.create_bank('third', 'enc', 7, 4)",
        "select geosearch.finish_bank('unknown')",
        "select geosearch.drop_bank('unknown')",
    ):
        with pytest.raises(psycopg.Error) as caught, conn.transaction():
            conn.execute(call)
        assert "trap" not in str(caught.value)
    for damage, message in (
        ("update geosearch.bank_other set z = 2 where place = 1", "is no unit vector"),
        ("delete from geosearch.bank_other_values where component = 1", "has 3 components"),
        ("delete from geosearch.bank_other where place = 1", "place 1 of bank other is missing"),
    ):
        with pytest.raises(psycopg.Error, match=message), conn.transaction():
            conn.execute(damage)
            conn.execute("select geosearch.finish_bank('other')")
    for table, message in (
        ("v", "has a vector in space k but none in space v"),
        ("k", "in space v but none in space k"),
    ):
        with pytest.raises(psycopg.Error, match=message), conn.transaction():
            conn.execute(f"delete from geosearch.space_{table} where image_id = %s", [trapped.ids[5]])
            trapped.build(name="third")
    conn.execute("select geosearch.finish_bank('other'), geosearch.drop_bank('other')")
    conn.execute("delete from geosearch.image where id = %s", [trapped.ids[5]])
    conn.execute("select geosearch.fold_changes('image')")
