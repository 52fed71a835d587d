"""Recall by hand: rankings short enough to count on fingers, chance against simulation and against its formula."""

from math import comb

import numpy as np
import pytest

from geosearch.errors import InputError
from geosearch.evaluation.recall import Recall, chance, first_hits, recall


def test_the_rank_of_the_first_hit_counts():
    ranks = first_hits([[7, 3, 9], [1, 2], [5], [], [4, 4]], [{9, 3}, {8}, {5}, {1}, set()])
    np.testing.assert_array_equal(ranks, [2, np.inf, 1, np.inf, np.nan])


def test_recall_leaves_out_queries_without_a_relevant_image_and_says_so():
    result = recall([2, np.inf, 1, 11, np.nan], ks=(1, 5, 10, 100))
    assert result == Recall({1: 0.25, 5: 0.5, 10: 0.5, 100: 0.75}, counted=4, without_relevant=1)


def test_recall_is_counted_over_queries_and_not_over_relevant_images():
    # Two of three relevant images found is still one query that succeeded.
    ranks = first_hits([[1, 2, 8]], [{1, 2, 3}])
    assert recall(ranks, ks=(1,)).at == {1: 1.0}


def test_recall_of_nothing_is_not_a_number():
    result = recall([np.nan, np.nan])
    assert all(np.isnan(v) for v in result.at.values())
    assert (result.counted, result.without_relevant) == (0, 2)


def test_rankings_and_truth_must_be_of_equal_length():
    with pytest.raises(InputError, match="2 rankings"):
        first_hits([[1], [2]], [{1}])


@pytest.mark.parametrize("k", [1, 5, 10, 100])
def test_chance_is_the_hypergeometric_share(k):
    result = chance([3, 40], [120, 500], ks=(k,))
    expected = [1 - comb(n - m, k) / comb(n, k) for m, n in ((3, 120), (40, 500))]
    assert result.at[k] == pytest.approx(np.mean(expected), rel=1e-12)


def test_chance_with_fewer_candidates_than_k_finds_everything():
    assert chance([1, 2], [3, 50], ks=(100,)).at[100] == 1.0


def test_chance_agrees_with_shuffling():
    rng = np.random.default_rng(0)
    ranks = first_hits([rng.permutation(60) for _ in range(4000)], [set(range(4))] * 4000)
    assert recall(ranks, ks=(5,)).at[5] == pytest.approx(chance([4], [60], ks=(5,)).at[5], abs=0.03)


def test_chance_counts_queries_without_a_relevant_image_apart():
    result = chance([0, 1], [10, 10], ks=(1,))
    assert result == Recall({1: pytest.approx(0.1)}, counted=1, without_relevant=1)


def test_chance_refuses_more_relevant_images_than_candidates():
    with pytest.raises(InputError):
        chance([4], [3])
