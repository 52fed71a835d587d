"""SoftRetrieval against the float64 reference: in all modes, precisions and sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_bank import PositionEncoder, random_bank, random_queries, relative

from geosearch.errors import InputError
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.reference import embed
from geosearch.range.soft import SoftRetrieval

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "options",
    [
        Retrieval(),
        Retrieval(beta=1),
        Retrieval(beta=0),
        Retrieval(beta=0.1, tau_sem=40, tau_geo=3),
        Retrieval(tau_sem=200, tau_geo=5000),
        Retrieval(min_cos=0.5),
        Retrieval(mode="topk", k=10),
        Retrieval(mode="topk", k=10_000),
        Retrieval(mode="top1"),
        Retrieval(mode="mean", k=5, min_cos=0.9),
        Retrieval(mode="mean", k=5, beta=0),
    ],
    ids=str,
)
def test_fp32_is_the_reference_in_every_mode(options: Retrieval, device: str) -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(600, 12)  # more than one chunk, the last not full
    truth = embed(bank, lat, lon, options, queries)
    found = SoftRetrieval(bank, options, device).retrieve(lat, lon, queries)
    assert relative(found.embedding.cpu().numpy(), truth.embedding) < 1e-5
    np.testing.assert_allclose(found.mass_sem.cpu(), truth.mass_sem, rtol=1e-4)
    np.testing.assert_allclose(found.mass_geo.cpu(), truth.mass_geo, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("options", [Retrieval(), Retrieval(beta=1, tau_sem=40), Retrieval(mode="topk")], ids=str)
def test_at_the_size_of_the_papers_bank(options: Retrieval, device: str) -> None:
    """10 000 places, 256 + 1 024: fp32 within 1e-5 a row, bf16 within 1e-2, of h alone and of the whole embedding."""
    bank = random_bank(10_000, 256, 1024)
    lat, lon, queries = random_queries(40, 256)
    truth = embed(bank, lat, lon, options, queries).embedding
    for precision, most in (("fp32", 1e-5), ("bf16", 1e-2)):
        found = SoftRetrieval(bank, options, device, precision).embed(lat, lon, queries)
        assert found.dtype == np.float32
        assert relative(found, truth) < most
        assert relative(found[:, :1024], truth[:, :1024]) < most


@pytest.mark.parametrize("device", DEVICES)
def test_a_sharp_softmax_over_values_that_cancel(device: str) -> None:
    """Values of mean 0, of which the mean is short: an error of a weight counts most. τ about where float64 begins."""
    rng = np.random.default_rng(5)
    places, keys = random_bank(4000, 256, 8), rng.standard_normal((4000, 256)) + 1  # as the queries: cosines of 0.5
    bank = Bank.of("toy", "no-encoder", places.lat, places.lon, keys, rng.standard_normal((4000, 512)))
    lat, lon, queries = random_queries(64, 256)
    for options in (Retrieval(1, tau_sem=64), Retrieval(1, tau_sem=32), Retrieval(0, tau_geo=64)):
        truth = embed(bank, lat, lon, options, queries).embedding
        assert relative(SoftRetrieval(bank, options, device).embed(lat, lon, queries), truth) < 1e-5


def test_bf16_on_values_without_a_common_part() -> None:
    """Values about 0 nearly cancel in h, which makes rounding weigh most."""
    bank = random_bank(4000, 64, 128)
    bank = type(bank).of("bare", "none", bank.lat, bank.lon, bank.keys, bank.values - bank.values.mean(0))
    lat, lon, queries = random_queries(64, 64)
    truth = embed(bank, lat, lon, None, queries).embedding[:, :128]
    assert relative(SoftRetrieval(bank, precision="bf16").embed(lat, lon, queries)[:, :128], truth) < 1e-2


def test_bf16_on_few_places_and_sharp_softmaxes() -> None:
    """Where few places count, their roundings do not level out: short keys, τ 40, values with hardly a common part."""
    for seed in range(5):
        bank = random_bank(300, 12, 20, seed)
        lat, lon, queries = random_queries(100, 12, seed)
        for options in (Retrieval(), Retrieval(beta=1), Retrieval(beta=1, tau_sem=40), Retrieval(beta=0)):
            truth = embed(bank, lat, lon, options, queries).embedding[:, :20]
            found = SoftRetrieval(bank, options, precision="bf16").embed(lat, lon, queries)[:, :20]
            assert relative(found, truth) < 1e-2


def test_the_encoder_asks_where_no_queries_are_given() -> None:
    bank, encoder = random_bank(), PositionEncoder()
    lat, lon, _ = random_queries(10, 12)
    asked = encoder.encode_places(lat, lon)
    found = SoftRetrieval(bank, encoder=encoder).embed(lat, lon)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, SoftRetrieval(bank).embed(lat, lon, asked))


def test_nothing_depends_on_the_company_of_a_place() -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(300, 12)
    retrieval = SoftRetrieval(bank)
    whole = retrieval.embed(lat, lon, queries)
    assert relative(retrieval.embed(lat[277:280], lon[277:280], queries[277:280]), whole[277:280]) < 5e-6
    assert retrieval.embed(lat[:0], lon[:0], queries[:0]).shape == (0, 32)


def test_a_bank_of_one_place_answers_with_it() -> None:
    bank = random_bank(1)
    lat, lon, queries = random_queries(3, 12)
    for options in (Retrieval(), Retrieval(mode="topk"), Retrieval(mode="top1"), Retrieval(mode="mean")):
        found = SoftRetrieval(bank, options).embed(lat, lon, queries)
        np.testing.assert_allclose(found[:, :20], np.tile(bank.values, (3, 1)), rtol=1e-6)


def test_refusals_name_the_row() -> None:
    bank = random_bank()
    lat, lon, queries = random_queries(300, 12)
    with pytest.raises(InputError, match="no precision"):
        SoftRetrieval(bank, precision="fp16")  # type: ignore[arg-type]
    for at, value, said in ((7, 91.0, "row 7: latitude 91.0"), (5, np.nan, "row 5: latitude nan")):
        wrong = lat.copy()
        wrong[at] = value
        with pytest.raises(InputError, match=said):
            SoftRetrieval(bank).embed(wrong, lon, queries)
    with pytest.raises(InputError, match="row 3: longitude 181"):
        SoftRetrieval(bank).embed(lat, np.where(np.arange(300) == 3, 181.0, lon), queries)
    with pytest.raises(InputError, match=r"shape \(300, 12\), not \(300, 11\)"):
        SoftRetrieval(bank).embed(lat, lon, queries[:, :11])
    with pytest.raises(InputError, match="row 290: its query is zero"):
        SoftRetrieval(bank).embed(lat, lon, np.where(np.arange(300)[:, None] == 290, 0, queries))
    # A row of the second chunk: the number is that of the whole.
    near_first = np.full(261, bank.lat[0]), np.full(261, bank.lon[0])
    near_first[1][260] += 1 if bank.lon[0] < 0 else -1
    with pytest.raises(InputError, match="row 260: no place of the bank"):
        SoftRetrieval(bank, Retrieval(beta=0, min_cos=0.99999999)).embed(*near_first, queries[:261])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mode", ["topk", "top1", "mean"])
def test_of_equal_places_the_first_is_kept_and_a_small_tau_hides_no_order(mode: str, device: str) -> None:
    bank = random_bank(40)
    twice = replace(bank, keys=np.concatenate([bank.keys[:20], bank.keys[:20]]))  # other places, other values
    lat, lon, queries = random_queries(100, 12)
    for options in (Retrieval(1, 10, mode=mode, k=5), Retrieval(0.5, 1e-6, 1e-6, mode=mode, k=5)):
        truth = embed(twice, lat, lon, options, queries)
        found = SoftRetrieval(twice, options, device).retrieve(lat, lon, queries)
        assert relative(found.embedding.cpu().numpy(), truth.embedding) < 1e-5
        np.testing.assert_allclose(found.mass_sem.cpu(), truth.mass_sem, rtol=1e-4)
