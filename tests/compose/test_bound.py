"""The bound of composed searches: below every row that it must not lose, and mostly reached by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geosearch.compose.bound import least_combined, touching_point
from geosearch.compose.normal import tail, tail_inverse


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return positive weights (count,) of sum 1, sometimes far from each other, sometimes equal."""
    w = rng.choice([1.0, 3.0], count) if rng.random() < 0.3 else rng.uniform(0.02, 1, count) ** rng.choice([1, 3])
    return np.asarray(w / w.sum())


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, 7])
def test_no_row_of_a_good_tail_lies_below_the_bound(parts):
    rng = np.random.default_rng(parts)
    for _ in range(40):
        w, lowest = draw(rng, parts), float(rng.choice([-0.2, -3, -8, -30]))
        z = np.maximum(lowest, rng.standard_normal((4000, parts)) * rng.choice([0.3, 1, 4]) + rng.choice([0, 1]))
        z[rng.random(z.shape) < 0.1] = lowest
        tails, combined = tail(z) @ w, z @ w
        for worst in [*rng.choice(tails, 5), float(rng.uniform(0, 1)), *(w / 2), *w]:
            least = least_combined(float(worst), w.tolist(), lowest)
            good = combined[tails <= worst]
            assert not len(good) or good.min() >= least - 1e-9, (w, lowest, worst)


def test_with_small_tails_it_is_the_inverse_of_q_however_many_parts_there_are():
    for weights in ([1.0], [0.5, 0.5], [0.3, 0.7], [0.25, 0.25, 0.5], [0.125] * 8):
        assert least_combined(0.01, weights, -9) == pytest.approx(2.3263478740408408, abs=1e-8)  # z of 99 %


def lowest_pair(w: float, worst: float, lowest: float) -> float:
    """Return the least w y + (1 − w) z with a tail of at most `worst`, looked for along the surface."""
    share = np.concatenate([np.linspace(0, min(1, worst / w), 4001), [max(0, (worst - (1 - w)) / w)]])
    rest = (worst - w * share) / (1 - w)  # the tail that the other may have
    pairs = [
        (max(lowest, tail_inverse(p)), max(lowest, tail_inverse(q)))
        for p, q in zip(share.tolist(), rest.tolist(), strict=True)
    ]
    return min(w * y + (1 - w) * z for y, z in pairs)


@pytest.mark.parametrize(("w", "worst"), [(0.5, 0.33), (0.2, 0.1), (0.2, 0.133), (0.7, 0.19), (0.3, 0.05)])
def test_with_moderate_tails_nothing_better_is_to_be_had(w, worst):
    """Up to 2/3 of the least weight; a tangent from a cosine of −1 would be far off."""
    assert least_combined(worst, [w, 1 - w], -30) == pytest.approx(lowest_pair(w, worst, -30), abs=1e-6)


def test_beyond_it_the_bound_is_loose_and_holds():
    """T = 0.35 with weights 0.7 and 0.3: the second at the bottom, the first where 0.7 Q = 0.05."""
    expected = 0.7 * tail_inverse(0.05 / 0.7) + 0.3 * -20
    assert lowest_pair(0.7, 0.35, -20) == pytest.approx(expected, abs=1e-7)
    assert expected - 3 < least_combined(0.35, [0.7, 0.3], -20) < expected


def test_tiny_weights_beside_great_ones():
    """A part of 1e-9 may be anything where the tail is greater; the other then has all of it."""
    assert least_combined(1e-12, [1e-9, 1 - 1e-9], -30) == pytest.approx(tail_inverse(1e-12), abs=1e-8)
    for worst in (1e-6, 0.2):
        found = least_combined(worst, [1e-9, 1 - 1e-9], -30)
        assert tail_inverse(worst) - 40 < found <= tail_inverse(worst)


def test_an_unknown_bottom_is_no_matter_where_tails_are_small():
    assert least_combined(0.1, [0.5, 0.5], -math.inf) == pytest.approx(tail_inverse(0.1), abs=1e-8)
    assert least_combined(0.6, [0.5, 0.5], -math.inf) == -math.inf


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
