"""The maps' projections: there and back, and against published values."""

import numpy as np
import pytest

from geosearch.geometry import destination
from geosearch.search.projection import Disc, World


@pytest.fixture
def places():
    rng = np.random.default_rng(3)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, 500))), rng.uniform(-180, 180, 500)


def test_equal_earth_goes_there_and_back(places):
    lat, lon = World().backward(*World().forward(*places))
    np.testing.assert_allclose(lat, places[0], atol=1e-6)
    np.testing.assert_allclose(lon, places[1], atol=1e-6)


@pytest.mark.parametrize(
    ("lat", "lon", "x", "y"),
    [(0, 180, 1, 0), (90, 0, 0, 0.48671694), (40.7128, -74.006, -0.36276159, 0.29079120)],
)
def test_equal_earth_as_published(lat, lon, x, y):
    got = World().forward(lat, lon)
    assert got == (pytest.approx(x, abs=1e-6), pytest.approx(y, abs=1e-6))


def test_equal_earth_has_no_place_outside_its_outline():
    assert np.isnan(World().backward(0.99, 0.48)).all()


@pytest.mark.parametrize("middle", [(0, 0), (46, 8), (-17, 179.9), (89.9, 30), (-90, 0)])
def test_the_disc_shows_true_distances_and_bearings(middle):
    disc = Disc(*middle, 5_000_000.0)
    bearing = np.arange(0, 360, 15.0)
    lat, lon = destination(*middle, bearing, np.full(bearing.shape, 2_500_000.0))
    x, y = disc.forward(lat, lon)
    np.testing.assert_allclose(np.hypot(x, y), 0.5, atol=1e-9)
    np.testing.assert_allclose((np.degrees(np.arctan2(x, y)) - bearing + 180) % 360 - 180, 0, atol=1e-6)
    back_lat, _ = disc.backward(x, y)
    np.testing.assert_allclose(back_lat, lat, atol=1e-9)


def test_outside_the_disc_there_is_nothing():
    assert np.isnan(Disc(10, 20, 1e6).backward(0.8, 0.8)).all()
    assert not np.isnan(Disc(10, 20, 1e6).backward(0.6, 0.6)).any()
