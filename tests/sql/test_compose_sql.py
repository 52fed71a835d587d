"""geosearch.compose is the NumPy reference: which images, their scores, their order; its ends are searches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from compose_truth import account, check, rounded
from search_truth import Where, candidates, search, text
from toy_world import DIMENSION, World

from geosearch.database.moments import compute_moments

WHERES = [
    Where(),
    Where("POINT(10 45)"),
    Where("POINT(-179.99 -80)", 6e6),
    Where("POLYGON((0 0,60 0,60 60,0 60,0 0))", 1e5),
    Where("POINT(0 0)", 0.0),
    Where(archive="odd"),
    Where(since="2003-05-01Z", until="2012-01-01Z"),
    Where("POINT(100 0)", 9e6, archive="even", since="2002-01-01Z"),
    Where(among=[*range(1, 60, 3), -1, None]),
    Where("POINT(0 45)", 5e6, among=list(range(1, 400, 2))),
    Where(among=[]),
]


@pytest.fixture(scope="module")
def kept(world: World) -> Iterator[World]:
    """The toy world with its moments."""
    compute_moments(world.url, "toy")
    yield world


def question(rng: np.random.Generator, world: World, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (parts, d), some of stored images, one twenty times there, and weights, some not wanted."""
    vectors = rng.standard_normal((parts, DIMENSION)) * 10 ** rng.uniform(-2, 3)
    for n in range(parts):
        if rng.random() < 0.4:
            vectors[n] = world.vectors[rng.choice([5, rng.integers(len(world.ids))])]
    weights = rng.uniform(0.05, 1, parts) * np.where(rng.random(parts) < 0.25, -1, 1)
    return vectors.astype(np.float32).astype(float), weights


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize("population", ["space", "candidates"])
def test_it_is_the_reference_with_all_filters(kept, parts, population):
    rng = np.random.default_rng(parts)
    for n, where in enumerate(WHERES * 3):
        vectors, weights = question(rng, kept, parts)
        k = int(rng.choice([1, 10, 60, 5000]))
        allowed = candidates(kept.conn, where)
        found = account(kept.conn, "toy", vectors, weights, where, k=k, population=population)
        check(found, kept.vectors, kept.ids, vectors, weights, allowed=allowed, k=k, population=population,
              what=(n, where, k))  # fmt: skip
        narrowed = where != Where()
        assert found["chosen"] == "exact"
        assert found["moments"] == ("computed" if population == "candidates" and narrowed else "kept")
        assert found["touched"] == len(allowed) >= found["scored"] >= len(found["ids"] or [])


@pytest.mark.parametrize("method", ["weicom", "mean"])
def test_an_account_tells_similarities_means_and_deviations_of_each_part(kept, method):
    rng = np.random.default_rng(12)
    vectors, _ = question(rng, kept, 4)
    found = account(kept.conn, "toy", vectors, [0.5, 0, -0.2, 0.3], k=7, method=method)
    unit = kept.vectors / np.linalg.norm(kept.vectors, axis=1, keepdims=True)
    q = rounded(vectors)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    cosines = unit @ q.T
    at = np.searchsorted(kept.ids, found["ids"])
    for answer, row in zip(found["similarities"], at, strict=True):
        assert answer[1] is None
        np.testing.assert_allclose(np.delete(np.array(answer, float), 1), np.delete(cosines[row], 1), atol=1e-6)
    check(found, kept.vectors, kept.ids, vectors, [0.5, 0, -0.2, 0.3], k=7, method=method)
    if method == "weicom":
        assert found["means"][1] is None and found["deviations"][1] is None
        np.testing.assert_allclose(np.array(found["means"], float)[[0, 2, 3]], cosines.mean(0)[[0, 2, 3]], atol=1e-6)
        np.testing.assert_allclose(
            np.array(found["deviations"], float)[[0, 2, 3]], cosines.std(0, ddof=1)[[0, 2, 3]], atol=1e-6
        )
    else:
        assert found["means"] is None and found["moments"] is None


def compose(conn: psycopg.Connection, image: np.ndarray | None, words: np.ndarray | None, rest: str, *values: object):
    """(image_id, similarity) of geosearch.compose over space toy."""
    given = [None if v is None else text(v) for v in (image, words)]
    return conn.execute(
        f"select image_id, similarity from geosearch.compose('toy', %s::vector, %s::vector{rest}) order by rank",
        [*given, *values],
        binary=True,
    ).fetchall()


@pytest.mark.parametrize("where", WHERES[:9])
def test_at_the_ends_of_lambda_it_is_a_search(kept, where):
    """Twenty images are equally like image 6: they come in the order of ids, as in a search."""
    rng = np.random.default_rng(33)
    rest = (
        ", %s, st_geogfromtext(%s), %s, 40, archive => %s, captured_from => %s, captured_to => %s, among => %s,"
        " population => %s, method => %s"
    )
    for n in range(6):
        image, words = question(rng, kept, 2)[0]
        if n % 2:
            image = words = kept.vectors[5]
        values = [where.near, where.radius, where.archive, where.since, where.until, where.among]
        for population, (lam, query) in itertools.product(("space", "candidates"), ((0, image), (1, words))):
            expected = search(kept.conn, where, query, 40)
            mine = compose(kept.conn, image, words, rest, lam, *values, population, "weicom")
            assert [row[0] for row in mine] == [row[1] for row in expected]
            alone = [(image, None), (None, words)][int(lam)]
            assert compose(kept.conn, *alone, rest, None, *values, population, "weicom") == mine
            method = ("image", "text")[int(lam)]
            baseline = compose(kept.conn, image, words, rest, None, *values, population, method)
            assert baseline == [row[1:] for row in expected]


def test_the_mean_of_both_similarities(kept):
    rng = np.random.default_rng(3)
    for lam in (None, 0.2, 0.9):
        vectors, _ = question(rng, kept, 2)
        weight = 0.5 if lam is None else lam
        mine = compose(kept.conn, *vectors, ", %s, method => 'mean', k => 25", lam)
        truth = check(
            {"ids": [row[0] for row in mine], "tails": [1 - row[1] for row in mine]},
            kept.vectors, kept.ids, vectors, [1 - weight, weight], k=25, method="mean",
        )  # fmt: skip
        assert truth.scores.max() <= 1


def test_a_plan_says_what_was_done(kept):
    image, words = question(np.random.default_rng(6), kept, 2)[0]
    statement = (
        "select * from geosearch.compose_plan('toy', %s, %s, 0.3, st_geogfromtext(%s), population => %s, k => %s)"
    )
    for near, population, k in (
        (None, "space", 10),
        ("POINT(10 45)", "space", 10),
        ("POINT(10 45)", "candidates", 5000),
    ):
        allowed = len(candidates(kept.conn, Where(near)))
        row = kept.conn.execute(statement, [text(image), text(words), near, population, k]).fetchone()
        assert row[:5] == ("exact", population, "kept" if population == "space" else "computed", allowed, allowed)
        assert row[5] <= allowed and row[6:] == (min(k, allowed), allowed <= k)


def test_parts_of_compose_parts_answer_as_an_account(kept):
    rng = np.random.default_rng(14)
    vectors, weights = question(rng, kept, 3)
    mine = kept.conn.execute(
        "select image_id, 1 - similarity, name, distance_m, st_astext(geom) from geosearch.compose_parts("
        "'toy', %s::text[]::vector[], %s, 'POINT(10 45)', k => 20)",
        [[text(v) for v in vectors], weights.tolist()],
        binary=True,
    ).fetchall()
    found = account(kept.conn, "toy", vectors, weights, Where("POINT(10 45)"), k=20)
    assert [row[0] for row in mine] == found["ids"]
    np.testing.assert_allclose([row[1] for row in mine], found["tails"], atol=1e-15)
    assert all(row[2].startswith("p") and row[3] >= 0 and row[4] for row in mine)
