"""No view that a model is trained on shows held-out ground."""

import numpy as np
import pytest

from geosearch.bluemarble import camera
from geosearch.geometry import destination, distance_m
from geosearch.training.split import split
from geosearch.training.views import Views


def test_the_six_places_are_held_out_and_their_antipodes_are_not():
    ground = split()
    assert len(ground.names) == 6
    assert (ground.region(ground.lat, ground.lon) == np.arange(6)).all()
    assert not ground.trainable(ground.lat, ground.lon).any()
    far = [-lat for lat in ground.lat], [(lon + 360) % 360 - 180 for lon in ground.lon]
    assert (ground.region(*far) == -1).all()


def test_the_guard_ring_is_on_neither_side():
    ground = split()
    lat, lon = destination(ground.lat[0], ground.lon[0], 45.0, ground.radius_m + ground.guard_m / 2)
    assert ground.region(lat, lon) == -1
    assert not ground.trainable(lat, lon)


@pytest.mark.slow
def test_training_views_keep_off_held_out_ground(monkeypatch):
    looked_at: list[tuple[np.ndarray, np.ndarray]] = []
    for name in ("tile_view", "photo_view"):
        real = getattr(camera, name)

        def spy(*args, _real=real, **kwargs):
            patch = _real(*args, **kwargs)
            looked_at.append((patch.lat[:, 8, 8], patch.lon[:, 8, 8]))
            return patch

        monkeypatch.setattr(camera, name, spy)
    views = Views(seed=1, size=16, places=20_000)
    for _ in range(4):
        views.batch(256)
    ground = split()
    lat, lon = (np.concatenate(c) for c in zip(*looked_at, strict=True))
    away = distance_m(lat[:, None], lon[:, None], np.array(ground.lat), np.array(ground.lon)).min(1)
    # The middle of every tile and of every photograph, photographs being up to 110 km from their tile.
    assert away.min() > ground.radius_m + 300_000
