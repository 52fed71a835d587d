"""Moments while others write, merge, compute, reorder and drop, and who may do what."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from moments_toy import D, Toy, toy
from moments_truth import never_wrong, stored

from geosearch.compose.moments import Moments
from geosearch.database.connection import connect
from geosearch.database.moments import (
    compute_moments,
    edition_of,
    merge_moments,
    moments_state,
    read_moments,
    write_moments,
)
from geosearch.database.reorder import reorder
from geosearch.database.spaces import create_space, drop_space, get_space
from geosearch.errors import DatabaseError, UnknownNameError

__all__ = ["toy"]  # a fixture, imported by name


def test_any_sequence_of_changes_and_merges(toy: Toy) -> None:
    """Runs that merge what they added, between statements of others: right or late, after every step."""
    rng = np.random.default_rng(7)
    space = get_space(toy.conn, "toy")
    were_current = merged = 0
    for _ in range(120):
        step = int(rng.integers(0, 8))
        present = {int(row[0]) for row in toy.conn.execute("select image_id from geosearch.space_toy").fetchall()}
        absent = sorted(set(toy.ids) - present)
        if step <= 2 and absent:  # a run, alone
            edition = edition_of(toy.conn, space)
            new = [int(i) for i in rng.permutation(absent)[:3]]
            added = Moments.of(toy.add(new[:1])) + Moments.of(toy.add(new[1:]) if new[1:] else np.empty((0, D)))
            assert edition is not None
            merged += merge_moments(toy.conn, space, edition, added, 2 if new[1:] else 1)
        elif step == 3 and len(absent) > 1:  # a run that somebody disturbs
            edition = edition_of(toy.conn, space)
            added = Moments.of(toy.add(absent[:1]))
            if rng.random() < 0.5:
                compute_moments(toy.url, "toy")
            else:
                toy.add(absent[1:2])
            assert edition is not None
            merge_moments(toy.conn, space, edition, added, 1)
        elif step == 4 and present:
            toy.execute("delete from geosearch.space_toy where image_id = any (%s)", sorted(present)[:2])
        elif step == 5:
            toy.execute("select geosearch.fold_changes('vectors ' || id) from geosearch.space")
        elif step >= 6:
            compute_moments(toy.url, "toy")
        were_current += toy.current()
    assert were_current > 40
    assert merged > 10


def test_two_runs_merge_in_any_order_and_only_then_are_moments_current(toy: Toy) -> None:
    space = get_space(toy.conn, "toy")
    edition = edition_of(toy.conn, space)
    assert edition is not None
    one, other = (Moments.of(toy.add(toy.ids[first : first + 4])) for first in (25, 30))
    third = Moments.of(toy.add(toy.ids[34:36])) + Moments.of(toy.add(toy.ids[36:39]))
    assert moments_state(toy.conn, "toy").changes_since == 4
    for added, statements in ((other, 1), (third, 2), (one, 1)):
        assert not toy.current()
        assert merge_moments(toy.conn, space, edition, added, statements)
    assert toy.current()
    assert edition_of(toy.conn, space) == edition


def test_merges_at_the_same_time_wait_for_each_other(toy: Toy) -> None:
    space = get_space(toy.conn, "toy")
    edition = edition_of(toy.conn, space)
    assert edition is not None
    parts = [Moments.of(toy.add([image])) for image in toy.ids[25:37]]
    failures: list[Exception] = []

    def merge(part: Moments) -> None:
        try:
            with connect(toy.url, autocommit=True) as conn:
                assert merge_moments(conn, space, edition, part, 1)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=merge, args=[part]) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert toy.current()


def test_moments_are_those_of_one_snapshot(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes while vectors are being read."""
    before = stored(toy.conn, "toy")
    done = compute_moments(toy.url, "toy", lambda done, of: _disturb(toy), anew=True)
    assert (done.computed, done.current, done.counted) == (True, False, 25)
    found = read_moments(toy.conn, get_space(toy.conn, "toy"))
    assert found is not None
    np.testing.assert_allclose(found.mean, before.mean(0), rtol=1e-12)
    assert not toy.current()


def _disturb(toy: Toy) -> None:
    toy.execute("delete from geosearch.space_toy where image_id = any (%s)", toy.ids[:4])
    toy.execute("select geosearch.fold_changes('vectors ' || id) from geosearch.space")


def test_who_comes_too_late_does_not_replace_what_is_current(toy: Toy) -> None:
    space = get_space(toy.conn, "toy")
    old = read_moments(toy.conn, space)
    toy.add(toy.ids[30:33])
    compute_moments(toy.url, "toy")
    assert old is not None
    write_moments(toy.conn, space, old, 1)  # of the snapshot before
    assert toy.current()
    toy.add(toy.ids[33:35])
    write_moments(toy.conn, space, old, 1)  # late, as what is there
    assert not toy.current()


def test_a_transaction_older_than_the_space_is_counted(toy: Toy) -> None:
    with connect(toy.url) as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("select 1 from geosearch.image")
        create_space(toy.conn, "young", D)
        compute_moments(toy.url, "young")
        assert never_wrong(toy.conn, "young").current
        old.execute(
            "insert into geosearch.space_young (image_id, embedding) values (%s, '[1,2,3,4,5,6,7,8]')", toy.ids[:1]
        )
        old.commit()
    assert not never_wrong(toy.conn, "young").current


def test_writers_do_not_wait_for_each_other_nor_for_moments(toy: Toy) -> None:
    with connect(toy.url) as one, connect(toy.url) as other:
        for conn, first in ((one, 0), (other, 1)):
            conn.execute("set lock_timeout = '2s'")
            toy.add(toy.ids[first:20:2], conn)
        assert compute_moments(toy.url, "toy", anew=True).current
        one.commit()
        assert not toy.current()
        assert compute_moments(toy.url, "toy").current
        other.commit()
    assert not toy.current()


def test_an_order_restored_leaves_moments_current(toy: Toy) -> None:
    before = moments_state(toy.conn, "toy")
    assert reorder(toy.url, "toy", rebuild_always=True, force=True).done == "reorder"
    assert never_wrong(toy.conn, "toy") == before
    toy.add(toy.ids[:1])  # the new table counts as well
    assert moments_state(toy.conn, "toy").changes_since == 1


def test_a_space_dropped_meanwhile_is_an_unknown_one(toy: Toy) -> None:
    create_space(toy.conn, "fleeting", D)
    toy.execute(
        "insert into geosearch.space_fleeting (image_id, embedding) select image_id, embedding from geosearch.space_toy"
    )
    space = get_space(toy.conn, "fleeting")
    drop_space(toy.conn, "fleeting")
    with pytest.raises(UnknownNameError, match="fleeting"):
        write_moments(toy.conn, space, Moments.none(D), 0)
    with pytest.raises(UnknownNameError, match="there is: toy"):
        compute_moments(toy.url, "fleeting")
    with pytest.raises(UnknownNameError, match="there is: toy"):
        moments_state(toy.conn, "fleeting")
    with pytest.raises(psycopg.errors.UndefinedObject, match="fleeting"):
        toy.execute("select * from geosearch.moments_state('fleeting')")


@pytest.fixture
def as_group(toy: Toy, server: str) -> Iterator[Callable[[str], str]]:
    yield lambda group: f"{toy.url}&options=-crole%3D{group}"


def test_who_writes_vectors_may_keep_moments(toy: Toy, as_group: Callable[[str], str]) -> None:
    url = as_group("geosearch_ingest")
    with connect(url, autocommit=True) as conn:
        space, edition = get_space(conn, "toy"), edition_of(conn, get_space(conn, "toy"))
        assert edition is not None
        added = Moments.of(toy.add(toy.ids[25:28], conn))
        assert merge_moments(conn, space, edition, added, 1)
        assert toy.current()
        toy.add(toy.ids[:3], conn)
        conn.execute("delete from geosearch.image where id = %s", toy.ids[3:4])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("insert into geosearch.change (subject, changes) values ('vectors 1', -1)")
    assert compute_moments(url, "toy").current
    assert toy.current()


def test_who_may_only_read_sees_moments_and_is_told_who_may_compute_them(
    toy: Toy, as_group: Callable[[str], str]
) -> None:
    url = as_group("geosearch_read")
    with connect(url, autocommit=True) as conn:
        assert moments_state(conn, "toy").current
        row = conn.execute("select mean from geosearch.similarity_moments(1, '[1,0,0,0,0,0,0,0]')").fetchone()
        assert row is not None and row[0] is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("update geosearch.moments set changes = 7")
    assert not compute_moments(url, "toy").computed
    with pytest.raises(DatabaseError, match="grant geosearch_ingest to geosearch_read"):
        compute_moments(url, "toy", anew=True)
