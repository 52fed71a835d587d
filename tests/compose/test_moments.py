"""Moments: those of batches add up to those of all, and tell of any query what its similarities themselves would."""

from __future__ import annotations

import numpy as np
import pytest

from geosearch.compose.moments import Moments
from geosearch.errors import InputError

SHAPES = [(2, 3), (40, 8), (300, 16), (9, 32)]


def rows(n: int, d: int, seed: int = 1) -> np.ndarray:
    """Vectors of any length about a common direction, as a model's are."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.01, 1, d)
    return (rng.standard_normal((n, d)) * spread + rng.standard_normal(d)) * rng.uniform(0.5, 2, (n, 1))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def same(one: Moments, other: Moments) -> None:
    assert one.count == other.count
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(one.scatter, other.scatter, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_mean_and_covariance_are_numpys(shape: tuple[int, int]) -> None:
    vectors = rows(*shape)
    found = Moments.of(vectors)
    assert found.count == shape[0]
    np.testing.assert_allclose(found.mean, unit(vectors).mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.scatter / (shape[0] - 1), np.cov(unit(vectors).T), rtol=1e-10, atol=1e-14)


def test_batches_of_any_size_in_any_order_add_up() -> None:
    vectors = rows(500, 12)
    whole = Moments.of(vectors)
    rng = np.random.default_rng(2)
    for _ in range(20):
        cuts = np.sort(rng.integers(0, 501, rng.integers(0, 12)))
        batches = np.split(vectors, cuts)  # some of them empty
        order = rng.permutation(len(batches))
        same(Moments.of_batches([batches[i] for i in order], 12), whole)


def test_batches_that_lie_apart_lose_no_digits() -> None:
    """A sum of squares less a square of sums would lose ten of sixteen digits here."""
    rng = np.random.default_rng(3)
    away = np.zeros(8)
    away[0] = 1
    vectors = away + 1e-5 * rng.standard_normal((4000, 8))
    added = Moments.of_batches(np.split(vectors, 40), 8)
    exact = np.cov(unit(vectors).T)
    np.testing.assert_allclose(np.diag(added.scatter)[1:] / 3999, np.diag(exact)[1:], rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_querys_mean_and_deviation_are_those_of_its_similarities(shape: tuple[int, int]) -> None:
    vectors = rows(*shape)
    found = Moments.of_batches(np.array_split(vectors, 3), shape[1])
    axes = found.axes()
    for query in np.random.default_rng(4).standard_normal((30, shape[1])) * 7:
        similarities = unit(vectors) @ unit(query)
        mean, deviation = found.of_similarities(query)
        assert mean == pytest.approx(similarities.mean(), rel=1e-9, abs=1e-12)
        assert deviation == pytest.approx(similarities.std(ddof=1), rel=1e-9)
        assert np.linalg.norm(axes @ unit(query)) == pytest.approx(deviation, rel=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_axes_make_up_the_covariance_and_none_is_empty(shape: tuple[int, int]) -> None:
    n, d = shape
    found = Moments.of(rows(*shape))
    axes = found.axes()
    assert len(axes) == min(n - 1, d)  # so many directions can n rows differ in
    lengths = np.linalg.norm(axes, axis=1)
    assert (np.diff(lengths) <= 0).all()
    covariance = found.scatter / (n - 1)
    np.testing.assert_allclose(axes.T @ axes, covariance, atol=1e-13 * np.abs(covariance).max() * d)


def test_one_row_and_none_have_no_deviation() -> None:
    query = np.arange(5) + 1.0
    one = Moments.of(query[None])
    assert (one.count, one.axes().shape) == (1, (0, 5))
    assert one.of_similarities(query) == (pytest.approx(1), 0.0)
    none = Moments.of(np.empty((0, 5)))
    assert (none.count, none.axes().shape, none.of_similarities(query)) == (0, (0, 5), (0.0, 0.0))
    same(none + one, one)
    same(one + none, one)


def test_rows_that_are_all_alike_do_not_vary() -> None:
    vectors = np.repeat(rows(1, 64), 5000, 0) * np.linspace(0.5, 2, 5000)[:, None]
    found = Moments.of_batches(np.split(vectors, 50), 64)
    for query in rows(20, 64, seed=8):
        assert found.of_similarities(query)[1] < 1e-12
        assert np.linalg.norm(found.axes() @ unit(query)) < 1e-12


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 0], [0, 0]], "row 1"),
        ([[1.0, 0], [1, 1], [np.nan, 1]], "row 2"),
        ([[np.inf, 0.0]], "row 0"),
        ([1.0, 2.0], "2 axes"),
    ],
)
def test_what_has_no_direction_is_named(vectors: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Moments.of(vectors)  # type: ignore[arg-type]
