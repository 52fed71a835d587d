"""Composed questions over larger spaces: one product a row against a bound, or a walk, and the answers of all rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from compose_truth import account, check, fill
from pgvector import HalfVector
from search_truth import Where, candidates

from geosearch.database.connection import connect
from geosearch.database.moments import compute_moments
from geosearch.database.spaces import create_space

COUNT, DIMENSION = 24_000, 16
INDEX = "space_large_hnsw_idx"


class Large:
    """A space of COUNT vectors in clusters, ids ascending; twenty rows are one vector."""

    def __init__(self, conn: psycopg.Connection, url: str, ids: np.ndarray, rows: np.ndarray) -> None:
        self.conn, self.url, self.ids, self.rows = conn, url, ids, rows

    def question(self, rng: np.random.Generator, parts: int) -> tuple[np.ndarray, np.ndarray]:
        vectors = rng.standard_normal((parts, DIMENSION))
        for n in range(parts):
            if rng.random() < 0.7:
                vectors[n] += 2 * self.rows[rng.choice([100, rng.integers(COUNT)])]
        weights = rng.uniform(0.1, 1, parts) * np.where(rng.random(parts) < 0.2, -1, 1)
        return vectors, weights


@pytest.fixture(scope="module")
def large(module_database_url: str) -> Iterator[Large]:
    with connect(module_database_url, autocommit=True) as conn:
        rng = np.random.default_rng(70)
        create_space(conn, "large", DIMENSION)
        conn.execute("insert into geosearch.archive (name) values ('odd'), ('even')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m, captured_at)"
            " select a.id, g::text, st_makepoint(g % 360 - 180, g % 170 - 85)::geography, 0,"
            " '2000-01-01Z'::timestamptz + g * interval '1 hour'"
            " from generate_series(1, %s) g join geosearch.archive a on a.name = case g %% 2 when 0 then 'even'"
            " else 'odd' end order by g".replace("g % ", "g %% "),
            [COUNT],
        )
        ids = np.array([row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()])
        centres = rng.standard_normal((40, DIMENSION))
        rows = centres[rng.integers(0, 40, COUNT)] + 0.8 * rng.standard_normal((COUNT, DIMENSION))
        rows[100:120] = rows[100]
        half = rows.astype(np.float16)
        with conn.cursor().copy(
            "copy geosearch.space_large (image_id, embedding) from stdin with (format binary)"
        ) as copy:
            copy.set_types(["int8", "halfvec"])
            for image_id, vector in zip(ids, half, strict=True):
                copy.write_row((int(image_id), HalfVector(vector)))
        conn.execute("vacuum analyze geosearch.space_large")
        conn.execute("select geosearch.count_cells('large')")
        compute_moments(module_database_url, "large")
        yield Large(conn, module_database_url, ids, half.astype(np.float64))


WHERES = [Where(), Where(archive="odd"), Where(since="2000-06-01Z"), Where("POINT(10 45)", 9e6)]


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("method", ["weicom", "mean"])
def test_one_product_a_row_loses_no_answer(large, indexed, method):
    """Before there is an index good rows come from a sample, afterwards from a walk; the answer is that of all rows."""
    if indexed:
        make_index(large)
    rng = np.random.default_rng(3)
    scored = []
    for n in range(24):
        parts = int(rng.integers(1, 6))
        vectors, weights = large.question(rng, parts)
        where, k = WHERES[n % 4], int(rng.choice([1, 10, 100]))
        allowed = candidates(large.conn, where, "large") if where != Where() else None
        found = account(large.conn, "large", vectors, weights, where, k=k, strategy="exact", method=method)
        check(found, large.rows, large.ids, vectors, weights, allowed=allowed, k=k, method=method, what=(n, where, k))
        assert found["chosen"] == "exact"
        assert found["touched"] == (COUNT if allowed is None else len(allowed))
        scored.append(found["scored"] / found["touched"])
    assert np.median(scored) < 0.05  # tails of few


@pytest.mark.parametrize("indexed", [False, True])
def test_parts_that_contradict_each_other_lose_no_answer(large, indexed):
    """Nearly opposite vectors, "like this and not like this", shares of all sizes: tails are great, bounds slack."""
    if indexed:
        make_index(large)
    rng = np.random.default_rng(12)
    for n in range(20):
        parts = int(rng.integers(2, 6))
        vectors = np.repeat(rng.standard_normal((1, DIMENSION)), parts, 0) + rng.choice([0, 0.1, 0.5]) * (
            rng.standard_normal((parts, DIMENSION))
        )
        weights = rng.uniform(0.3, 1, parts) * 10.0 ** -rng.choice([0, 0, 1, 4, 9], parts)
        weights[rng.integers(parts)] *= -1
        k = int(rng.choice([1, 10, 200]))
        found = account(large.conn, "large", vectors, weights, k=k, strategy="exact")
        check(found, large.rows, large.ids, vectors, weights, k=k, what=(n, k, weights))


def test_tails_of_nothing_lose_no_answer(large):
    """Two images far from thousands that are all the same: tails of 0 bound a scan as well."""
    rows = np.tile([1.0, 0, 0], (3000, 1))
    rows[1500:1502] = [[0, 1, 0], [0, 1, 0.25]]
    with large.conn.transaction(force_rollback=True):
        ids = fill(large.conn, "lonely", rows)
        large.conn.execute("update geosearch.space set counted = 100000 where name = 'lonely'")
        for vectors in (np.eye(3)[1:2], np.array([[0, 1, 0], [0, 1, 0.5]])):
            for k in (1, 2, 5):
                found = account(large.conn, "lonely", vectors, np.ones(len(vectors)), k=k)
                check(found, rows, ids, vectors, np.ones(len(vectors)), k=k)
                assert found["tails"][0] == 0


def make_index(large: Large) -> None:
    large.conn.execute(
        f"create index if not exists {INDEX} on geosearch.space_large using hnsw (embedding halfvec_cosine_ops)"
        " with (m = 16, ef_construction = 64)"
    )
    large.conn.execute("update geosearch.space set indexed_as = 'halfvec' where name = 'large'")


@pytest.fixture(scope="module")
def indexed(large: Large) -> Large:
    make_index(large)
    return large


@pytest.mark.parametrize("method", ["weicom", "mean"])
def test_the_walk_is_nearly_always_right_and_says_what_it_touched(indexed, method):
    rng = np.random.default_rng(8)
    recalls, ways = [], []
    for n in range(40):
        vectors, weights = indexed.question(rng, int(rng.integers(1, 5)))
        where = WHERES[n % 4]
        right = account(indexed.conn, "large", vectors, weights, where, strategy="exact", method=method)
        found = account(indexed.conn, "large", vectors, weights, where, strategy="fast", method=method)
        ways.append(found["chosen"])
        if found["chosen"] == "fast":
            assert 10 <= found["scored"] <= found["touched"] <= max(1000, 0.03 * COUNT)
            assert set(found["ids"]) <= set(candidates(indexed.conn, where, "large"))
        else:
            assert found["ids"] == right["ids"]
        recalls.append(len(set(found["ids"]) & set(right["ids"])) / len(right["ids"]))
        common = [i for i in found["ids"] if i in right["ids"]]
        assert [i for i in right["ids"] if i in common] == common
        tail_of = dict(zip(right["ids"], right["tails"], strict=True))
        for image_id, found_tail in zip(found["ids"], found["tails"], strict=True):
            assert found_tail == tail_of.get(image_id, found_tail)
    assert np.mean(recalls) >= 0.95 and min(recalls) >= 0.6
    assert {"fast"} <= set(ways)


def test_what_no_walk_can_bound_is_answered_exactly(indexed):
    """An image and its opposite leave no direction; half the rows asked for are more than any walk may touch."""
    rng = np.random.default_rng(5)
    vector = rng.standard_normal(DIMENSION)
    both = np.stack([vector, -vector])
    for strategy in ("fast", "auto"):
        found = account(indexed.conn, "large", both, [0.5, 0.5], k=5, strategy=strategy)
        check(found, indexed.rows, indexed.ids, both, [0.5, 0.5], k=5)
        assert found["chosen"] == "exact" and found["touched"] == COUNT
    vectors, weights = indexed.question(rng, 2)
    found = account(indexed.conn, "large", vectors, weights, k=COUNT // 2, strategy="fast")
    check(found, indexed.rows, indexed.ids, vectors, weights, k=COUNT // 2)
    assert found["chosen"] == "exact"
    # Nor does it know of ids, or of statistics over what passes.
    where = Where(among=indexed.ids[:9000].tolist())
    for more in ({"where": where}, {"where": Where(archive="odd"), "population": "candidates"}):
        found = account(indexed.conn, "large", vectors, weights, strategy="fast", **more)
        allowed = candidates(indexed.conn, more["where"], "large")
        check(found, indexed.rows, indexed.ids, vectors, weights, allowed=allowed,
              population=more.get("population", "space"))  # fmt: skip
        assert found["chosen"] == "exact" and found["touched"] == len(allowed)


def test_auto_scans_what_is_small_and_walks_what_is_large(indexed):
    rng = np.random.default_rng(15)
    vectors, _ = indexed.question(rng, 2)
    assert account(indexed.conn, "large", vectors, [0.5, 0.5])["chosen"] == "exact"
    with indexed.conn.transaction(force_rollback=True):
        indexed.conn.execute("update geosearch.space set counted = counted * 1000")  # as if it were
        ways = []
        for _ in range(10):
            vectors, weights = indexed.question(rng, 2)
            found = account(indexed.conn, "large", vectors, weights)
            right = account(indexed.conn, "large", vectors, weights, strategy="exact")
            ways.append(found["chosen"])
            assert len(set(found["ids"]) & set(right["ids"])) >= 6
        assert "fast" in ways


def test_a_wrong_count_of_the_space_costs_time_and_no_answer(indexed):
    """Counted far too high, a sample is empty and a walk ends too soon; far too low, all is looked at."""
    rng = np.random.default_rng(16)
    for factor, as_indexed in ((1e5, "null"), (1e5, "'halfvec'"), (1e-3, "'halfvec'")):
        with indexed.conn.transaction(force_rollback=True):
            indexed.conn.execute("update geosearch.space set counted = counted * %s::float8", [factor])
            indexed.conn.execute(f"update geosearch.space set indexed_as = {as_indexed}")
            for n in range(4):
                vectors, weights = indexed.question(rng, 2)
                found = account(indexed.conn, "large", vectors, weights, WHERES[n], strategy="exact", k=30)
                allowed = candidates(indexed.conn, WHERES[n], "large")
                check(found, indexed.rows, indexed.ids, vectors, weights, allowed=allowed, k=30)


def test_late_moments_do_not_change_the_answer(indexed):
    rng = np.random.default_rng(17)
    vectors, weights = indexed.question(rng, 3)
    kept = account(indexed.conn, "large", vectors, weights, k=50, strategy="exact")
    with indexed.conn.transaction(force_rollback=True):
        indexed.conn.execute("update geosearch.moments set changes = changes - 1")
        for strategy in ("exact", "fast"):
            found = account(indexed.conn, "large", vectors, weights, k=50, strategy=strategy)
            assert found["moments"] == "computed"
            check(found, indexed.rows, indexed.ids, vectors, weights, k=50)
        assert found["ids"] == kept["ids"]
        np.testing.assert_allclose(found["means"], kept["means"], atol=1e-6)
        np.testing.assert_allclose(found["deviations"], kept["deviations"], atol=1e-6)


def test_a_space_whose_index_holds_sign_codes(conn, database_url):
    """Above 3 900 dimensions: the walk compares codes, and what it met is scored; exact is the reference."""
    rng = np.random.default_rng(18)
    d, count = 3904, 1500
    create_space(conn, "long", d)
    conn.execute("insert into geosearch.archive (name) values ('a')")
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m)"
        " select a.id, g::text, 'POINT(0 0)', 0 from geosearch.archive a, generate_series(1, %s) g",
        [count],
    )
    ids = np.array([row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()])
    centres = rng.standard_normal((10, d))
    rows = (centres[rng.integers(0, 10, count)] + 0.7 * rng.standard_normal((count, d))).astype(np.float16)
    with conn.cursor().copy("copy geosearch.space_long (image_id, embedding) from stdin with (format binary)") as copy:
        copy.set_types(["int8", "halfvec"])
        for image_id, vector in zip(ids, rows, strict=True):
            copy.write_row((int(image_id), HalfVector(vector)))
    conn.execute(
        f"create index space_long_hnsw_idx on geosearch.space_long using hnsw ((code::bit({d})) bit_hamming_ops)"
    )
    conn.execute("update geosearch.space set indexed_as = 'bit', counted = 40000000 where name = 'long'")
    vectors = centres[:2] + 0.5 * rng.standard_normal((2, d))
    wide = rows.astype(np.float64)
    right = account(conn, "long", vectors, [0.6, 0.4], strategy="exact")
    check(right, wide, ids, vectors, [0.6, 0.4])
    found = account(conn, "long", vectors, [0.6, 0.4], strategy="fast")
    assert found["chosen"] == "fast" and found["touched"] == 1000
    assert len(set(found["ids"]) & set(right["ids"])) >= 8
