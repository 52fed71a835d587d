"""Nadirs → vectors: no seam, one value at a pole, a vector for those that are not known; and the fusion with images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geosearch.errors import ModelError
from geosearch.nadir import reference
from geosearch.nadir.fourier import NadirEncoder, NadirShape, fourier_features
from geosearch.nadir.fusion import Concatenation

PLACES = [(0, 0), (45, 10), (-3, -60), (89.999, 12), (-90, 0), (51.6, 180), (-51.6, -179.9), (12.25, 123.5)]
SHAPE = NadirShape(frequencies=24, hidden=32, dimension=16)


def encoder(shape: NadirShape = SHAPE) -> NadirEncoder:
    torch.manual_seed(5)
    return NadirEncoder(shape)


def tensors(places: list[tuple[float, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    lat, lon = torch.tensor(places, dtype=torch.float64).T
    return lat, lon


class TestFeatures:
    def test_they_are_the_formula_in_float64(self):
        waves = encoder(NadirShape()).waves
        features = fourier_features(*tensors(PLACES), waves)
        assert features.shape == (len(PLACES), 3 + 2 * 96)
        for row, (lat, lon) in zip(features, PLACES, strict=True):
            np.testing.assert_allclose(row, reference.fourier_features(lat, lon, waves.numpy()), rtol=0, atol=1e-6)

    def test_latitude_comes_first(self):
        v = fourier_features(*tensors([(0, 90), (90, 0), (0, 0)]), torch.zeros(1, 3))[:, :3]
        torch.testing.assert_close(v, torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), rtol=0, atol=1e-7)

    def test_their_products_depend_on_the_distance_alone_and_fall_with_it(self):
        """Σ cos W(a − b) of directions drawn evenly: near places are alike, far ones are not (arXiv 2006.10739)."""
        waves = encoder(NadirShape(frequencies=2000)).waves
        rows = fourier_features(*tensors([(0, 0), (0, 1), (0, 5), (0, 25)]), waves)[:, 3:]
        alike = (rows @ rows[0] / 2000).tolist()
        assert alike[0] == pytest.approx(1, abs=1e-5)
        assert alike[0] > alike[1] > alike[2] > alike[3]
        here = fourier_features(*tensors([(60, 100), (60, 102)]), waves)[:, 3:]  # 111 km, as (0, 0) and (0, 1)
        assert float(here[0] @ here[1]) / 2000 == pytest.approx(alike[1], abs=0.02)

    def test_waves_are_drawn_alike_each_time_and_span_what_the_shape_says(self):
        waves = encoder(NadirShape(lowest=2, highest=30)).waves
        assert torch.equal(waves, NadirEncoder(NadirShape(lowest=2, highest=30)).waves)
        lengths = waves.norm(dim=1)
        assert (float(lengths[0]), float(lengths[-1])) == pytest.approx((2, 30), rel=1e-5)


class TestNadirEncoder:
    def test_there_is_no_seam(self):
        lat = torch.tensor([0.0, 51.6, -80.0], dtype=torch.float64)
        model, side = encoder(), torch.full((3,), 180.0, dtype=torch.float64)
        torch.testing.assert_close(model(lat, side), model(lat, -side), rtol=0, atol=1e-6)
        torch.testing.assert_close(model(lat, side - 1e-5), model(lat, -side + 1e-5), rtol=0, atol=1e-5)
        torch.testing.assert_close(model(lat, side + 5), model(lat, -side + 5), rtol=0, atol=1e-6)  # 185° is −175°

    @pytest.mark.parametrize("pole", [90.0, -90.0])
    def test_a_pole_is_one_place(self, pole):
        lon = torch.tensor([0.0, 90, -135, 180], dtype=torch.float64)
        vectors = encoder()(torch.full((4,), pole, dtype=torch.float64), lon)
        torch.testing.assert_close(vectors, vectors[:1].expand(4, -1), rtol=0, atol=1e-6)

    def test_vectors_are_float32_of_length_1_also_inside_autocast(self):
        model = encoder()
        alone = model(*tensors(PLACES))
        assert alone.shape == (len(PLACES), SHAPE.dimension)
        torch.testing.assert_close(alone.norm(dim=1), torch.ones(len(PLACES)))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(*tensors(PLACES)), alone)
        assert alone.dtype == torch.float32

    def test_what_is_not_known_has_the_learned_vector_and_leaves_the_others_alone(self):
        model, nan = encoder(), math.nan
        vectors = model(*tensors([(45, 10), (nan, 10), (45, nan), (nan, nan)]))
        null = model.unknown / model.unknown.norm()
        torch.testing.assert_close(vectors[1:], null.expand(3, -1))
        torch.testing.assert_close(vectors[:1], model(*tensors([(45, 10)])))

    def test_gradients_pass_by_what_is_not_known(self):
        model = encoder()
        (model(*tensors([(45, 10), (math.nan, math.nan)])) @ torch.randn(16)).sum().backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, name
            assert torch.isfinite(weight.grad).all(), name
        assert model.unknown.grad.abs().sum() > 0

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [({"frequencies": 0}, "nadir.frequencies"), ({"dimension": 1.5}, "nadir.dimension"), ({"lowest": 0}, "lowest"),
         ({"lowest": 9, "highest": 8}, "lowest ≤ highest"), ({"highest": math.nan}, "highest"),
         ({"highest": math.inf}, "highest")],
    )  # fmt: skip
    def test_impossible_shapes_are_refused(self, wrong, says):
        with pytest.raises(ModelError, match=says):
            NadirShape(**wrong)


class TestConcatenation:
    @pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
    def test_its_cosine_weighs_those_of_images_and_nadirs(self, scale):
        rng = np.random.default_rng(1)
        image, nadir = (torch.nn.functional.normalize(torch.tensor(rng.standard_normal((6, d)))) for d in (10, 4))
        fusion = Concatenation()
        fusion.log_scale.data.fill_(math.log(scale))
        both = fusion(image, nadir).detach()
        assert both.dtype == torch.float32
        np.testing.assert_allclose(both, reference.concatenation(image, nadir, scale), rtol=0, atol=1e-6)
        torch.testing.assert_close(both.norm(dim=1), torch.ones(6))
        expected = reference.cosine_of_both(image @ image.T, nadir @ nadir.T, scale)
        np.testing.assert_allclose(both @ both.T, expected, rtol=0, atol=1e-6)

    def test_the_scale_is_learned_from_1(self):
        fusion = Concatenation()
        assert fusion.log_scale.exp().item() == 1
        a, b = torch.randn(2, 5), torch.randn(2, 3)
        both = fusion(torch.nn.functional.normalize(a), torch.nn.functional.normalize(b))
        (both[0] @ both[1]).backward()
        assert fusion.log_scale.grad.abs() > 0
