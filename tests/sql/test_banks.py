"""Banks made by hand are whole or refused with what is wrong; they outlive their images, and go without a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
import pytest
from bank_spaces import DK, DV, Spaces, bank_tables
from range_truth import ask, fill, install_encoder, make_bank, random_arrays


def test_a_bank_outlives_its_images_and_spaces(conn):
    spaces = Spaces(conn, 12)
    spaces.build()
    before, _ = ask(conn, "bank", 1.0, 2.0)
    ids = spaces.rows()[0]
    conn.execute("delete from geosearch.image where id = %s", [ids[0]])
    conn.execute("select geosearch.drop_space('k'), geosearch.drop_space('v')")
    assert spaces.rows()[0] == ids
    np.testing.assert_array_equal(ask(conn, "bank", 1.0, 2.0)[0], before)
    assert conn.execute("select key_space_id, value_space_id, key_model from geosearch.bank").fetchone() == (
        None, None, "k")  # fmt: skip


def test_dropping_a_bank_leaves_nothing_of_it(conn):
    spaces = Spaces(conn, 5)
    spaces.build()
    spaces.build(name="other")
    conn.execute("select geosearch.drop_bank('bank')")
    assert bank_tables(conn) == ["bank_other", "bank_other_values", "range_other", "range_other_stored"]
    with pytest.raises(psycopg.errors.UndefinedObject) as caught, conn.transaction():
        conn.execute("select geosearch.drop_bank('bank')")
    assert "Banks: other." in caught.value.diag.message_hint
    assert spaces.build() == 5


def test_admins_build_and_drop_and_ingest_stores(conn):
    spaces = Spaces(conn, 5)
    conn.commit()
    with conn.transaction():
        conn.execute("set local role geosearch_admin")
        spaces.build()
        make_bank(conn, "hand", random_arrays(3, DK, DV), "enc")
    owner = "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'geosearch'::regnamespace"
    assert conn.execute(owner).fetchall() == [("geosearch",)]
    with conn.transaction():
        conn.execute("set local role geosearch_ingest")
        conn.execute(
            "insert into geosearch.range_bank_stored select v.id, v.embedding, v.geom from geosearch.range_bank v"
        )
        conn.execute("update geosearch.bank set stored_at = now() where name = 'bank'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute("delete from geosearch.bank_bank")
    assert conn.execute("select count(*) from geosearch.range_bank_stored").fetchone() == (5,)
    conn.execute("delete from geosearch.image where id = %s", [spaces.ids[0]])
    assert conn.execute("select count(*) from geosearch.range_bank_stored").fetchone() == (4,)
    with conn.transaction():
        conn.execute("set local role geosearch_admin")
        conn.execute("select geosearch.drop_bank('hand')")


def filled(conn: psycopg.Connection[Any], places: int = 2500) -> None:
    install_encoder(conn, "enc", DK)
    conn.execute("select geosearch.create_bank('hand', 'enc', %s, %s)", [DK, DV])
    fill(conn, "hand", random_arrays(places, DK, DV))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("delete from bank_hand", "bank hand has no places"),
        ("delete from bank_hand where place in (17, 18)", "place 17 of bank hand is missing"),
        ("delete from bank_hand where place = 0", "place 0 of bank hand is missing"),
        (
            "update bank_hand set key = '[1,1,0,0,0,0]' where place = 2100",
            "the key of place 2100 of bank hand has length 1.41",
        ),
        (
            "update bank_hand set key = '[0.9985,0,0,0,0,0]' where place = 3",
            "the key of place 3 of bank hand has length 0.99",
        ),
        ("update bank_hand set z = z + 0.01 where place = 9", "place 9 of bank hand is no unit vector"),
        (
            "update bank_hand set x = 'nan' where place = 9",
            "place 9 of bank hand is no unit vector: its square is NaN",
        ),
        ("delete from bank_hand_values where block = 1", "block 1 of the values of bank hand has 0 components"),
        (
            "delete from bank_hand_values where block = 0 and component = 2",
            "block 0 of the values of bank hand has 3 components, from 0 to 3; 4 are due",
        ),
        (
            "update bank_hand_values set component = 4 where block = 1 and component = 1",
            "block 1 of the values of bank hand has 4 components, from 0 to 4; 4 are due",
        ),
        ("insert into bank_hand_values values (2, 0, '[1]')", "bank hand has values of block 2, but no places"),
        ("insert into bank_hand_values values (-1, 0, '[1]')", "bank hand has values of block -1, but no places"),
        (
            "update bank_hand_values set values = '[1,2]' where block = 1 and component = 1",
            "block 1 of the values of bank hand has rows of 2 to 500 places, not 500",
        ),
        (
            "delete from bank_hand where place = 2499",
            "block 1 of the values of bank hand has rows of 500 to 500 places, not 499",
        ),
    ],
)
def test_a_bank_that_is_not_whole_is_not_finished(conn, damage, message):
    filled(conn)
    conn.execute(damage.replace("bank_hand", "geosearch.bank_hand", 1))
    with pytest.raises(psycopg.Error) as caught, conn.transaction():
        conn.execute("select geosearch.finish_bank('hand')")
    assert message in caught.value.diag.message_primary
    assert "drop_bank" in caught.value.diag.message_hint
    assert conn.execute("select places, built_at from geosearch.bank").fetchone() == (0, None)
    assert bank_tables(conn) == ["bank_hand", "bank_hand_values", "range_hand_stored"]


@pytest.mark.parametrize(
    "row",
    [
        "insert into geosearch.bank_hand select 2500, 0, x, y, z, key from geosearch.bank_hand where place = 1",
        "insert into geosearch.bank_hand select -1, 0, x, y, z, key from geosearch.bank_hand where place = 1",
        "insert into geosearch.bank_hand select 5, 0, x, y, z, key from geosearch.bank_hand where place = 1",
        "update geosearch.bank_hand set key = '[1,0]'",
        "insert into geosearch.bank_hand_values values (0, 0, '[1]')",
    ],
)
def test_the_tables_themselves_refuse_some_of_it(conn, row):
    filled(conn)
    with pytest.raises((psycopg.IntegrityError, psycopg.DataError)):
        conn.execute(row)


def test_finishing_twice_is_the_same_as_once(conn):
    filled(conn)
    for _ in range(2):
        assert conn.execute("select geosearch.finish_bank('hand')").fetchone() == (2500,)
    assert conn.execute("select places from geosearch.bank where built_at is not null").fetchone() == (2500,)


def test_vectors_lie_in_their_pages(conn):
    """Stored apart they are read several times slower; what is wider than a page cannot lie in one."""
    filled(conn)
    conn.execute("select geosearch.create_bank('wide', 'other', 1900, 14100)")
    storage = (
        "select attrelid::regclass::text, attstorage from pg_attribute where atttypid = 'vector'::regtype"
        " and attrelid::regclass::text ~ '(bank|range)_(hand|wide)' and attnum > 0 order by 1"
    )
    found = {name.removeprefix("geosearch."): kind for name, kind in conn.execute(storage).fetchall()}
    assert found.pop("range_wide_stored") != "p"
    assert set(found.values()) == {"p"} and len(found) == 5
    toasted = conn.execute("select pg_relation_size(reltoastrelid) from pg_class where relname = 'bank_hand_values'")
    assert toasted.fetchone() in [(0,), None, (None,)]


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("'b', 'enc', 0, 4", "keys cannot have 0 dimensions", "1900"),
        ("'b', 'enc', 1901, 4", "keys cannot have 1901 dimensions", "1900"),
        ("'b', 'enc', null, 4", "keys cannot have null dimensions", "1900"),
        ("'b', 'enc', 6, 0", "values cannot have 0 dimensions", "16000"),
        ("'b', 'enc', 6, 15995", "values cannot have 15995 dimensions beside keys of 6", "16000"),
        ("'b', 'enc', 6, null", "values cannot have null dimensions", "16000"),
        ("'b', 'enc', 5, 4", "encoder enc makes vectors of 6 dimensions, the keys have 5", "encoder of these keys"),
        ("'b', '', 6, 4", "a bank needs the location encoder", "name"),
        ("'b', null, 6, 4", "a bank needs the location encoder", "name"),
        ("'b', 'enc', 6, 4, properties => null", "properties are no JSON object", "object"),
        ("'b', 'enc', 6, 4, properties => '[1]'", "properties are no JSON object", "object"),
        ("'there', 'enc', 6, 4", "there is a bank there already", "drop_bank"),
        ("'b c', 'enc', 6, 4", "'b c' cannot name a bank", "letter"),
    ],
)
def test_create_bank_refuses_with_a_hint(conn, arguments, message, hint):
    install_encoder(conn, "enc", DK)
    conn.execute("select geosearch.create_bank('there', 'enc', 6, 4)")
    with pytest.raises(psycopg.Error) as caught, conn.transaction():
        conn.execute(f"select geosearch.create_bank({arguments})")
    assert message in caught.value.diag.message_primary
    assert hint in caught.value.diag.message_hint
