"""WeiCom in NumPy: by hand, by its properties, and Q by tables that are printed elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geosearch.compose.normal import tail, tail_inverse
from geosearch.compose.parts import Parts, shares
from geosearch.compose.reference import compose, compose_parts, mean
from geosearch.errors import InputError


def test_q_as_tables_have_it():
    """Abramowitz and Stegun, tables 26.1 and 26.2, and Q(20) = 2.7536241186e-89."""
    printed = {0: 0.5, 1: 0.15865525393145707, 1.959963984540054: 0.025, 3: 1.3498980316301035e-3}
    printed |= {5: 2.866515719235352e-7, -1: 0.8413447460685429, 20: 2.7536241186062337e-89}
    for z, q in printed.items():
        assert float(tail(z)) == pytest.approx(q, rel=1e-13)
        assert tail_inverse(q) == pytest.approx(z, abs=1e-10)
    assert tail_inverse(0) == math.inf and tail_inverse(1) == -math.inf


def test_three_images_by_hand():
    """s_img = (1, 0, 0), s_txt = (0, 1, 0): each of mean 1/3 and deviation 1/√3 (ddof 1), so z = 2/√3 or −1/√3."""
    found = compose(np.eye(3), [1, 0, 0], [0, 1, 0], 0.25)
    high, low = 0.5 * math.erfc(-2 / math.sqrt(6)), 0.5 * math.erfc(1 / math.sqrt(6))
    np.testing.assert_allclose(found.scores, [0.75 * high + 0.25 * low, 0.75 * low + 0.25 * high, low], rtol=1e-14)
    assert found.order.tolist() == [0, 1, 2]
    # Not wanted: Φ(−z) takes the place of Φ(z).
    without = compose_parts(np.eye(3), Parts.of([[1, 0, 0], [0, 1, 0]], [3, -1]))
    np.testing.assert_allclose(
        without.scores, [0.75 * high + 0.25 * (1 - low), 0.75 * low + 0.25 * (1 - high), low * 0.75 + 0.25 * (1 - low)]
    )


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((300, 12)) + 0.5
    return rows, rng.standard_normal(12), rng.standard_normal(12)


@pytest.mark.parametrize(("lam", "method"), [(0.0, "image"), (1.0, "text")])
def test_at_the_ends_the_order_is_that_of_one_similarity(drawn, lam, method):
    rows, image, text = drawn
    query = image if method == "image" else text
    cosines = rows @ query / np.linalg.norm(rows, axis=1)
    assert compose(rows, image, text, lam).order.tolist() == np.argsort(-cosines, kind="stable").tolist()
    assert compose(rows, image, text, method=method).order.tolist() == np.argsort(-cosines, kind="stable").tolist()


def test_a_positive_affine_map_of_a_similarity_changes_nothing(drawn):
    """One more dimension adds c to every cosine with the text and scales the rest: s' = a s + b with a > 0."""
    rows, image, text = drawn
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    text = text / np.linalg.norm(text)
    lifted = np.hstack([rows, np.full((len(rows), 1), 0.7)])
    mapped = compose(lifted, [*image, 0.0], [*(0.6 * text), 0.8], 0.4)
    plain = compose(rows, image, text, 0.4)
    assert mapped.order.tolist() == plain.order.tolist()
    np.testing.assert_allclose(mapped.tails, plain.tails, rtol=1e-9)


def test_what_does_not_vary_says_nothing(drawn):
    rows, image, _ = drawn
    flat = np.hstack([rows / np.linalg.norm(rows, axis=1, keepdims=True), np.ones((300, 1))])
    found = compose(flat, [*image, 0], [*np.zeros(12), 1], 0.5)
    alone = compose(flat, [*image, 0], [*np.zeros(12), 1], 0.0)
    assert found.order.tolist() == alone.order.tolist()
    np.testing.assert_allclose(found.tails, 0.25 + alone.tails / 2)
    one = compose(rows[:1], image, image, 0.5)
    assert one.scores.tolist() == [0.5] and one.order.tolist() == [0]


def test_a_population_of_its_own(drawn):
    rows, image, text = drawn
    parts = Parts.of([image, text], [0.5, 0.5])
    few = compose_parts(rows[:40], parts, rows)
    np.testing.assert_allclose(few.scores, compose_parts(rows, parts).scores[:40])
    assert not np.allclose(few.scores, compose_parts(rows[:40], parts).scores)


def test_the_mean_is_that_of_the_cosines(drawn):
    rows, image, text = drawn
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = unit @ (image / np.linalg.norm(image) + text / np.linalg.norm(text)) / 2
    np.testing.assert_allclose(compose(rows, image, text, method="mean").scores, expected)
    np.testing.assert_allclose(mean(rows, Parts.of([image, text], [1, 1])).scores, expected)
    weighted = unit @ (0.2 * image / np.linalg.norm(image) + 0.8 * text / np.linalg.norm(text))
    np.testing.assert_allclose(compose(rows, image, text, 0.8, "mean").scores, weighted)  # as geosearch.compose's


@pytest.mark.parametrize("lam", [-0.1, 1.1, math.nan, math.inf])
def test_a_weight_of_the_text_that_is_none_is_refused(drawn, lam):
    with pytest.raises(InputError, match="lambda is the weight of the text"):
        compose(*drawn, lam)


def test_a_method_that_is_none_is_refused(drawn):
    with pytest.raises(InputError, match="weicom"):
        compose(*drawn, method="sum")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("vectors", "weights", "what"),
    [
        ([[1, 0], [0, 1]], [1], "belong together"),
        ([[1, 0]], [0], "not 0"),
        ([[1, 0]], [math.nan], "finite"),
        ([[1, 0], [0, 1]], [1e308, 1e308], "up to 1e"),
        ([[0, 0]], [1], "vector 0 is zero"),
        ([[1, math.inf]], [1], "vector 0 is zero or not finite"),
    ],
)
def test_parts_that_are_none_are_refused(vectors, weights, what):
    with pytest.raises(InputError, match=what):
        Parts.of(vectors, weights)


def test_parts_are_of_length_1_and_weights_of_sum_1():
    parts = Parts.of([[3, 4], [0, 9], [1, 0]], [3, 0, -1])
    assert parts.vectors.tolist() == [[0.6, 0.8], [1, 0]]
    assert parts.weights.tolist() == [0.75, -0.25]


def test_shares_of_lambda():
    assert shares(1, 1, 0, 0.3) == [0.7, 0.3]
    assert shares(2, 1, 1, 0.5) == [0.25, 0.25, 0.25, -0.25]
    assert shares(1, 0, 0, 0.3) == [1.0]
    assert shares(0, 2, 0, 0.3) == [0.5, 0.5]
    assert shares(1, 1, 1, 0.3, [2, 1, 1]) == [2, 1, -1]
    for wrong in ((0, 0, 0, 0.5, None), (1, 1, 0, math.nan, None), (1, 1, 0, 0.5, [1]), (1, 1, 0, 0.5, [1, 0])):
        with pytest.raises(InputError):
            shares(*wrong)  # type: ignore[arg-type]
