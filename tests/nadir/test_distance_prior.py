"""The soft distance prior: against densities that are known, and weights that data were drawn with."""

from __future__ import annotations

import json

import numpy as np
import pytest

from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M
from geosearch.nadir.prior import Blend, DistancePrior, fit_blend

RNG = np.random.default_rng(5)


def test_places_drawn_evenly_over_the_earth_say_nothing() -> None:
    """f = g: the log-ratio is 0 wherever there is enough of the Earth to be drawn."""
    away = EARTH_RADIUS_M * np.arccos(RNG.uniform(-1, 1, 200_000))
    ratio = DistancePrior.fit(away).log_ratio(np.arange(1_500e3, 18_000e3, 100e3))
    assert np.abs(ratio).max() < 0.08


def test_half_normal_offsets_give_their_closed_form() -> None:
    """f = √(2/π)/σ · exp(−d²/2σ²), g = sin(d/R)/2R."""
    sigma, d = 420e3, np.arange(50e3, 1_000e3, 50e3)
    prior = DistancePrior.fit(np.abs(RNG.normal(0, sigma, 200_000)), anywhere=1e-9)
    wanted = np.log(np.sqrt(2 / np.pi) / sigma * np.exp(-(d**2) / 2 / sigma**2))
    wanted -= np.log(np.sin(d / EARTH_RADIUS_M) / 2 / EARTH_RADIUS_M)
    assert np.abs(prior.log_ratio(d) - wanted).max() < 0.12


def test_all_mass_is_somewhere_and_nothing_is_impossible() -> None:
    """Summed over the sphere, f/g · g is 1; far places keep the share `anywhere`."""
    prior = DistancePrior.fit(np.abs(RNG.normal(0, 300e3, 2000)), anywhere=0.01)
    edges = np.linspace(0, np.pi * EARTH_RADIUS_M, 400_001)
    middle, even = (edges[1:] + edges[:-1]) / 2, -np.diff(np.cos(edges / EARTH_RADIUS_M)) / 2
    assert np.exp(prior.log_ratio(middle)) @ even == pytest.approx(1, rel=0.03)
    assert prior.log_ratio(15_000e3) == pytest.approx(np.log(0.01))
    assert prior.log_ratio([np.nan, 0.0])[0] == 0
    assert DistancePrior.read(json.loads(json.dumps(prior.facts()))).log_ratio(7e5) == pytest.approx(
        prior.log_ratio(7e5), abs=1e-4
    )


def test_distances_that_cannot_be_are_refused() -> None:
    """Too few, negative, beyond the antipode; no share of anywhere; a file of something else."""
    with pytest.raises(InputError, match="share"):
        DistancePrior.fit(np.ones(50), anywhere=0)
    for wrong in (np.ones(9), np.full(20, -1.0), np.full(20, 3e7)):
        with pytest.raises(InputError):
            DistancePrior.fit(wrong)
    with pytest.raises(InputError, match="fit it again"):
        DistancePrior.read({"bin_m": 1})


def test_weights_are_found_again_that_answers_were_drawn_with() -> None:
    """Right images drawn by the conditional logit itself, and so the likelihood's maximum lies at its weights."""
    cosines, ratios = RNG.uniform(-0.2, 0.8, (4000, 60)), RNG.normal(0, 2, (4000, 60))
    noise = RNG.gumbel(size=cosines.shape)
    right = np.zeros(cosines.shape, bool)
    right[np.arange(4000), (12 * cosines + 0.6 * ratios + noise).argmax(1)] = True
    halves = [slice(0, 1500), slice(1500, 4000)]
    blend = fit_blend([(cosines[h], ratios[h], right[h]) for h in halves])
    assert blend.sharpness == pytest.approx(12, rel=0.05)
    assert blend.weight == pytest.approx(0.6, rel=0.07)
    assert blend == Blend(*(pytest.approx(v, rel=1e-3) for v in vars(fit_blend([(cosines, ratios, right)])).values()))


def test_a_cosine_that_knows_the_distance_already_leaves_the_prior_less() -> None:
    """What both say is not counted twice: the weight of a prior that the cosine repeats is nearly 0."""
    ratios = RNG.normal(0, 2, (2000, 50))
    right = np.zeros(ratios.shape, bool)
    right[np.arange(2000), (ratios + RNG.gumbel(size=ratios.shape)).argmax(1)] = True
    knows = ratios / 20 + RNG.normal(0, 1e-4, ratios.shape)
    blend = fit_blend([(knows, np.clip(ratios, -1, 1), right)])
    assert abs(blend.weight) < 0.2 and blend.sharpness == pytest.approx(20, rel=0.15)


def test_what_cannot_be_fitted_is_said() -> None:
    """No query with right and wrong images; cosines that mislead."""
    x = RNG.normal(size=(300, 20))
    with pytest.raises(InputError, match="nothing to fit"):
        fit_blend([(x, x, np.zeros(x.shape, bool))])
    right = x == x.min(1, keepdims=True)
    with pytest.raises(InputError, match="do not tell"):
        fit_blend([(x, RNG.normal(size=x.shape), right)])


def test_scores_keep_the_order_of_the_likelihood() -> None:
    """Cosine + w/s · log-ratio orders as s · cosine + w · log-ratio."""
    cosines, ratios = RNG.normal(size=30), RNG.normal(size=30)
    assert (Blend(8.0, 0.5).score(cosines, ratios).argsort() == (8 * cosines + 0.5 * ratios).argsort()).all()
