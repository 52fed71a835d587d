"""Moments of a space: equal to those computed anew, or known to be late; never said to be current and wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
import pytest
from moments_toy import D, Toy, toy
from moments_truth import stored, unit

from geosearch.compose.moments import Moments
from geosearch.database.migrate import migrate
from geosearch.database.moments import (
    compute_moments,
    read_moments,
    write_moments,
)
from geosearch.database.spaces import create_space, drop_space, get_space
from geosearch.errors import DatabaseError

__all__ = ["toy"]  # a fixture, imported by name
MOVE = "update geosearch.image set nadir = 'POINT(1 2)' where id % 3 = 0"


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


def test_rows_that_somebody_tampered_with_are_not_added_to(toy: Toy) -> None:
    toy.execute("update geosearch.moments_row set scatter = scatter[1:3] where dimension = 2")
    space = get_space(toy.conn, "toy")
    with pytest.raises(DatabaseError, match="space moments toy --anew"):
        read_moments(toy.conn, space)
    compute_moments(toy.url, "toy", anew=True)
    assert toy.current()
