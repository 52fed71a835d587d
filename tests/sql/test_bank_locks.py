"""Banks are built and dropped beside others who write images or ask other things; none of them waits for long."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from bank_spaces import DK, DV, Spaces

from geosearch.database.connection import connect


@pytest.fixture
def built(conn):
    spaces = Spaces(conn, 12)
    spaces.build()
    conn.commit()
    return spaces


def test_images_are_written_while_a_bank_is_filled(built, database_url):
    """The reference of its stored rows to images locks their table, and therefore is made last."""
    with connect(database_url, autocommit=True) as writer:
        writer.execute("set lock_timeout = '2s'")
        built.conn.execute("select geosearch.create_bank('other', 'enc', %s, %s)", [DK, DV])
        writer.execute("update geosearch.image set uri = 'meanwhile' where id = %s", [built.ids[0]])
    built.conn.rollback()
    stored = (
        "select confrelid::regclass::text, confdeltype from pg_constraint"
        " where contype = 'f' and conrelid = %s::regclass"
    )
    for _ in range(2):
        built.conn.execute("select geosearch.finish_bank('bank')")
        found = built.conn.execute(stored, ["geosearch.range_bank_stored"]).fetchall()
        assert [(name.removeprefix("geosearch."), kind) for name, kind in found] == [("image", "c")]


def test_a_search_locks_images_before_the_bank_as_dropping_does(built, database_url):
    with connect(database_url) as reader, connect(database_url, autocommit=True) as look:
        built.conn.execute("lock table geosearch.image in access exclusive mode")
        reader.execute("set lock_timeout = '5s'")

        def ask():
            with pytest.raises(psycopg.errors.LockNotAvailable):
                reader.execute("select * from geosearch.range_similar('bank', 'POINT(1 2)')")

        asking = threading.Thread(target=ask)
        pid = reader.info.backend_pid
        asking.start()
        waiting = "select count(*) from pg_locks where pid = %s and not granted"
        until = time.monotonic() + 4
        while look.execute(waiting, [pid]).fetchone() != (1,) and time.monotonic() < until:
            time.sleep(0.02)
        held = look.execute(
            "select relation::regclass::text from pg_locks where pid = %s and granted and relation is not null", [pid]
        ).fetchall()
        assert not [name for (name,) in held if "bank_bank" in name]
        assert look.execute(waiting, [pid]).fetchone() == (1,)
        asking.join()


def test_a_bank_may_be_dropped_that_has_lost_a_table(built):
    built.conn.execute("drop table geosearch.bank_bank_values")
    built.conn.execute("select geosearch.drop_bank('bank')")
    assert built.build() == 12


@pytest.mark.parametrize("name", ["pkey", "name_key", "bank_pkey", "id_seq"])
def test_a_name_that_other_objects_need_is_refused(built, name):
    with pytest.raises(psycopg.errors.DuplicateTable, match=f"a bank {name} would need the name of bank_") as caught:
        built.build(name=name)
    assert caught.value.diag.message_hint == "Choose another name."


@pytest.mark.parametrize("mode", ["soft", "topk", "top1", "mean"])
def test_a_bank_that_was_built_anew_since_the_snapshot_is_asked_again(built, database_url, mode):
    question = f"select geosearch.range_embedding('bank', 'POINT(1 2)', mode => '{mode}')::text"
    with connect(database_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before = reader.execute("select count(*) from geosearch.bank").fetchone()
        assert before == (1,)
        built.conn.execute("select geosearch.drop_bank('bank')")
        assert built.build() == 12
        built.conn.commit()
        with pytest.raises(psycopg.errors.SerializationFailure, match="bank bank was built anew meanwhile"):
            reader.execute(question)
        reader.rollback()
        assert reader.execute(question).fetchone() == built.conn.execute(question).fetchone()


def test_a_bank_whose_images_are_removed_meanwhile_is_built_again(built):
    """As build_bank fills it that has counted more images than there are now."""
    built.conn.execute("select geosearch.create_bank('other', 'enc', %s, %s)", [DK, DV])
    with pytest.raises(psycopg.errors.SerializationFailure, match="removed while bank other was built") as caught:
        built.conn.execute("select geosearch.fill_bank('other', 'k', 'v', null, 13, 13, 0)")
    assert caught.value.diag.message_hint == "Build it again."
