"""RANGE in SQL at the ends of what numbers can be: PostgreSQL refuses a product of floats that underflows."""

from __future__ import annotations

import numpy as np
import pytest
from range_truth import ask, encode, error, install_encoder, make_bank, random_arrays, truth

KEYS, VALUES = 8, 5
PLACES = [(10.0, 20.0), (-10.0, -160.0), (90.0, 3.0), (0.0, 0.0), (1e-200, -1e-170), (5e-324, 5e-324)]


@pytest.fixture(scope="module")
def banks(module_database_url):
    """A connection to a database with an encoder."""
    from geosearch.database.connection import connect

    with connect(module_database_url, autocommit=True) as conn:
        install_encoder(conn, "toy", KEYS)
        yield conn


@pytest.mark.parametrize("places", [1, 1999, 2000, 2001])
@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1.0, 1e30, 1e37])
def test_values_of_any_size_in_blocks_of_any_size(banks, places, scale):
    arrays = random_arrays(places, KEYS, VALUES, seed=places)
    arrays.values[:] *= np.float32(scale)
    with banks.transaction(force_rollback=True):
        make_bank(banks, "sized", arrays)
        for mode in ("soft", "topk", "top1", "mean"):
            found, _ = ask(banks, "sized", 10.0, 20.0, mode=mode)
            right = truth(arrays, encode(banks, "toy", 10.0, 20.0), 10.0, 20.0, mode=mode).expected
            assert error(found[:VALUES], right) <= 1e-5


def test_places_next_to_0_degrees_neither_underflow_nor_move(banks):
    rng = np.random.default_rng(3)
    arrays = random_arrays(2500, KEYS, VALUES, seed=17)
    arrays.lat[:], arrays.lon[:] = 10 ** rng.uniform(-320, 1, 2500), -(10 ** rng.uniform(-320, 1, 2500))
    with banks.transaction(force_rollback=True):
        make_bank(banks, "near", arrays)
        for lat, lon in PLACES:
            query = encode(banks, "toy", lat, lon)
            for options in ({}, {"beta": 0.0, "tau_geo": 1e6}, {"tau_geo": 5e-324}, {"min_cos": -1e-300}):
                if options.get("min_cos") and (lat, lon) in [(-10.0, -160.0)]:
                    continue
                found, _ = ask(banks, "near", lat, lon, **options)
                assert error(found[:VALUES], truth(arrays, query, lat, lon, **options).expected) <= 1e-5


@pytest.mark.parametrize("mode", ["soft", "topk"])
@pytest.mark.parametrize("beta", [0.0, 1e-320, 0.5, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("tau", [5e-324, 1e-300, 1e-100])
def test_the_smallest_tau_weighs_all_alike(banks, tau, beta, mode):
    arrays = random_arrays(2001, KEYS, VALUES, seed=5)
    with banks.transaction(force_rollback=True):
        make_bank(banks, "flat", arrays)
        for lat, lon in PLACES:
            found, account = ask(banks, "flat", lat, lon, beta=beta, tau_sem=tau, tau_geo=tau, mode=mode, k=2001)
            np.testing.assert_allclose(found[:VALUES], arrays.values.mean(axis=0, dtype=np.float64), rtol=1e-5)
            assert (account.mass_sem, account.mass_geo) == pytest.approx((1, 1))


def test_an_angle_of_180_degrees_hides_no_place(banks):
    """Not the antipode either, whose cosine may come out below -1."""
    for n in range(20):
        at = random_arrays(1, KEYS, VALUES, seed=n)
        lat, lon = float(at.lat[0]), float(at.lon[0])
        with banks.transaction(force_rollback=True):
            make_bank(banks, "far", at)
            for mode in ("soft", "mean"):
                found, account = ask(
                    banks, "far", -lat, lon + 180 if lon < 0 else lon - 180, beta=0.0, min_cos=-1, mode=mode
                )
                assert account.places == 1
                np.testing.assert_allclose(found[:VALUES], at.values[0], rtol=1e-6)
