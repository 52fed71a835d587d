"""Views of the Earth against geometry worked out another way."""

import numpy as np
import pytest

from geosearch.bluemarble import camera
from geosearch.geometry import destination, distance_m

RNG = np.random.default_rng(3)


def test_a_tile_is_as_wide_as_asked_and_north_is_up():
    lat, lon = RNG.uniform(-80, 80, 50), RNG.uniform(-180, 180, 50)
    tile_lat, tile_lon = camera.tile_corners(lat, lon, 300_000)
    left = distance_m(tile_lat[:, 0], tile_lon[:, 0], tile_lat[:, 3], tile_lon[:, 3])
    # The chord through the middle is 300 km; the sides, away from the centre of projection, a little less.
    assert np.allclose(left, 300_000, rtol=1e-3)
    assert (tile_lat[:, 3] > tile_lat[:, 0]).all()


def test_pixels_of_a_tile_lie_between_its_corners():
    patch = camera.tile_view(60.0, 10.0, 300_000, 65)
    assert patch.lat.shape == (1, 65, 65)
    assert patch.lat[0, 32, 32] == pytest.approx(60.0, abs=1e-4)
    assert patch.lon[0, 32, 32] == pytest.approx(10.0, abs=1e-4)
    assert patch.lat[0, 0, 32] > patch.lat[0, 64, 32], "row 0 is the northern side"
    assert patch.lon[0, 32, 0] < patch.lon[0, 32, 64]
    edge = distance_m(patch.lat[0, 32, 0], patch.lon[0, 32, 0], patch.lat[0, 32, 64], patch.lon[0, 32, 64])
    assert edge == pytest.approx(300_000 * 64 / 65, rel=1e-3)


def test_a_turned_tile_is_the_same_ground():
    straight, turned = camera.tile_view(10, 20, 3e5, 32, 0), camera.tile_view(10, 20, 3e5, 32, 90)
    assert np.allclose(np.rot90(turned.lat[0], -1), straight.lat[0], atol=1e-4) or np.allclose(
        np.rot90(turned.lat[0]), straight.lat[0], atol=1e-4
    )


def test_the_camera_looks_at_its_target():
    lat, lon = RNG.uniform(-50, 50, 40), RNG.uniform(-180, 180, 40)
    eye_lat, eye_lon = destination(lat, lon, RNG.uniform(0, 360, 40), RNG.uniform(0, 2_000_000, 40))
    patch = camera.photo_view(eye_lat, eye_lon, lat, lon, 300_000, 33, RNG.uniform(0, 360, 40))
    off = distance_m(patch.lat[:, 16, 16], patch.lon[:, 16, 16], lat, lon)
    assert off.max() < 2_000, "float32 rays hit within 2 km of the target"


def test_straight_down_a_photograph_is_a_tile():
    photo = camera.photo_view(30.0, 40.0, 30.0, 40.0, 200_000, 33)
    width = distance_m(photo.lat[0, 16, 0], photo.lon[0, 16, 0], photo.lat[0, 16, 32], photo.lon[0, 16, 32])
    # A plane at the target would be 200 km · 32/33 wide; the sphere falls away from it at the edges.
    assert 200_000 * 32 / 33 < width < 206_000


def test_beyond_the_horizon_is_sky():
    lat, lon = destination(0.0, 0.0, 90.0, 2_240_000.0)
    patch = camera.photo_view(0.0, 0.0, lat, lon, 1_500_000, 32)
    assert np.isnan(patch.lat).any()
    assert np.isfinite(patch.lat).any()
    seen = ~np.isnan(patch.lat)
    far = distance_m(0.0, 0.0, patch.lat[seen], patch.lon[seen]).max()
    # From 420 km the horizon is R·acos(R / (R + h)) = 2 252 km away.
    assert far < 2_253_000


def test_oblique_views_are_foreshortened():
    lat, lon = destination(10.0, 10.0, 0.0, 1_200_000.0)
    patch = camera.photo_view(10.0, 10.0, lat, lon, 60_000, 33)
    across = distance_m(patch.lat[0, 16, 0], patch.lon[0, 16, 0], patch.lat[0, 16, 32], patch.lon[0, 16, 32])
    along = distance_m(patch.lat[0, 0, 16], patch.lon[0, 0, 16], patch.lat[0, 32, 16], patch.lon[0, 32, 16])
    assert along > 2 * across
