"""The count of changes of images: what counts, what does not, and that two equal counts mean that nothing happened."""

from __future__ import annotations

import threading

import psycopg
import pytest
from psycopg import sql

from geosearch.database.connection import connect

ADD = (
    "insert into geosearch.image (archive_id, name, nadir, reach_m)"
    " select a.id, 'i' || n, st_makepoint(n, n), 0 from geosearch.archive a, generate_series({}) n"
)
# As `geosearch catalog add` does.
UPSERT = (
    "insert into geosearch.image as i (archive_id, name, nadir, reach_m)"
    " select a.id, 'i1', {}, 0 from geosearch.archive a on conflict (archive_id, name) do update"
    " set nadir = excluded.nadir, footprint = excluded.footprint where i.nadir::bytea <> excluded.nadir::bytea"
)


def count(conn) -> int:
    return conn.execute("select geosearch.change_count('image')").fetchone()[0]


@pytest.fixture
def images(conn):
    conn.autocommit = True
    conn.execute("insert into geosearch.archive (name) values ('a')")
    conn.execute(sql.SQL(ADD).format(sql.SQL("1, 5")))
    return conn


def test_nothing_was_counted_of_an_empty_database(conn):
    assert count(conn) == 0


@pytest.mark.parametrize(
    "change",
    [
        sql.SQL(ADD).format(sql.SQL("6, 9")),
        sql.SQL(UPSERT).format(sql.SQL("'POINT(9 9)'::geography")),
        "delete from geosearch.image where name = 'i2'",
        "delete from geosearch.archive",
        "update geosearch.image set nadir = 'POINT(1 2)' where name = 'i3'",
        "update geosearch.image set nadir = null",
        "update geosearch.image set footprint = 'MULTIPOLYGON(((0 0, 1 0, 1 1, 0 0)))' where name = 'i3'",
        "truncate geosearch.image cascade",
    ],
)
def test_images_that_come_go_or_move_are_counted(images, change):
    before = count(images)
    images.execute(change)
    assert count(images) > before


@pytest.mark.parametrize(
    "change",
    [
        "select * from geosearch.image",
        "insert into geosearch.archive (name) values ('b')",
        sql.SQL(ADD).format(sql.SQL("6, 5")),
        sql.SQL(UPSERT).format(sql.SQL("'POINT(1 1)'::geography")),
        "delete from geosearch.image where name = 'nothing'",
        "update geosearch.image set uri = 'x', content_sha256 = sha256('x'), properties = '{\"a\": 1}'",
        "update geosearch.image set nadir = nadir",
        "update geosearch.image set nadir = 'POINT(1 2)' where name = 'nothing'",
    ],
)
def test_what_leaves_all_places_alone_is_not_counted(images, change):
    before = count(images)
    images.execute(change)
    assert count(images) == before


def test_what_is_rolled_back_never_happened(images):
    before = count(images)
    with images.transaction(force_rollback=True):
        images.execute("delete from geosearch.image")
        assert count(images) == before + 1
    assert count(images) == before


def test_a_snapshot_sees_the_count_that_belongs_to_its_images(images, database_url):
    look = "select geosearch.change_count('image'), (select count(*) from geosearch.image)"
    with connect(database_url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before = reader.execute(look).fetchone()
        images.execute("delete from geosearch.image where name = 'i1'")
        images.execute("select geosearch.fold_changes('image')")
        assert reader.execute(look).fetchone() == before == (1, 5)
        reader.rollback()
        assert reader.execute(look).fetchone() == (2, 4)


def test_two_writers_do_not_wait_for_each_other(images, database_url):
    with connect(database_url) as one, connect(database_url) as other:
        for conn, name in ((one, "i1"), (other, "i2")):
            conn.execute("set lock_timeout = '2s'")
            conn.execute("delete from geosearch.image where name = %s", [name])
        one.commit()
        assert count(images) == 2
        other.commit()
    assert count(images) == 3


def test_a_change_of_everything_after_many_small_ones_is_not_compared_row_by_row(images):
    """Triggers keep their plans; one made for single rows took four minutes for these."""
    images.execute(sql.SQL(ADD).format(sql.SQL("6, 30000")))
    for n in range(12):
        images.execute("update geosearch.image set uri = %s where name = 'i1'", [str(n)])
    images.execute("set statement_timeout = '30s'")
    images.execute("update geosearch.image set uri = 'all'")
    assert count(images) == 2


def test_folding_keeps_the_count_in_one_row(images):
    for name in ("i1", "i2", "i3"):
        images.execute("delete from geosearch.image where name = %s", [name])
    before = count(images)
    assert images.execute("select geosearch.fold_changes('image')").fetchone() == (4,)
    assert images.execute("select subject, changes from geosearch.change").fetchall() == [("image", before)]
    assert images.execute("select geosearch.fold_changes('image')").fetchone() == (1,)
    assert count(images) == before
    assert images.execute("select geosearch.fold_changes('nothing')").fetchone() == (0,)
    assert images.execute("select count(*) from geosearch.change").fetchone() == (1,)


def test_folding_beside_writers_and_other_folding_loses_nothing(images, database_url):
    rounds, failures = 40, []

    def work(statement):
        try:
            with connect(database_url, autocommit=True) as conn:
                for _ in range(rounds):
                    conn.execute(statement)
        except Exception as error:
            failures.append(error)

    move = "update geosearch.image set nadir = st_makepoint(st_x(nadir::geometry), random()) where name = '{}'"
    jobs = [move.format("i1"), move.format("i2"), *["select geosearch.fold_changes('image')"] * 2]
    threads = [threading.Thread(target=work, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert count(images) == 1 + 2 * rounds
