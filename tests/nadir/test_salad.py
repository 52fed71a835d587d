"""SALAD: what the paper promises of its assignment and of its vector, and the formula written a second time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geosearch.errors import ModelError
from geosearch.nadir import reference
from geosearch.nadir.salad import SHAPES, Salad, SaladShape, assignment

DUSTBIN = torch.tensor(1.0)
TINY = SaladShape(clusters=5, cluster_dim=6, global_dim=7, hidden=16, dropout=0.3)


def scores(n: int = 30, m: int = 8, spread: float = 1.0, seed: int = 0) -> torch.Tensor:
    return spread * torch.randn(3, n, m, generator=torch.Generator().manual_seed(seed))


def salad(shape: SaladShape = TINY, channels: int = 12, token: int = 10) -> Salad:
    torch.manual_seed(3)
    return Salad(channels, token, shape).eval()


class TestAssignment:
    @pytest.mark.parametrize(("n", "m", "spread"), [(30, 8, 1.0), (36, 16, 3.0), (256, 64, 2.0), (9, 8, 0.1)])
    def test_it_is_the_formula_in_float64(self, n, m, spread):
        s = scores(n, m, spread)
        ours = assignment(s, DUSTBIN)
        for one, given in zip(ours, s, strict=True):
            np.testing.assert_allclose(one, reference.assignment(given.numpy(), 1.0), rtol=2e-5, atol=1e-7)

    def test_each_patch_gives_exactly_one(self):
        """What a patch does not give to clusters is what the dustbin's column would hold: e^score scaled as theirs."""
        s = scores(40, 8, 2.0).double()
        shared = assignment(s, DUSTBIN).double()
        rest = 1 - shared.sum(2)
        assert (rest > 0).all()
        # shared_ij / rest_i = e^(s_ij + c_j − c_dustbin): over the scores, one number a cluster.
        ratio = torch.log(shared / rest[:, :, None]) - s
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=0, atol=2e-4)

    def test_each_cluster_takes_about_one_and_exactly_one_in_the_end(self):
        s = scores(60, 8, 2.0)
        assert (assignment(s, DUSTBIN).sum(1) - 1).abs().max() < 0.2
        torch.testing.assert_close(assignment(s, DUSTBIN, 200).sum(1), torch.ones(3, 8), rtol=0, atol=1e-4)

    def test_the_dustbins_score_changes_nothing(self):
        """Clusters and dustbin are scaled first, which takes a constant of a column away (see the decision)."""
        s = scores()
        torch.testing.assert_close(assignment(s, DUSTBIN), assignment(s, torch.tensor(-4.0)), rtol=1e-5, atol=1e-7)

    def test_scores_far_from_each_other_stay_finite(self):
        """e^200 is beyond single precision: without logarithms it would be infinite."""
        s = scores(30, 8, 200.0)
        shared = assignment(s, DUSTBIN)
        assert torch.isfinite(shared).all()
        assert shared.min() >= 0
        assert shared.sum(2).max() <= 1 + 1e-5

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    def test_half_precision_around_it_does_not_reach_it(self, kind):
        s = scores(256, 64, 3.0).to(kind)
        alone = assignment(s.float(), DUSTBIN)
        with torch.autocast("cpu", kind):
            assert torch.equal(assignment(s, DUSTBIN), alone)
            assert assignment(s, DUSTBIN.to(kind)).dtype == torch.float32

    @pytest.mark.parametrize("n", [7, 8])
    def test_no_more_patches_than_clusters_is_refused(self, n):
        with pytest.raises(ModelError, match=rf"{n} patches out to 8 clusters.*larger pictures or fewer clusters"):
            assignment(scores(n, 8), DUSTBIN)


class TestSalad:
    def test_sizes_are_the_articles(self):
        assert {name: shape.dimension for name, shape in SHAPES.items()} == {
            "small": 2048, "base": 3072, "large": 4096, "full": 8448,
        }  # fmt: skip

    def test_it_is_the_formula_in_float64(self):
        model, patches, token = salad(), torch.randn(2, 20, 12), torch.randn(2, 10)
        ours = model(patches, token).detach()
        for i in range(2):
            with torch.no_grad():
                parts = [part.numpy() for part in (model.score(patches[i]), model.cluster(patches[i]))]
                one = model.token(token[i]).numpy()
            shared = reference.assignment(parts[0], 1.0)
            np.testing.assert_allclose(ours[i], reference.descriptor(shared, parts[1], one), rtol=0, atol=2e-6)

    def test_every_part_has_the_same_length(self):
        """The norm before the last step is √(1 + m), so that each of the 1 + m parts has 1 / √(1 + m) after it."""
        out = salad()(torch.randn(2, 20, 12), torch.randn(2, 10)).detach()
        parts = [out[:, :7], *out[:, 7:].reshape(2, 5, 6).unbind(1)]
        for part in parts:
            torch.testing.assert_close(part.norm(dim=1), torch.full((2,), 1 / math.sqrt(6)), rtol=1e-5, atol=0)
        torch.testing.assert_close(out.norm(dim=1), torch.ones(2))

    def test_the_order_of_patches_does_not_matter(self):
        patches, token = torch.randn(2, 20, 12), torch.randn(2, 10)
        model, order = salad(), torch.randperm(20)
        torch.testing.assert_close(model(patches[:, order], token), model(patches, token), rtol=0, atol=1e-6)

    def test_a_picture_does_not_depend_on_the_others_of_its_batch(self):
        patches, token = torch.randn(4, 20, 12), torch.randn(4, 10)
        model = salad()
        torch.testing.assert_close(model(patches, token)[1:2], model(patches[1:2], token[1:2]), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
    def test_vectors_are_float32_and_of_length_1_inside_autocast(self, kind):
        patches, token = torch.randn(2, 20, 12), torch.randn(2, 10)
        model = salad()
        with torch.autocast("cpu", kind):
            out = model(patches, token)
        assert out.dtype == torch.float32
        torch.testing.assert_close(out.norm(dim=1), torch.ones(2))
        assert (F.cosine_similarity(out, model(patches, token)) > 0.999).all()

    def test_gradients_reach_every_weight_and_are_finite(self):
        model = salad().train()
        (model(torch.randn(2, 20, 12), torch.randn(2, 10)) @ torch.randn(37)).sum().backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, name
            assert torch.isfinite(weight.grad).all(), name

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [({"clusters": 0}, "salad.clusters"), ({"hidden": 2.0}, "salad.hidden"), ({"dropout": 1.0}, "salad.dropout"),
         ({"cluster_dim": True}, "salad.cluster_dim"), ({"global_dim": 10**9}, "salad.global_dim")],
    )  # fmt: skip
    def test_impossible_shapes_are_refused(self, wrong, says):
        with pytest.raises(ModelError, match=says):
            SaladShape(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_in_half_precision_agrees_with_the_cpu():
    patches, token = torch.randn(4, 256, 12), torch.randn(4, 10)
    model = salad(SaladShape(64, 16, 32, 64))
    alone = model(patches, token)
    model.cuda()
    with torch.autocast("cuda", torch.float16):
        out = model(patches.cuda(), token.cuda()).cpu()
    assert (F.cosine_similarity(out, alone) > 0.9999).all()
