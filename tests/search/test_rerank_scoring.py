"""The mathematics of re-ranking against plain float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rerank_space import awkward_vectors

from geosearch.errors import InputError
from geosearch.search.scoring import (
    Best,
    contenders,
    exact_scores,
    full_precision,
    half_queries,
    margin,
    reference,
)
from geosearch.search.shards import inverse_lengths


def by_blocks(queries, stored, ids, k, way, block):
    """What the re-ranker does, without its storage: propose, score again, keep the best, block by block."""
    wide = torch.from_numpy(half_queries(queries, stored.shape[1]))
    halves = torch.from_numpy(stored)
    units = halves.float() * inverse_lengths(halves)[:, None]
    best = Best(len(wide), min(k, len(ids)), ids)
    slack = margin(stored.shape[1])
    for at in range(0, len(ids), block):
        rows = units[at : at + block]
        query, row = contenders(wide.float(), rows, best.scores.shape[1], torch.from_numpy(best.floor), slack, way)
        best.add(query.numpy(), row.numpy() + at, exact_scores(wide, rows, query, row))
    best.settle()
    return ids[best.places], best.scores


def assert_same(found, expected, tolerance=1e-6):
    """The same scores; the same ids wherever scores differ by more than the tolerance; equal scores by id."""
    ids, scores = found
    wanted_ids, wanted = expected
    assert ids.shape == wanted_ids.shape
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=tolerance)
    for row in range(len(ids)):
        assert len(set(ids[row])) == len(ids[row])
        gaps = np.diff(scores[row])
        assert (gaps <= 0).all()
        assert (np.diff(ids[row])[gaps == 0] > 0).all()
        for place in np.flatnonzero(ids[row] != wanted_ids[row]):
            near = np.abs(wanted[row] - wanted[row, place]) <= tolerance
            # The last group may go on beyond k.
            assert ids[row, place] in wanted_ids[row, near] or wanted[row, place] - wanted[row, -1] <= tolerance


@pytest.mark.parametrize("way", ["torch", "faiss"])
@pytest.mark.parametrize(("block", "k", "queries"), [(64, 10, 5), (1000, 1, 1), (333, 300, 9), (5000, 7000, 3)])
def test_every_way_equals_the_reference(way, block, k, queries):
    rng = np.random.default_rng(block)
    stored = awkward_vectors(rng, 3001, 40)
    ids = rng.permutation(10**6)[:3001].astype(np.int64)
    asked = rng.standard_normal((queries, 40))
    asked[0] = stored[0]  # its best are the equal vectors
    expected = reference({"a": asked}, {"a": stored}, ids, k, {"a": 1.0})
    assert_same(by_blocks(asked, stored, ids, k, way, block), expected)


def test_both_ways_give_the_same_bits():
    rng = np.random.default_rng(3)
    stored, ids = awkward_vectors(rng, 2000, 24), np.arange(2000, dtype=np.int64)
    asked = np.concatenate([rng.standard_normal((6, 24)), stored[:2]])
    ids_torch, scores_torch = by_blocks(asked, stored, ids, 50, "torch", 256)
    ids_faiss, scores_faiss = by_blocks(asked, stored, ids, 50, "faiss", 700)
    np.testing.assert_array_equal(ids_torch, ids_faiss)
    np.testing.assert_array_equal(scores_torch, scores_faiss)


@pytest.mark.parametrize("way", ["torch", "faiss"])
def test_equal_vectors_come_by_id_even_where_they_are_more_than_k(way):
    stored = np.tile(np.array([1, 2, 2], np.float16), (900, 1))
    ids = np.random.default_rng(0).permutation(900).astype(np.int64)
    found, scores = by_blocks([[1.0, 2.0, 2.0]], stored, ids, 20, way, 128)
    assert found[0].tolist() == list(range(20))
    np.testing.assert_allclose(scores, 1.0, atol=1e-6)


def test_scores_that_float32_cannot_tell_apart_are_put_right():
    # Directions a millionth apart, far below what a float32 product of a thousand terms resolves for sure.
    rng = np.random.default_rng(1)
    asked = rng.standard_normal(1000)
    rows = torch.from_numpy(np.tile(asked, (400, 1)) + rng.standard_normal((400, 1000)) * 1e-3).float()
    rows /= rows.norm(dim=1, keepdim=True)
    wide = torch.from_numpy(half_queries(asked, 1000))
    exact = (rows.double() @ wide[0]).numpy()
    for way in ("torch", "faiss"):
        floor = torch.full((1,), -np.inf)
        query, row = contenders(wide.float(), rows, 10, floor, margin(1000), way)
        assert set(np.argsort(-exact)[:10]) <= set(row.tolist())
        np.testing.assert_allclose(exact_scores(wide, rows, query, row), exact[row], atol=1e-12)


@pytest.mark.parametrize("way", ["torch", "faiss"])
def test_contenders_keep_to_the_floor(way):
    rows = torch.eye(4)
    wide = torch.tensor([[0.9, 0.3, 0.2, 0.1]])
    for k, floor, left in ((1, -np.inf, {0}), (2, 0.5, {0}), (2, 0.95, set())):
        _, row = contenders(wide, rows, k, torch.tensor([floor], dtype=torch.float32), 1e-6, way)
        assert set(row.tolist()) == left


def test_rows_kept_in_half_precision_are_scored_alike():
    rng = np.random.default_rng(5)
    halves = torch.from_numpy(awkward_vectors(rng, 200, 16))
    inverse = inverse_lengths(halves)
    wide = torch.from_numpy(half_queries(rng.standard_normal((3, 16)), 16))
    query, row = torch.tensor([0, 1, 2, 2]), torch.tensor([5, 0, 199, 7])
    units = halves.float() * inverse[:, None]
    np.testing.assert_array_equal(
        exact_scores(wide, halves, query, row, inverse), exact_scores(wide, units, query, row)
    )


def test_queries_are_rounded_to_half_precision():
    unit = half_queries([[3.0, 4.0], [1e-6, 0.0], [1e9, 1e9]], 2)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-15)
    np.testing.assert_allclose(unit, [[0.6, 0.8], [1, 0], [0.5**0.5, 0.5**0.5]], atol=1e-12)
    third = np.float64(np.float16(1 / 3))
    np.testing.assert_allclose(half_queries([1 / 3, 1.0], 2)[0], np.array([third, 1]) / np.hypot(third, 1))


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        ([1.0, 2.0, 3.0], r"shape \(n, 2\)"),
        ([[0.0, 1.0], [0.0, 0.0]], "query 1 has no direction"),
        ([np.nan, 1.0], "no direction"),
        ([1e300, 1.0], "no direction"),
        (["a", "b"], "not made of numbers"),
    ],
)
def test_bad_queries_are_refused(queries, says):
    with pytest.raises(InputError, match=says):
        half_queries(queries, 2)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_best_is_what_sorting_everything_gives(data):
    queries, k, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6)), data.draw(st.integers(6, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    ids = rng.permutation(1000)[:count].astype(np.int64)
    scores = rng.integers(0, 8, (queries, count)) / 8  # many ties
    best = Best(queries, k, ids)
    for places in np.array_split(rng.permutation(count), data.draw(st.integers(1, 5))):
        query, place = (part.ravel() for part in np.meshgrid(np.arange(queries), places, indexing="ij"))
        best.add(query, place, scores[query, place])
        assert (best.floor <= best.scores[:, -1]).all()
    best.settle()
    for row in range(queries):
        order = sorted(range(count), key=lambda place, row=row: (-scores[row, place], ids[place]))[:k]
        assert best.places[row].tolist() == order
        np.testing.assert_array_equal(best.scores[row], scores[row][order])


def test_precision_set_by_others_is_put_back():
    torch.set_float32_matmul_precision("medium")
    try:
        with full_precision():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
