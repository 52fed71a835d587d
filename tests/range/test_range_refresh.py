"""Stored embeddings of a whole archive: what is computed, what is left, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from range_database import add_archive, location_encoder
from toy_bank import random_bank, relative

from geosearch.database.connection import connect
from geosearch.errors import DatabaseError, InputError, UnknownNameError
from geosearch.range.bank import Bank
from geosearch.range.build import ensure_installed
from geosearch.range.options import Retrieval
from geosearch.range.reference import embed
from geosearch.range.refresh import refresh
from geosearch.range.store import drop_bank, read_bank, write_bank


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[tuple[psycopg.Connection, np.ndarray, Bank]]:
    """60 images, 58 of them with a place, and a bank `toy`."""
    with connect(database_url, autocommit=True) as conn:
        ids = add_archive(conn, spaces=False)
        encoder = location_encoder(tmp_path / "encoder")
        ensure_installed(conn, encoder)
        plain = random_bank(300)
        write_bank(conn, Bank.of("toy", encoder, plain.lat, plain.lon, plain.keys, plain.values))
        yield conn, ids, read_bank(conn, "toy")


def stored(conn: psycopg.Connection) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Image ids, latitudes, longitudes and embeddings that are stored."""
    rows = conn.execute(
        "select image_id, st_y(geom), st_x(geom), embedding from geosearch.range_toy_stored order by image_id"
    ).fetchall()
    return [r[0] for r in rows], *(np.array([r[i] for r in rows]) for i in (1, 2)), np.array(
        [r[3].to_numpy() for r in rows]
    )  # fmt: skip


def state(conn: psycopg.Connection) -> tuple[int, int, bool]:
    row = conn.execute("select images, stored, changed from geosearch.range_state('toy')").fetchone()
    assert row is not None
    return row


def test_every_image_with_a_place_is_stored_once(world) -> None:
    conn, ids, bank = world
    assert state(conn) == (58, 0, True)
    done = refresh(conn, "toy", batch=7)
    assert (done.images, done.added, done.moved, done.unchanged, done.gone, done.anew) == (58, 58, 0, 0, 0, True)
    found, lat, lon, vectors = stored(conn)
    assert found == ids[2:].tolist()
    assert relative(vectors, embed(bank, lat, lon).embedding) < 1e-5
    assert state(conn) == (58, 58, False)
    of_view = conn.execute("select embedding from geosearch.range_toy where id = %s", [found[5]]).fetchone()
    assert relative(of_view[0].to_numpy()[None], vectors[5:6]) < 1e-5
    again = refresh(conn, "toy")
    assert (again.up_to_date, again.added, again.unchanged) == (True, 0, 58)


def test_only_what_is_new_or_moved_is_computed(world) -> None:
    conn, ids, bank = world
    refresh(conn, "toy")
    before = dict(zip(*stored(conn)[::3], strict=True))
    add_archive(conn, "later", 12, seed=9, spaces=False)
    conn.execute("update geosearch.image set nadir = st_geogfromtext('point(11 47)') where id = %s", [int(ids[10])])
    conn.execute("update geosearch.image set nadir = null where id = %s", [int(ids[11])])
    conn.execute("delete from geosearch.image where id = %s", [int(ids[12])])
    assert state(conn) == (66, 57, True)
    done = refresh(conn, "toy")
    assert (done.images, done.added, done.moved, done.unchanged, done.removed) == (66, 10, 1, 55, 1)
    found, lat, lon, vectors = stored(conn)
    assert len(found) == 66
    assert relative(vectors, embed(bank, lat, lon).embedding) < 1e-5
    at = found.index(ids[10])
    assert (lat[at], lon[at]) == (47, 11)
    assert sum(np.array_equal(before[i], v) for i, v in zip(found, vectors, strict=True) if i in before) == 55
    assert state(conn) == (66, 66, False)


def test_other_options_and_another_bank_compute_all_anew(world, tmp_path: Path) -> None:
    conn, _, bank = world
    refresh(conn, "toy")
    done = refresh(conn, "toy", Retrieval(beta=1))
    assert (done.anew, done.added) == (True, 58)
    _, lat, lon, vectors = stored(conn)
    assert relative(vectors, embed(bank, lat, lon, Retrieval(beta=1)).embedding) < 1e-5
    assert refresh(conn, "toy", Retrieval(beta=1, tau_sem=15.0)).up_to_date  # 15 is RANGE's own
    assert refresh(conn, "toy", Retrieval(beta=1), anew=True).added == 58
    drop_bank(conn, "toy")
    write_bank(conn, bank.take(np.arange(100)))
    done = refresh(conn, "toy", Retrieval(beta=1))
    assert (done.anew, done.added) == (True, 58)


def test_a_run_that_was_stopped_is_continued(world) -> None:
    conn, ids, _ = world

    def stop(done: int, of: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refresh(conn, "toy", batch=10, progress=stop)
    assert state(conn) == (58, 20, True)
    assert conn.execute("select stored_at from geosearch.bank").fetchone() == (None,)
    done = refresh(conn, "toy", batch=10)
    assert (done.added, done.unchanged, done.anew) == (38, 20, False)
    assert stored(conn)[0] == ids[2:].tolist()


def test_what_others_do_meanwhile_is_for_the_next_run(world) -> None:
    conn, ids, bank = world

    def meddle(done: int, of: int) -> None:
        if done == 10:
            conn.execute("delete from geosearch.image where id = %s", [int(ids[40])])
            conn.execute(
                "update geosearch.image set nadir = st_geogfromtext('point(1 2)') where id = %s", [int(ids[50])]
            )
            add_archive(conn, "meanwhile", 5, seed=2, spaces=False)

    done = refresh(conn, "toy", batch=10, progress=meddle)
    assert (done.images, done.added, done.gone) == (58, 57, 1)
    assert state(conn) == (60, 57, True)
    done = refresh(conn, "toy")
    assert (done.added, done.moved, done.unchanged) == (3, 1, 56)
    _, lat, lon, vectors = stored(conn)
    assert relative(vectors, embed(bank, lat, lon).embedding) < 1e-5
    assert state(conn) == (60, 60, False)


def test_one_run_at_a_time_and_none_over_a_dropped_bank(world) -> None:
    conn, _, bank = world
    said: list[str] = []

    def again(done: int, of: int) -> None:
        with pytest.raises(InputError, match="being refreshed by another run") as error:
            refresh(conn, "toy")
        said.append(str(error.value))

    refresh(conn, "toy", progress=again)
    assert said

    def drop(done: int, of: int) -> None:
        if done == 10:
            drop_bank(conn, "toy")
            write_bank(conn, bank)  # of the same name and sizes: not the one that the run knows

    with pytest.raises(DatabaseError, match="was dropped meanwhile"):
        refresh(conn, "toy", anew=True, batch=10, progress=drop)
    assert state(conn) == (58, 0, True)
    with pytest.raises(UnknownNameError, match="there is: toy"):
        refresh(conn, "other")


def test_min_cos_leaves_lonely_images_out(world) -> None:
    conn, _, _ = world
    done = refresh(conn, "toy", Retrieval(min_cos=0.999))
    assert done.lonely > 0
    assert done.added + done.lonely == 58
    assert len(stored(conn)[0]) == done.added


def test_an_image_that_is_moved_where_it_is_lonely_keeps_no_row_of_its_old_place(world) -> None:
    conn, _, _ = world
    options = Retrieval(min_cos=0.99)
    refresh(conn, "toy", options)
    found, _, _, _ = stored(conn)
    lonely = conn.execute(
        "select nadir::text from geosearch.image where nadir is not null and id <> all (%s) limit 1", [found]
    ).fetchone()
    assert lonely is not None
    conn.execute("update geosearch.image set nadir = %s::geography where id = %s", [lonely[0], found[3]])
    done = refresh(conn, "toy", options)
    assert (done.moved, done.gone) == (0, 0)
    assert stored(conn)[0] == found[:3] + found[4:]


def test_who_catalogues_may_refresh_and_who_reads_may_not(world, superuser_url: str) -> None:
    as_group = "-c role=geosearch_{}".format
    assert refresh(make_conninfo(superuser_url, options=as_group("ingest")), "toy").added == 58
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        refresh(make_conninfo(superuser_url, options=as_group("read")), "toy", anew=True)
    assert state(world[0]) == (58, 58, False)
