"""What cannot be asked of a bank is refused, by every function that asks one, with what was wrong and what to do."""

from __future__ import annotations

import psycopg
import pytest
from range_truth import fill, install_encoder, make_bank, random_arrays

POINT = "'POINT(10 45)'"
REFUSED = [
    (f"null, {POINT}", "no bank is given", "Banks: empty, good, nobody, other, whole."),
    (f"'nothing', {POINT}", "no bank is named 'nothing'", "Banks: empty, good, nobody, other, whole."),
    (f"'Good', {POINT}", "no bank is named 'Good'", "Banks: empty, good"),
    (f"'empty', {POINT}", "bank empty is not finished: it has no places yet", "select geosearch.finish_bank('empty')"),
    (f"'whole', {POINT}", "bank whole is not finished: it has no places yet", "select geosearch.finish_bank('whole')"),
    (f"'nobody', {POINT}", "no location encoder is named 'nobody'", "geosearch model install-sql"),
    (f"'other', {POINT}", "encoder enc makes vectors of 4 dimensions, the keys of bank other have 3", "build the bank"),
    ("'good', null", "the place is null", "st_makepoint(lon, lat)"),
    ("'good', 'POINT EMPTY'", "the place is empty", "st_makepoint(lon, lat)"),
    ("'good', 'LINESTRING(0 0,1 1)'", "the place is a LINESTRING", "Give a point"),
    ("'good', st_makepoint('nan', 1)::geography", "not a number", "st_makepoint(lon, lat)"),
    ("'good', st_makepoint(1, 'infinity')::geography", "not a number", "st_makepoint(lon, lat)"),
    ("'good', 'SRID=4269;POINT(0 0)'", "SRID 4269", "WGS 84"),
    (f"'good', {POINT}, beta => -0.01", "beta is -0.01", "HAVER"),
    (f"'good', {POINT}, beta => 1.01", "beta is 1.01", "HAVER"),
    (f"'good', {POINT}, beta => 'nan'", "beta is NaN", "HAVER"),
    (f"'good', {POINT}, beta => null", "beta is null", "HAVER"),
    (f"'good', {POINT}, tau_sem => 0", "tau_sem is 0", "above 0"),
    (f"'good', {POINT}, tau_sem => -1", "tau_sem is -1", "above 0"),
    (f"'good', {POINT}, tau_sem => 'nan'", "tau_sem is NaN", "above 0"),
    (f"'good', {POINT}, tau_sem => 'infinity'", "tau_sem is Infinity", "up to 1e6"),
    (f"'good', {POINT}, tau_geo => 0", "tau_geo is 0", "above 0"),
    (f"'good', {POINT}, tau_geo => 1000001", "tau_geo is 1000001", "up to 1e6"),
    (f"'good', {POINT}, tau_geo => 'nan', beta => 1", "tau_geo is NaN", "above 0"),
    (f"'good', {POINT}, tau_geo => null", "tau_geo is null", "above 0"),
    (f"'good', {POINT}, min_cos => 1.1", "min_cos is 1.1", "from -1 to 1"),
    (f"'good', {POINT}, min_cos => -1.1", "min_cos is -1.1", "from -1 to 1"),
    (f"'good', {POINT}, min_cos => 'nan'", "min_cos is NaN", "from -1 to 1"),
    (f"'good', {POINT}, min_cos => 0.9999999999", "no place of bank good lies within 0.001 degrees", "Lower min_cos"),
    (
        f"'good', {POINT}, min_cos => 1, mode => 'topk'",
        "no place of bank good lies within 0.000 degrees",
        "leave it out",
    ),
    (f"'good', {POINT}, mode => 'hard'", "no mode is named 'hard'", "soft, topk, top1 or mean"),
    (f"'good', {POINT}, mode => 'SOFT'", "no mode is named 'SOFT'", "soft, topk, top1 or mean"),
    (f"'good', {POINT}, mode => null", "no mode is named NULL", "soft, topk, top1 or mean"),
]


@pytest.fixture(scope="module")
def banks(module_database_url):
    """Good; empty and whole, which nobody finished; nobody, whose encoder is missing; other, whose does not fit."""
    from geosearch.database.connection import connect

    with connect(module_database_url, autocommit=True) as conn:
        install_encoder(conn, "enc", 4)
        make_bank(conn, "good", random_arrays(30, 4, 3), "enc")
        make_bank(conn, "nobody", random_arrays(30, 4, 3), "nobody")
        for name in ("empty", "whole"):
            conn.execute("select geosearch.create_bank(%s, 'enc', 4, 3)", [name])
        fill(conn, "whole", random_arrays(30, 4, 3))
        make_bank(conn, "other", random_arrays(30, 3, 3), "later")
        conn.execute("update geosearch.bank set encoder = 'enc' where name = 'other'")
        conn.execute("select geosearch.create_space('values', 3)")
        yield conn


def refused(conn, statement, message, hint):
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(statement)
    assert message in caught.value.diag.message_primary
    assert hint in (caught.value.diag.message_hint or "")


@pytest.mark.parametrize(("arguments", "message", "hint"), REFUSED)
def test_what_cannot_be_embedded_is_refused(banks, arguments, message, hint):
    for function in ("range_embedding", "range_account"):
        refused(banks, f"select * from geosearch.{function}({arguments})", message, hint)
    refused(banks, f"select * from geosearch.range_similar({arguments}, space => 'values')", message, hint)


@pytest.mark.parametrize(("k", "said"), [("0", "0"), ("-5", "-5"), ("null", "null")])
def test_at_least_one_place_is_kept_and_one_image_asked_for(banks, k, said):
    for mode in ("soft", "topk"):
        for function in ("range_embedding", "range_account"):
            refused(banks, f"select * from geosearch.{function}('good', {POINT}, mode => '{mode}', k => {k})",
                    f"k is {said}", "at least 1 place")  # fmt: skip
    similar = f"select * from geosearch.range_similar('good', {POINT}, space => 'values'"
    refused(banks, f"{similar}, mode_k => {k})", f"k is {said}", "at least 1 place")
    refused(banks, f"{similar}, k => {k})", f"k is {said}", "at least 1 image")


@pytest.mark.parametrize(
    "call", ["range_state(%s)", "bank_of(%s)", "finish_bank(%s)", "drop_bank(%s)", "create_bank_view(%s)"]
)
def test_every_function_of_a_bank_names_those_that_exist(banks, call):
    for name in ("nothing", None, ""):
        with pytest.raises(psycopg.errors.UndefinedObject) as caught:
            banks.execute(f"select geosearch.{call}", [name])
        assert "Banks: empty, good, nobody, other, whole." in caught.value.diag.message_hint


def test_where_there_is_no_bank_the_hint_says_what_makes_one(conn):
    with pytest.raises(psycopg.errors.UndefinedObject) as caught:
        conn.execute(f"select geosearch.range_embedding('mine', {POINT})")
    assert caught.value.diag.message_hint == "Banks: none yet; geosearch.build_bank makes one."


def test_a_weight_that_is_missing_is_told_rather_than_computed_with(banks):
    with banks.transaction(force_rollback=True):
        banks.execute("delete from geosearch.location_weight where layer = 1 and unit = 2")
        refused(banks, f"select geosearch.range_embedding('good', {POINT})", "not in this database, or not whole",
                "geosearch model install-sql enc")  # fmt: skip
