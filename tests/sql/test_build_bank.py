"""A bank out of two spaces in SQL alone: what it holds, which fraction it takes, and what is refused by name."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from bank_spaces import DK, DV, Spaces, bank_tables
from pgvector import HalfVector
from range_truth import Arrays, ask, encode, error, truth

from geosearch.geometry import lat_lon


def test_a_bank_holds_the_keys_of_one_space_and_the_values_of_another(conn):
    spaces = Spaces(conn, 2345, placeless=45)
    assert spaces.build() == 2300
    ids, units, keys, values = spaces.rows()
    assert sorted(ids) == spaces.ids[45:]
    at = [spaces.ids.index(i) for i in ids]
    unit = spaces.keys[at].astype(np.float64)
    np.testing.assert_allclose(keys, unit / np.linalg.norm(unit, axis=1, keepdims=True), atol=1e-7)
    np.testing.assert_array_equal(values, spaces.values[at].astype(np.float64))
    lat, lon = lat_lon(units)
    np.testing.assert_allclose(lat, spaces.lat[at], atol=1e-12)
    np.testing.assert_allclose(lon, spaces.lon[at], atol=1e-12)
    cells = [row[0] for row in conn.execute(
        "select geosearch.cell(x, y, z, 0) from geosearch.bank_bank order by place").fetchall()]  # fmt: skip
    assert cells == sorted(cells)
    bank = conn.execute(
        "select encoder, key_model, value_model, places, keys_normalised, values_normalised, source, properties,"
        " built_at is not null, (select s.name from geosearch.space s where s.id = b.key_space_id),"
        " (select s.name from geosearch.space s where s.id = b.value_space_id) from geosearch.bank b"
    ).fetchone()
    assert bank[:6] == ("enc", "k", "v", 2300, True, False)
    assert bank[6] == "space k and values of space v"
    assert bank[7] == {
        "keys": "k", "values": "v", "archive": None, "fraction": 1, "seed": 0, "candidates": 2300, "without_place": 45,
    }  # fmt: skip
    assert bank[8:] == (True, "k", "v")
    assert bank_tables(conn) == ["bank_bank", "bank_bank_values", "range_bank", "range_bank_stored"]


def test_a_built_bank_answers_as_its_arrays_do(conn):
    spaces = Spaces(conn, 500)
    spaces.build()
    _, units, keys, values = spaces.rows()
    lat, lon = lat_lon(units)
    arrays = Arrays(lat, lon, keys.astype(np.float32), values.astype(np.float32))
    for options in ({}, {"mode": "topk", "k": 5}, {"beta": 0, "min_cos": 0.5}):
        found, account = ask(conn, "bank", 48.0, 11.0, **options)
        right = truth(arrays, encode(conn, "enc", 48.0, 11.0), 48.0, 11.0, **options)
        assert error(found[:DV], right.expected) < 1e-5
        assert account.places == right.places


def test_values_come_from_the_space_of_the_keys_where_no_other_is_named(conn):
    spaces = Spaces(conn, 30)
    assert spaces.build(values=None, archive="a") == 15
    ids, _, _, values = spaces.rows()
    assert sorted(ids) == spaces.ids[::2]
    np.testing.assert_array_equal(values, spaces.keys[[spaces.ids.index(i) for i in ids]].astype(np.float64))


def test_a_fraction_has_the_exact_count_and_is_spread_along_the_order_of_cells(conn):
    spaces = Spaces(conn, 1000)
    spaces.build(name="whole")
    order = spaces.rows("whole")[0]
    picked = {}
    for seed in (0, 1):
        for fraction, count in ((0.1, 100), (0.25, 250), (1 / 3, 333), (0.75, 750), (1.0, 1000), (1e-9, 1)):
            name = f"part_{seed}_{count}"
            assert spaces.build(name=name, fraction=fraction, seed=seed) == count
            ids = spaces.rows(name)[0]
            places = np.array([order.index(i) for i in ids])
            assert len(set(ids)) == count and (np.diff(places) > 0).all()
            # Of every stretch of the order as many as its share, give or take one.
            for start in range(0, 1000, 100):
                inside = int(((places >= start) & (places < start + 100)).sum())
                assert abs(inside - 100 * count / 1000) <= 1
            picked[seed, count] = ids
    assert picked[0, 100] != picked[1, 100]
    assert spaces.build(name="again", fraction=0.1, seed=1) == 100
    assert spaces.rows("again")[0] == picked[1, 100]


def test_wide_values_and_more_than_one_block_are_cut_crosswise(conn):
    spaces = Spaces(conn, 10)
    conn.execute("select geosearch.create_space('wide', 4100)")  # stored apart from its rows
    wide = np.random.default_rng(1).standard_normal((10, 4100)).astype(np.float16)
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into geosearch.space_wide (image_id, embedding) values (%s, %s)",
            [(i, HalfVector(v)) for i, v in zip(spaces.ids, wide, strict=True)],
        )
    assert spaces.build(values="wide") == 10
    ids, _, _, values = spaces.rows()
    np.testing.assert_array_equal(values, wide[[spaces.ids.index(i) for i in ids]].astype(np.float64))
    assert len(ask(conn, "bank", 1.0, 2.0)[0]) == 4100 + DK


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"keys": "nothing"}, "no space is named 'nothing'", "Spaces: k, v."),
        ({"keys": None}, "no space of keys is given", "trained for"),
        ({"values": "nothing"}, "no space is named 'nothing'", "Spaces: k, v."),
        ({"archive": "nothing"}, "no archive is named 'nothing'", "Archives: a, b."),
        ({"encoder": "nothing"}, "location encoder 'nothing' is not in this database", "geosearch model install-sql"),
        ({"encoder": "nothing"}, "location encoder 'nothing'", "Here: enc."),
        ({"encoder": None}, "no location encoder is given", "Here: enc."),
        ({"encoder": "k"}, "location encoder 'k' is not in this database", "Here: enc."),
        ({"keys": "v"}, "encoder enc makes vectors of 6 dimensions, the keys have 4", "of these keys"),
        ({"fraction": 0}, "fraction is 0", "above 0"),
        ({"fraction": 1.1}, "fraction is 1.1", "above 0"),
        ({"fraction": float("nan")}, "fraction is NaN", "above 0"),
        ({"fraction": None}, "fraction is null", "above 0"),
        ({"seed": None}, "seed is null", "whole number"),
        ({"name": "Bad"}, "'Bad' cannot name a bank", "lower case"),
        ({"name": "x_values"}, "'x_values' cannot name a bank", "_values"),
        ({"name": "x_stored"}, "'x_stored' cannot name a bank", "_stored"),
        ({"name": None}, "NULL cannot name a bank", "lower case"),
    ],
)
def test_what_makes_no_bank_is_refused_and_leaves_nothing(conn, given, message, hint):
    spaces = Spaces(conn, 4)
    with pytest.raises(psycopg.Error) as caught, conn.transaction():
        spaces.build(**given)
    assert message in caught.value.diag.message_primary
    assert hint in caught.value.diag.message_hint
    assert bank_tables(conn) == []
    assert conn.execute("select count(*) from geosearch.bank").fetchone() == (0,)


def test_an_image_of_one_space_alone_is_refused_by_name(conn):
    spaces = Spaces(conn, 20)
    conn.execute("delete from geosearch.space_v where image_id = any (%s)", [spaces.ids[7:9]])
    with pytest.raises(psycopg.errors.NoDataFound) as caught, conn.transaction():
        spaces.build()
    assert caught.value.diag.message_primary == (
        f"image i7 ({spaces.ids[7]}) has a vector in space k but none in space v"
    )
    assert caught.value.diag.message_hint == "There are 2 such images. Embed them: geosearch embed --space v."
    with pytest.raises(psycopg.errors.NoDataFound, match=r"image i8 .* space k but none .* v"), conn.transaction():
        spaces.build(archive="a")
    conn.execute("delete from geosearch.space_k where image_id = any (%s)", [spaces.ids[7:10]])
    with pytest.raises(psycopg.errors.NoDataFound, match=r"image i9 .* space v but none .* k"), conn.transaction():
        spaces.build()
    assert spaces.build(archive="a") == 9


def test_a_place_and_vector_that_are_there_twice_are_refused_by_name(conn):
    spaces = Spaces(conn, 20)
    one, two, three = (spaces.ids[n] for n in (3, 5, 8))
    move = "update geosearch.image set nadir = (select nadir from geosearch.image where id = %s) where id = any (%s)"
    conn.execute(move, [one, [two, three]])
    assert spaces.build(name="same_place") == 20
    conn.execute(
        "update geosearch.space_k set embedding = (select embedding from geosearch.space_k where image_id = %s)"
        " where image_id = %s", [one, three])  # fmt: skip
    with pytest.raises(psycopg.errors.UniqueViolation) as caught, conn.transaction():
        spaces.build()
    assert caught.value.diag.message_primary == (
        f"images i3 ({one}), i8 ({three}) of space k have the same place and the same vector"
    )
    assert spaces.build(archive="a") == 10


def test_without_a_single_place_there_is_no_bank(conn):
    spaces = Spaces(conn, 3, placeless=3)
    with pytest.raises(psycopg.errors.NoDataFound, match="no image that has a place has a vector in space k"):
        spaces.build()
