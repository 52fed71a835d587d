"""What views show, at places where everyone knows what is there; captions claim only what is shown."""

import numpy as np
import pytest

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.training import captions
from geosearch.training.ground import ATTRIBUTES, CONTINENTS, SURFACES, attribute, continents, describe


def shown(lat: float, lon: float, width: float = 300e3) -> set[str]:
    patch = camera.tile_view(lat, lon, width, 64)
    flags = describe(raster.load().sample(*patch), patch)[0]
    return {name for name in ATTRIBUTES if flags[attribute(name)]}


@pytest.mark.parametrize(
    ("lat", "lon", "there", "not_there"),
    [
        (23, 10, {"desert", "africa"}, {"coast", "forest", "lake", "snow"}),
        (-3, -62, {"forest", "tropical", "south america"}, {"desert", "snow", "boreal"}),
        (60, 100, {"forest", "boreal", "asia"}, {"desert", "tropical"}),
        (72, -40, {"snow", "north america"}, {"forest", "coast"}),
        (28, 86, {"mountains", "asia"}, {"coast", "island"}),
        (47.7, -87.5, {"lake"}, {"coast", "desert"}),
        (-22.5, 14.5, {"coast", "africa"}, {"forest", "snow", "lake"}),
        (-49.3, 69.5, {"island"}, {"desert"}),
        (-80, 90, {"snow", "antarctica"}, {"coast"}),
    ],
)
def test_known_places(lat, lon, there, not_there):
    found = shown(lat, lon)
    assert there <= found
    assert not (not_there & found)


def test_continents_of_capitals():
    places = {
        "africa": [(30, 31), (-1.3, 36.8), (6.5, 3.4), (-25.7, 28.2), (14.7, -17)],
        "europe": [(48.9, 2.3), (40.4, -3.7), (59.3, 18), (50.4, 30.5), (64.1, -21.9)],
        "asia": [(39.9, 116.4), (28.6, 77.2), (35.7, 139.7), (-6.2, 106.8), (24.7, 46.7)],
        "north america": [(38.9, -77), (19.4, -99.1), (45.4, -75.7), (61.2, -149.9)],
        "south america": [(-15.8, -47.9), (-34.6, -58.4), (-12, -77), (4.7, -74.1)],
        "australia": [(-35.3, 149.1), (-31.9, 115.9), (-12.5, 130.8)],
        "antarctica": [(-90, 0), (-70, 120)],
    }
    assert set(places) == set(CONTINENTS)
    for name, capitals in places.items():
        lat, lon = np.array(capitals, float).T
        assert continents(lat, lon)[:, CONTINENTS.index(name)].all(), name


def test_captions_claim_only_what_is_shown():
    rng = np.random.default_rng(0)
    flags = rng.random((500, len(ATTRIBUTES))) < 0.2
    texts, claims = captions.compose(flags, rng)
    assert len(texts) == 500
    assert not (claims & ~flags).any()
    assert claims[flags[:, : len(SURFACES)].any(1)].any(1).all(), "whoever shows something is told something"


def test_a_clear_sky_changes_nothing_and_weather_does():
    rng = np.random.default_rng(0)
    views = rng.uniform(1, 254, (3, 16, 16, 3)).astype(np.float32)
    clear = atmosphere.Weather(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert np.array_equal(atmosphere.apply(views, rng, clear), np.rint(views).astype(np.uint8))
    stormy = atmosphere.apply(np.full((40, 16, 16, 3), 60, np.float32), rng, atmosphere.HELD_OUT)
    assert stormy.std() > 5


def test_clouds_stay_off_the_sky():
    night = np.zeros((20, 32, 32, 3), np.float32)
    only_clouds = atmosphere.Weather(0.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert atmosphere.apply(night, np.random.default_rng(0), only_clouds).max() == 0
