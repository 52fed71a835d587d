"""The bound of composed searches: below every row that it must not lose, and reached by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from geosearch.compose.bound import ENUMERATED, least_combined, touching_point
from geosearch.compose.normal import tail, tail_inverse


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return positive weights (count,) of sum 1, sometimes far from each other, sometimes equal."""
    w = rng.choice([1.0, 3.0], count) if rng.random() < 0.3 else rng.uniform(0.02, 1, count) ** rng.choice([1, 3])
    return np.asarray(w / w.sum())


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, 7])
def test_no_row_of_a_good_tail_lies_below_the_bound(parts):
    rng = np.random.default_rng(parts)
    for _ in range(40):
        w, lowest = draw(rng, parts), float(rng.choice([-3, -8, -30]))
        z = np.maximum(lowest, rng.standard_normal((4000, parts)) * rng.choice([0.3, 1, 4]) + rng.choice([0, 1]))
        z[rng.random(z.shape) < 0.1] = lowest
        tails, combined = tail(z) @ w, z @ w
        for worst in [*rng.choice(tails, 5), float(rng.uniform(0, 1)), *(w / 2), *w]:
            least = least_combined(float(worst), w.tolist(), lowest)
            good = combined[tails <= worst]
            assert not len(good) or good.min() >= least - 1e-9, (w, lowest, worst)


def searched(w: np.ndarray, worst: float, lowest: float, starts: np.ndarray) -> float:
    """Return the least w·z with a tail of at most `worst` that SLSQP finds from many starts."""
    found = math.inf
    for start in starts:
        answer = minimize(
            lambda z: float(w @ z),
            start,
            jac=lambda z: w,
            bounds=[(lowest, 12)] * len(w),
            constraints={
                "type": "ineq",
                "fun": lambda z: worst - float(w @ tail(z)),
                "jac": lambda z: w * np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
            },
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-12},
        )
        if w @ tail(answer.x) <= worst + 1e-9:
            found = min(found, float(answer.fun))
    return found


@pytest.mark.parametrize("parts", [2, 3, ENUMERATED])
def test_the_bound_is_the_least_that_a_search_for_it_finds(parts):
    """Nothing lower is found, and nothing that is much higher."""
    rng = np.random.default_rng(60 + parts)
    for _ in range(12):
        w, lowest, worst = draw(rng, parts), -4.0, float(rng.uniform(0.02, 0.9))
        starts = np.vstack([rng.uniform(lowest, 3, (25, parts)), np.where(np.eye(parts), lowest, 1.0)])
        least, found = least_combined(worst, w.tolist(), lowest), searched(w, worst, lowest, starts)
        assert found >= least - 1e-6
        assert found <= least + 0.02, (w, worst)


def test_with_small_tails_it_is_the_inverse_of_q_however_many_parts_there_are():
    for weights in ([1.0], [0.5, 0.5], [0.3, 0.7], [0.25, 0.25, 0.5], [0.125] * 8):
        assert least_combined(0.01, weights, -9) == pytest.approx(2.3263478740408408, abs=1e-8)  # z of 99 %


def test_two_equal_weights_keep_it_up_to_half_of_all():
    """The surface Q(y) + Q(z) = 2 T bends outwards until T = 1/2: both at Q⁻¹(T) is the least sum."""
    for worst in (0.25, 0.3, 0.45, 0.49):
        assert least_combined(worst, [0.5, 0.5], -9) == pytest.approx(tail_inverse(worst), abs=1e-8)


def test_where_one_part_alone_can_do_it_the_other_may_be_at_the_bottom():
    """T = 0.35 with weights 0.7 and 0.3: the second at the bottom, the first where 0.7 Q = 0.05."""
    expected = 0.7 * tail_inverse(0.05 / 0.7) + 0.3 * -20
    assert least_combined(0.35, [0.7, 0.3], -20) == pytest.approx(expected, abs=1e-7)


def test_of_any_sum_and_the_ends():
    assert least_combined(0.02, [2, 2], -9) == pytest.approx(4 * least_combined(0.005, [0.5, 0.5], -9))
    assert least_combined(1.0, [0.5, 0.5], -9) == -math.inf
    assert least_combined(5, [0.5, 0.5], -9) == -math.inf
    assert least_combined(0.0, [0.5, 0.5], -9) == 37.5  # finite: tails of 0 begin somewhere there
    assert least_combined(0.1, [0.5, 0, 0.5], -9) == least_combined(0.1, [0.5, 0.5], -9)


def test_the_tangent_touches():
    for lowest in (-1.0, -5.0, -30.0):
        z = touching_point(lowest)
        slope = -math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        assert float(tail(z)) + slope * (lowest - z) == pytest.approx(float(tail(lowest)), abs=1e-12)
        for x in np.linspace(lowest, 10, 400):  # and lies nowhere above Q
            assert float(tail(z)) + slope * (x - z) <= float(tail(x)) + 1e-12
