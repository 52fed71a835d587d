"""Moments of a space: equal to those computed anew, or known to be late; never said to be current and wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from moments_truth import never_wrong, stored, unit

from geosearch.compose.moments import Moments
from geosearch.database.connection import connect
from geosearch.database.migrate import migrate
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

D = 8
MOVE = "update geosearch.image set nadir = 'POINT(1 2)' where id % 3 = 0"


class Toy:
    """40 images, the first 25 of them with a vector, in space `toy` of which the moments are current."""

    def __init__(self, conn: psycopg.Connection[Any], url: str) -> None:
        self.conn, self.url, self.rng = conn, url, np.random.default_rng(5)
        conn.autocommit = True
        conn.execute("insert into geosearch.archive (name) values ('a'), ('b')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m) select a.id, 'i' || n, st_makepoint(n, n),"
            " 0 from geosearch.archive a, generate_series(1, 40) n where (a.name = 'a') = (n <= 30)"
        )
        create_space(conn, "toy", D)
        self.ids = [int(row[0]) for row in conn.execute("select id from geosearch.image order by id").fetchall()]
        self.add(self.ids[:25])
        compute_moments(url, "toy")
        assert self.current()

    def vectors(self, n: int) -> np.ndarray:
        return self.rng.standard_normal((n, D)) + 1

    def add(self, ids: list[int], conn: psycopg.Connection[Any] | None = None) -> np.ndarray:
        """Add or change the vectors of images in one statement; return them as stored."""
        vectors = self.vectors(len(ids)).astype(np.float16)
        (conn or self.conn).execute(
            "insert into geosearch.space_toy (image_id, embedding) select * from unnest(%s::bigint[], %s::halfvec[])"
            " on conflict (image_id) do update set embedding = excluded.embedding",
            [ids, [str(vector.tolist()) for vector in vectors]],
        )
        return vectors

    def execute(self, statement: str, *arguments: Any) -> None:
        self.conn.execute(statement, arguments or None)

    def current(self) -> bool:
        return never_wrong(self.conn, "toy").current


@pytest.fixture
def toy(conn: psycopg.Connection[Any], database_url: str) -> Toy:
    return Toy(conn, database_url)


def test_mean_and_deviation_of_many_numbers_are_numpys(conn: psycopg.Connection[Any], database_url: str) -> None:
    """768 dimensions about a common direction, deviations from 0.1 down to 1e-6, as of a model's vectors."""
    rng = np.random.default_rng(6)
    d, n = 768, 900
    spread = np.geomspace(1, 1e-5, d)
    vectors = (rng.standard_normal((n, d)) * spread + 0.5).astype(np.float16)
    space = create_space(conn, "wide", d)
    vectors = unit(vectors.astype(np.float64))
    write_moments(conn, space, Moments.of(vectors), 0)
    queries = np.concatenate([rng.standard_normal((40, d)), rng.standard_normal((40, d)) / spread, vectors[:20]])
    for query in unit(queries).astype(np.float32):
        row = conn.execute(
            "select mean, deviation from geosearch.similarity_moments(%s, %s::vector)", [space.id, str(query.tolist())]
        ).fetchone()
        assert row is not None
        similarities = vectors @ query.astype(np.float64)
        # Cosines have six or seven digits: mean and deviation may not add an error that is seen beside theirs.
        assert row[0] == pytest.approx(similarities.mean(), rel=2e-7, abs=2e-8)
        assert row[1] == pytest.approx(similarities.std(ddof=1), rel=2e-7, abs=1e-8)


def test_spaces_of_none_one_and_equal_vectors(toy: Toy) -> None:
    query = unit(np.ones(D))
    ask = "select mean, deviation from geosearch.similarity_moments(%s, %s::vector)"
    space = get_space(toy.conn, "toy")
    toy.execute("truncate geosearch.space_toy")
    for add, mean in ((0, 0.0), (1, None), (30, None)):
        if add:
            toy.execute(
                "insert into geosearch.space_toy (image_id, embedding) select id, '[1,2,3,4,5,6,7,9]'"
                " from geosearch.image order by id limit %s on conflict do nothing",
                add,
            )
        assert not toy.current()
        assert compute_moments(toy.url, "toy").counted == add
        assert toy.current()
        row = toy.conn.execute(ask, [space.id, str(query.tolist())]).fetchone()
        assert row is not None
        assert row[0] == pytest.approx(stored(toy.conn, "toy")[0] @ query if mean is None else mean, rel=1e-6)
        assert row[1] < 1e-9
    assert toy.conn.execute(ask, [-1, str(query.tolist())]).fetchone() == (None, None)


CHANGES: dict[str, Callable[[Toy], Any]] = {
    "insert": lambda toy: toy.add(toy.ids[30:31]),
    "update": lambda toy: toy.add(toy.ids[3:5]),
    "both": lambda toy: toy.add(toy.ids[20:30]),
    "copy": lambda toy: _copy(toy),
    "delete": lambda toy: toy.execute("delete from geosearch.space_toy where image_id = %s", toy.ids[2]),
    "truncate": lambda toy: toy.execute("truncate geosearch.space_toy"),
    "image": lambda toy: toy.execute("delete from geosearch.image where id = %s", toy.ids[2]),
    "images": lambda toy: toy.execute("delete from geosearch.image where id = any (%s)", toy.ids[:20:3]),
    "archive": lambda toy: toy.execute("delete from geosearch.archive where name = 'a'"),
    "truncate images": lambda toy: toy.execute("truncate geosearch.image cascade"),
    "one and back": lambda toy: _there_and_back(toy),
    "merge": lambda toy: toy.execute(
        "merge into geosearch.space_toy s using geosearch.image i on i.id = s.image_id when matched and i.id % 4 = 0"
        " then delete when matched then update set embedding = '[1,1,1,1,1,1,1,2]' when not matched then"
        " insert (image_id, embedding) values (i.id, '[2,1,1,1,1,1,1,2]')"
    ),
    "swapped": lambda toy: toy.execute(
        "update geosearch.space_toy s set embedding = o.embedding from geosearch.space_toy o"
        " where s.image_id = %s and o.image_id = %s",
        *toy.ids[4:6],
    ),
}
NO_CHANGES: dict[str, Callable[[Toy], Any]] = {
    "place": lambda toy: toy.execute(MOVE),
    "date": lambda toy: toy.execute("update geosearch.image set captured_at = now()"),
    "hash": lambda toy: toy.execute("update geosearch.space_toy set content_sha256 = sha256('x')"),
    "the same again": lambda toy: toy.execute("update geosearch.space_toy set embedding = embedding"),
    "of another image": lambda toy: toy.execute(
        "update geosearch.space_toy set image_id = %s where image_id = %s", toy.ids[39], toy.ids[0]
    ),
    "nothing": lambda toy: toy.execute("delete from geosearch.space_toy where image_id = -1"),
    "no conflict": lambda toy: toy.execute(
        "insert into geosearch.space_toy (image_id, embedding) select image_id, embedding from geosearch.space_toy"
        " on conflict do nothing"
    ),
    "images without vectors": lambda toy: toy.execute("delete from geosearch.archive where name = 'b'"),
    "vacuum": lambda toy: toy.execute("vacuum full geosearch.space_toy"),
    "folded": lambda toy: toy.execute("select geosearch.fold_changes('vectors ' || id) from geosearch.space"),
    "another space": lambda toy: _another_space(toy),
    "rolled back": lambda toy: _rolled_back(toy),
}


def _copy(toy: Toy) -> None:
    with toy.conn.cursor().copy("copy geosearch.space_toy (image_id, embedding) from stdin") as copy:
        copy.write_row((toy.ids[31], "[1,2,3,4,5,6,7,8]"))


def _there_and_back(toy: Toy) -> None:
    for sign in (-1, 1):
        toy.execute(
            "update geosearch.space_toy set embedding = (array[%s] || '{1,1,1,1,1,1,1}')::float4[]::vector", sign
        )


def _another_space(toy: Toy) -> None:
    create_space(toy.conn, "other", D)
    toy.execute(
        "insert into geosearch.space_other (image_id, embedding) select image_id, embedding from geosearch.space_toy"
    )
    toy.execute("delete from geosearch.space_other")


def _rolled_back(toy: Toy) -> None:
    with toy.conn.transaction(force_rollback=True):
        toy.add(toy.ids[:40:7])
        toy.execute("delete from geosearch.image where id = %s", toy.ids[1])
        assert not toy.current()


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_vector_is_noticed(toy: Toy, change: str) -> None:
    CHANGES[change](toy)
    assert not toy.current()
    assert compute_moments(toy.url, "toy").current
    assert toy.current()


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_leaves_all_vectors_alone_leaves_moments_current(toy: Toy, change: str) -> None:
    NO_CHANGES[change](toy)
    assert toy.current()


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


def test_an_older_database_counts_from_its_upgrade_on(toy: Toy) -> None:
    triggers = (
        "select tgname::text from pg_trigger where tgrelid = 'geosearch.space_toy'::regclass and tgname ~ '^vectors_'"
        " order by 1"
    )
    made = toy.conn.execute(triggers).fetchall()
    assert len(made) == 4
    for (name,) in made:
        toy.execute(f"drop trigger {name} on geosearch.space_toy")
    toy.execute("delete from geosearch.installed_sql where name like '20%'")
    migrate(toy.url)
    assert toy.conn.execute(triggers).fetchall() == made
    toy.add(toy.ids[:1])
    assert not toy.current()
    toy.execute("delete from geosearch.installed_sql where name like '20%'")
    migrate(toy.url)  # a second time there is nothing to add
    assert toy.conn.execute(triggers).fetchall() == made


def test_a_dropped_space_leaves_nothing_behind(toy: Toy) -> None:
    create_space(toy.conn, "other", D)
    toy.execute(
        "insert into geosearch.space_other (image_id, embedding) select image_id, embedding from geosearch.space_toy"
    )
    drop_space(toy.conn, "toy")
    for table in ("moments", "moments_row", "moments_axis"):
        assert toy.conn.execute(f"select count(*) from geosearch.{table}").fetchone() == (0,)
    subjects = toy.conn.execute("select subject from geosearch.change where subject <> 'image'").fetchall()
    assert subjects == [(f"vectors {get_space(toy.conn, 'other').id}",)]


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


def test_rows_that_somebody_tampered_with_are_not_added_to(toy: Toy) -> None:
    toy.execute("update geosearch.moments_row set scatter = scatter[1:3] where dimension = 2")
    space = get_space(toy.conn, "toy")
    with pytest.raises(DatabaseError, match="space moments toy --anew"):
        read_moments(toy.conn, space)
    compute_moments(toy.url, "toy", anew=True)
    assert toy.current()


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
