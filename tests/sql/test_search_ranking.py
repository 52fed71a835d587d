"""In which order, and how many: against a NumPy reference of the cosine of half-precision values."""

from __future__ import annotations

import numpy as np
import pytest
from search_truth import reference, text


@pytest.mark.parametrize("seed", range(20))
def test_search_ranks_as_numpy_does(world, seed):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal(world.vectors.shape[1]) * 10 ** rng.uniform(-1, 2)
    k = int(rng.integers(1, 400))
    rows = world.conn.execute(
        "select rank, image_id, similarity from geosearch.search('toy', %s, k => %s)", [text(query), k]
    ).fetchall()
    ids, cosines = reference(world.vectors, world.ids, query)
    assert [row[0] for row in rows] == list(range(1, k + 1))
    # pgvector sums in single precision: neighbours closer than that may change places.
    np.testing.assert_allclose([row[2] for row in rows], cosines[:k], atol=1e-6)
    of = dict(zip(ids.tolist(), cosines, strict=True))
    np.testing.assert_allclose([of[row[1]] for row in rows], cosines[:k], atol=1e-6)
    assert [row[2] for row in rows] == sorted((row[2] for row in rows), reverse=True)


def test_equal_similarities_come_in_the_order_of_image_id(world):
    rows = world.conn.execute(
        "select image_id from geosearch.search('toy', %s, k => 20)", [text(world.vectors[5])]
    ).fetchall()
    assert [row[0] for row in rows] == world.ids[5:25].tolist()


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e6, 1e30])
def test_the_length_of_the_query_does_not_matter(world, scale):
    """Also where it would overflow or vanish in half precision."""
    statement = "select image_id, similarity from geosearch.search('toy', %s)"
    query = np.array([3.0, -1, 4, 1, -5, 9, 2, -6])
    plain = world.conn.execute(statement, [text(query)]).fetchall()
    scaled = world.conn.execute(statement, [text(query * scale)]).fetchall()
    assert [row[0] for row in plain] == [row[0] for row in scaled]
    np.testing.assert_allclose([row[1] for row in plain], [row[1] for row in scaled], atol=1e-3)


@pytest.mark.parametrize("k", [1, 3, 1000, 2**31 - 1])
@pytest.mark.parametrize(
    ("near", "radius"), [(None, 0.0), ("POINT(0 0)", 3e6), ("POINT(180 0)", 0.0), ("POINT(33 -44)", 1e-3)]
)
def test_min_of_k_and_candidates_are_returned_and_the_plan_says_so(world, k, near, radius):
    arguments = {"near": near, "radius": radius, "k": k}
    call = "('toy', '[1,0,0,0,0,0,0,0]', st_geogfromtext(%(near)s), %(radius)s, %(k)s)"
    rows = world.conn.execute(f"select rank from geosearch.search{call}", arguments).fetchall()
    plan = world.conn.execute(f"select * from geosearch.search_plan{call}", arguments).fetchone()
    if near is None:
        candidates = len(world.ids)
    else:
        candidates = world.conn.execute(
            "select count(*) from geosearch.image where"
            " st_distance(coalesce(footprint, nadir), %(near)s::geography) <= %(radius)s + reach_m",
            arguments,
        ).fetchone()[0]
    assert len(rows) == min(k, candidates)
    strategy, estimated, counted, requested, returned, exhausted = plan
    assert (strategy, counted, requested, returned) == ("exact", candidates, k, len(rows))
    assert exhausted is (candidates <= k)
    assert estimated >= 0


def test_the_estimate_is_near_the_count_where_there_is_much(world):
    plan = "select estimated, candidates from geosearch.search_plan('toy', '[1,0,0,0,0,0,0,0]', {})"
    estimated, candidates = world.conn.execute(plan.format("null")).fetchone()
    assert estimated == candidates == len(world.ids)
    estimated, candidates = world.conn.execute(plan.format("'POINT(0 0)'::geography, 1e7")).fetchone()
    assert candidates / 2 < estimated < candidates * 2
    # A wide reach makes most of the candidates of a narrow circle.
    with world.conn.transaction(force_rollback=True):
        world.conn.execute("update geosearch.image set reach_m = 6e6 where footprint is null")
        world.conn.execute("select geosearch.count_cells('toy')")
        estimated, candidates = world.conn.execute(plan.format("'POINT(0 0)'::geography, 1000")).fetchone()
    assert candidates > 50
    assert candidates / 3 < estimated < candidates * 3


def test_similar_is_a_search_with_the_images_own_vector(world):
    """The image itself is among the answers: its cosine with itself is 1."""
    for i in (0, 7, 300):
        image_id = int(world.ids[i])
        rows = world.conn.execute(
            "select rank, image_id, similarity from geosearch.similar(%s, 'toy', k => 25)", [image_id]
        ).fetchall()
        assert len(rows) == 25
        _, cosines = reference(world.vectors, world.ids, world.vectors[i])
        assert {row[1] for row in rows[:20]} >= {image_id}
        np.testing.assert_allclose([row[2] for row in rows], cosines[:25], atol=1e-6)
        assert rows[0][2] == pytest.approx(1, abs=1e-6)


def test_similar_takes_the_same_filters(world):
    rows = world.conn.execute(
        "select s.image_id from geosearch.similar(%s, 'toy', 'POINT(0 0)'::geography, 3e6, 100000, 'odd') s",
        [int(world.ids[0])],
    ).fetchall()
    expected = world.conn.execute(
        "select i.id from geosearch.image i join geosearch.archive a on a.id = i.archive_id where a.name = 'odd'"
        " and st_distance(coalesce(footprint, nadir), 'POINT(0 0)'::geography) <= 3e6 + reach_m"
    ).fetchall()
    assert {row[0] for row in rows} == {row[0] for row in expected}
    assert len(rows) > 20


def test_an_empty_space_answers_with_nothing(conn):
    conn.execute("select geosearch.create_space('empty', 3)")
    assert conn.execute("select * from geosearch.search('empty', '[1,2,3]')").fetchall() == []
    assert conn.execute("select * from geosearch.search('empty', '[1,2,3]', 'POINT(0 0)'::geography)").fetchall() == []
    plan = conn.execute("select candidates, returned, exhausted from geosearch.search_plan('empty', '[1,2,3]')")
    assert plan.fetchone() == (0, 0, True)


def test_an_approximate_index_over_the_vectors_does_not_make_an_exact_search_approximate(world):
    """A poor HNSW index misses some of the best ten.

    From PostgreSQL 17 on the planner would take it also for an order by distance and id, as incremental sort.
    """
    schema = world.conn.execute(
        "select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector'"
    ).fetchone()[0]
    queries = [text(q) for q in np.random.default_rng(3).standard_normal((20, world.vectors.shape[1]))]
    search = "select image_id from geosearch.search('toy', %s, k => 10)"
    by_hand = "select image_id from geosearch.space_toy order by embedding <=> %s::{}.halfvec limit 10"
    before = [world.conn.execute(search, [query]).fetchall() for query in queries]
    with world.conn.transaction(force_rollback=True):
        world.conn.execute("set local max_parallel_maintenance_workers = 0")
        world.conn.execute(
            f"create index on geosearch.space_toy using hnsw (embedding {schema}.halfvec_cosine_ops)"
            " with (m = 2, ef_construction = 4)"
        )
        world.conn.execute("set local enable_seqscan = off; set local enable_sort = off; set local hnsw.ef_search = 10")
        after = [world.conn.execute(search, [query]).fetchall() for query in queries]
        tempted = [world.conn.execute(by_hand.format(schema), [query]).fetchall() for query in queries]
    assert tempted != before  # else this test shows nothing
    assert after == before
