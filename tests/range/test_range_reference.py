"""The formulas of RANGE on banks small enough to be worked out by hand, and their limits."""

from __future__ import annotations

import numpy as np
import pytest
from toy_bank import random_bank, random_queries

from geosearch.errors import InputError
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.reference import embed
from geosearch.range.soft import SoftRetrieval


@pytest.fixture
def two() -> Bank:
    """Two places on the equator, a quarter of it apart; their keys point along the axes."""
    return Bank.of("two", "none", [0.0, 0.0], [0.0, 90.0], [[1, 0], [0, 2]], [[10.0], [-10.0]])


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_two_places_give_the_logistic_function(two: Bank) -> None:
    """With two places a softmax is σ of the difference of the logits: at lon 30 cosines are √3/2 and 1/2."""
    query = np.array([[0.6, 0.8]])
    semantic = 20 * sigmoid(12 * (0.6 - 0.8)) - 10
    geographic = 20 * sigmoid(40 * (3**0.5 / 2 - 0.5)) - 10
    for beta, expected in ((1.0, 20 * sigmoid(15 * -0.2) - 10), (0.0, geographic), (0.5, (semantic + geographic) / 2)):
        found = embed(two, [0.0], [30.0], Retrieval(beta=beta), query)
        np.testing.assert_allclose(found.embedding[0], [expected, 0.6, 0.8], rtol=1e-12)


def test_tau_of_range_is_15_and_of_the_others_12() -> None:
    assert [Retrieval(beta=b).semantic_tau for b in (1.0, 0.5, 0.0)] == [15, 12, 12]
    assert Retrieval(beta=1.0, tau_sem=7).semantic_tau == 7


def test_a_small_tau_gives_the_mean_and_a_great_one_the_nearest() -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(5, 12)
    flat = embed(bank, lat, lon, Retrieval(tau_sem=1e-9, tau_geo=1e-9), queries).embedding[:, :20]
    np.testing.assert_allclose(flat, np.tile(bank.values.mean(0, dtype=np.float64), (5, 1)), rtol=1e-6)
    sharp = embed(bank, lat, lon, Retrieval(beta=1, tau_sem=1e6), queries).embedding[:, :20]
    best = (queries @ bank.keys.T).argmax(1)
    np.testing.assert_allclose(sharp, bank.values[best], rtol=1e-6)


def test_top1_takes_one_place_of_each_softmax() -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(5, 12)
    found = embed(bank, lat, lon, Retrieval(mode="top1", beta=0.25), queries)
    here = np.stack(
        [np.cos(np.radians(lat)) * np.cos(np.radians(lon)), np.cos(np.radians(lat)) * np.sin(np.radians(lon)),
         np.sin(np.radians(lat))], 1
    )  # fmt: skip
    semantic, nearest = (queries @ bank.keys.T).argmax(1), (here @ bank.positions().T).argmax(1)
    np.testing.assert_allclose(
        found.embedding[:, :20], 0.25 * bank.values[semantic] + 0.75 * bank.values[nearest].astype(float), rtol=1e-12
    )


def test_mean_of_k_is_the_plain_mean() -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(4, 12)
    found = embed(bank, lat, lon, Retrieval(mode="mean", beta=1, k=7), queries)
    best = np.argsort(-(queries @ bank.keys.T), axis=1)[:, :7]
    np.testing.assert_allclose(found.embedding[:, :20], bank.values[best].mean(1, dtype=np.float64), rtol=1e-12)
    assert (found.mass_sem > 0.05).all()
    assert (found.mass_sem < 0.95).all()


def test_topk_of_all_places_is_soft_and_its_mass_grows_with_k() -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(4, 12)
    soft = embed(bank, lat, lon, None, queries)
    assert (soft.mass_sem == 1).all()
    masses = []
    for k in (1, 10, 100, 300, 1000):
        cut = embed(bank, lat, lon, Retrieval(mode="topk", k=k), queries)
        masses.append(cut.mass_sem)
    np.testing.assert_allclose(cut.embedding, soft.embedding, rtol=1e-12)
    assert (np.diff(masses, axis=0) >= 0).all()
    np.testing.assert_allclose(masses[-1], 1)


def test_min_cos_hides_far_places_from_the_geographic_softmax_only(two: Bank) -> None:
    query = np.array([[0.6, 0.8]])
    near = Retrieval(beta=0, min_cos=0.6)  # at lon 30 the second place's cosine is 0.5
    assert embed(two, [0.0], [30.0], near, query).embedding[0, 0] == 10
    both = embed(two, [0.0], [30.0], Retrieval(beta=0.5, min_cos=0.6), query).embedding[0, 0]
    assert both == pytest.approx((10 + 20 * sigmoid(12 * -0.2) - 10) / 2)
    with pytest.raises(InputError, match=r"row 1: no place of the bank lies within 53\.13° of 80\.0, 0\.0"):
        embed(two, [0.0, 80.0], [30.0, 0.0], near, np.repeat(query, 2, 0))
    embed(two, [80.0], [0.0], Retrieval(beta=1, min_cos=0.6), query)  # RANGE knows no distance


def test_the_least_min_cos_hides_nothing_not_even_the_antipode() -> None:
    lat, lon = np.random.default_rng(2).uniform(-89, 89, 500), np.random.default_rng(3).uniform(-180, 0, 500)
    query = np.array([[1.0]])
    for at, along in zip(lat, lon, strict=True):
        alone = Bank.of("alone", "none", [at], [along], [[1.0]], [[7.0]])
        asked = [-at], [along + 180]
        every = Retrieval(beta=0, min_cos=-1)
        assert embed(alone, *asked, every, query).embedding[0, 0] == 7
        assert SoftRetrieval(alone, every).embed(*asked, query)[0, 0] == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"beta": -0.1}, "beta"),
        ({"beta": 1.1}, "beta"),
        ({"beta": float("nan")}, "beta is a finite number"),
        ({"tau_sem": 0}, "tau_sem"),
        ({"tau_geo": -1}, "tau_geo"),
        ({"tau_geo": float("inf")}, "tau_geo"),
        ({"min_cos": 1.5}, "min_cos"),
        ({"min_cos": float("nan")}, "min_cos"),
        ({"mode": "hard"}, "soft, topk, top1, mean"),
        ({"k": 0}, "k, the number of places"),
        ({"k": 2.5}, "k, the number of places"),
    ],
)
def test_wrong_options_are_refused(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Retrieval(**options)
