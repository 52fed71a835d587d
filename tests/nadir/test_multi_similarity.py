"""The multi-similarity loss: equal to pytorch-metric-learning's in value and gradient, right about neutral pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner

from geosearch.nadir import reference
from geosearch.nadir.loss import mine, multi_similarity

Theirs = MultiSimilarityLoss(alpha=1, beta=50, base=0)
Miner = MultiSimilarityMiner(epsilon=0.1)


def batch(seed: int, n: int = 24, groups: int = 8, length: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (n, 12) that lie about one of some directions, of many lengths, and whose labels they are."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(groups, (n,), generator=draw)
    centres = torch.randn(groups, 12, generator=draw)
    spread = 0.3 + 1.5 * torch.rand(1, generator=draw)
    vectors = centres[labels] + spread * torch.randn(n, 12, generator=draw)
    return vectors * (0.1 + length * torch.rand(n, 1, generator=draw)), labels


def masks(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    same = labels[:, None] == labels
    return same, ~same


def graded(loss, vectors: torch.Tensor) -> tuple[float, torch.Tensor]:
    leaf = vectors.clone().requires_grad_(True)
    value = loss(leaf)
    value.backward()
    return value.item(), leaf.grad


def neutral_pairs(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive and negative pairs of labels, of which a fifth of the negatives is neither."""
    positive, negative = masks(labels)
    out = torch.rand(negative.shape, generator=torch.Generator().manual_seed(100 + seed)) < 0.2
    return positive, negative & ~(out | out.T)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mined", [True, False])
def test_value_and_gradient_are_the_reference_librarys(seed, mined):
    vectors, labels = batch(seed, groups=[8, 24, 2, 12][seed % 4])
    right, wrong = masks(labels)
    value, gradient = graded(lambda v: multi_similarity(v, right, wrong, epsilon=0.1 if mined else None), vectors)
    pairs = (lambda v: Miner(v, labels)) if mined else (lambda _: None)
    theirs, their_gradient = graded(lambda v: Theirs(v, labels, pairs(v)), vectors)
    assert value == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-6)
    assert reference.multi_similarity(vectors, right, wrong, epsilon=0.1 if mined else None) == pytest.approx(
        value, rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize(("alpha", "beta", "base", "epsilon"), [(2, 40, 0.5, 0.1), (1, 50, 0, 0.02), (18, 75, 0.3, 1)])
def test_so_they_are_with_other_parameters(alpha, beta, base, epsilon):
    vectors, labels = batch(3)
    given = {"alpha": alpha, "beta": beta, "base": base}
    loss, miner = MultiSimilarityLoss(**given), MultiSimilarityMiner(epsilon=epsilon)
    value, gradient = graded(lambda v: multi_similarity(v, *masks(labels), **given, epsilon=epsilon), vectors)
    theirs, their_gradient = graded(lambda v: loss(v, labels, miner(v, labels)), vectors)
    assert value == pytest.approx(theirs, rel=1e-5)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-6)


class TestNeutralPairs:
    @pytest.mark.parametrize("seed", range(6))
    def test_without_miner_they_are_the_pairs_that_the_library_is_not_given(self, seed):
        vectors, labels = batch(seed)
        right, wrong = neutral_pairs(labels, seed)
        off = right & ~torch.eye(len(right), dtype=torch.bool)
        pairs = (*off.nonzero(as_tuple=True), *wrong.nonzero(as_tuple=True))
        value, gradient = graded(lambda v: multi_similarity(v, right, wrong, epsilon=None), vectors)
        theirs, their_gradient = graded(lambda v: Theirs(v, labels, pairs), vectors)
        assert value == pytest.approx(theirs, rel=1e-5)
        torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("seed", range(6))
    def test_with_miner_each_anchor_is_mined_as_if_they_were_not_in_the_batch(self, seed):
        vectors, labels = batch(seed)
        right, wrong = neutral_pairs(labels, seed)
        pairs = _mined_one_by_one(vectors, right, wrong)
        value, gradient = graded(lambda v: multi_similarity(v, right, wrong), vectors)
        theirs, their_gradient = graded(lambda v: Theirs(v, labels, pairs), vectors)
        assert value == pytest.approx(theirs, rel=1e-5)
        torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-6)
        assert reference.multi_similarity(vectors, right, wrong) == pytest.approx(value, rel=1e-5)

    def test_a_neutral_pair_pulls_and_pushes_nothing(self):
        """Four vectors: two pairs; 0 and 2 are neutral. Where 0 and 2 were negative, they would be pushed apart."""
        vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [1, 0.1, 0], [0, 0, 1]]))
        right = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]).bool()
        wrong = ~right & ~torch.eye(4, dtype=torch.bool)
        without = wrong.clone()
        without[0, 2] = without[2, 0] = False
        apart, pushed = (
            graded(lambda v, w=w: multi_similarity(v, right, w, epsilon=None), vectors) for w in (without, wrong)
        )
        assert pushed[0] > apart[0] + 0.3  # log(1 + e^50) / 50 ≈ 1 for each of two anchors of four
        assert torch.equal(mine(vectors @ vectors.T, right, without, 0.1)[1][0], torch.tensor([False] * 4))


def _mined_one_by_one(vectors: torch.Tensor, right: torch.Tensor, wrong: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the library's mined pairs of each anchor in a batch of that anchor, its positives and its negatives."""
    found: list[list[tuple[int, int]]] = [[], []]
    for i in range(len(vectors)):
        others = [j for j in range(len(vectors)) if j != i and (right[i, j] or wrong[i, j])]
        rows = torch.tensor([i, *others])
        labels = torch.tensor([0, *(0 if right[i, j] else 1 for j in others)])
        a, p, b, n = Miner(vectors[rows], labels)
        for kept, (anchors, seconds) in zip(found, ((a, p), (b, n)), strict=True):
            kept += [(i, int(rows[s])) for s in seconds[anchors == 0]]
    (a, p), (b, n) = (torch.tensor(kept, dtype=torch.long).reshape(-1, 2).T for kept in found)
    return a, p, b, n


class TestEdges:
    def test_nothing_to_learn_is_nought_with_no_gradient(self):
        vectors = torch.eye(4)
        none = torch.zeros(4, 4, dtype=torch.bool)
        for right, wrong in ((none, none), (none, ~none), (~none, none)):
            value, gradient = graded(lambda v, r=right, w=wrong: multi_similarity(v, r, w), vectors)
            assert value == 0
            assert torch.equal(gradient, torch.zeros(4, 4))

    def test_an_image_is_no_pair_of_its_own(self):
        vectors, labels = batch(1)
        right, wrong = masks(labels)
        all_wrong = wrong | torch.eye(len(labels), dtype=torch.bool)
        assert multi_similarity(vectors, right, all_wrong) == multi_similarity(vectors, right, wrong)

    def test_lengths_do_not_matter(self):
        vectors, labels = batch(2)
        scaled = vectors * torch.logspace(-2, 2, len(labels))[:, None]
        assert multi_similarity(scaled, *masks(labels)).item() == pytest.approx(
            multi_similarity(vectors, *masks(labels)).item(), rel=1e-5
        )

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    def test_half_precision_around_it_does_not_reach_it(self, kind):
        """e^50 is beyond half precision: two negatives that are alike would give an infinite loss."""
        vectors = torch.ones(4, 8, dtype=kind)
        right = torch.eye(4, dtype=torch.bool)[[1, 0, 3, 2]]
        wrong = ~right & ~torch.eye(4, dtype=torch.bool)
        with torch.autocast("cpu", kind):
            value = multi_similarity(vectors, right, wrong)
        assert value.dtype == torch.float32
        expected = np.log1p(np.exp(-1)) + np.log1p(2 * np.exp(50)) / 50
        assert value.item() == pytest.approx(expected, rel=1e-4)
