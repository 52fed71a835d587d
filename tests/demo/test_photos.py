"""Simulated photographs: by day, from the orbit, without horizon, and honest about themselves."""

import json

import numpy as np
import pytest
from PIL import Image

from geosearch.demo import orbit, photos
from geosearch.demo.archive import Tiles, plan_tiles
from geosearch.errors import InputError
from geosearch.geometry import distance_m
from geosearch.training.split import split


def test_the_same_seed_gives_the_same_photographs(tiles, planned):
    again = photos.plan_photos(8, tiles)
    assert again.footprint == planned.footprint
    assert photos.plan_photos(8, tiles, seed=2).footprint != planned.footprint


def test_half_look_at_held_out_ground(planned):
    assert planned.held_out.sum() == 4
    # The aim lies within 120 km of a tile whose middle decides.
    region = split().region(*planned.aim)
    assert (region[planned.held_out] >= 0).sum() >= 3
    assert (region[~planned.held_out] < 0).all()


def test_nadirs_lie_on_the_orbit_and_the_sun_is_up(planned):
    track = orbit.track(orbit.element_set(), planned.time.min(), 1 / 3600, 1)
    assert np.isin(planned.time.min(), track.time)
    for i, time in enumerate(planned.time):
        at = orbit.track(orbit.element_set(), time, 1 / 3600, 1)
        assert (planned.nadir[0][i], planned.nadir[1][i]) == pytest.approx((at.lat[0], at.lon[0]), abs=1e-6)
    assert (orbit.sun_elevation(planned.time, *planned.aim) > photos.LOWEST_SUN).all()
    assert (distance_m(*planned.nadir, *planned.aim) < photos.MOST_M + 60_000).all()


def test_footprints_are_closed_rings_round_the_aim(planned):
    for i, ring in enumerate(planned.footprint):
        lon, lat = np.array(ring).T
        assert ring[0] == ring[-1]
        assert len(ring) == 4 * 32 + 1
        # The ring turns once round what the camera looks at, seen on a plane there.
        away = np.exp(1j * np.radians(_bearings(planned.aim[0][i], planned.aim[1][i], lat, lon)))
        assert abs(np.angle(away[1:] / away[:-1]).sum()) == pytest.approx(2 * np.pi, abs=1e-6)


def _bearings(lat0, lon0, lat, lon):
    p0, p, d = np.radians(lat0), np.radians(lat), np.radians(lon - lon0)
    y = np.sin(d) * np.cos(p)
    return np.degrees(np.arctan2(y, np.cos(p0) * np.sin(p) - np.sin(p0) * np.cos(p) * np.cos(d)))


def test_the_exif_says_where_the_station_was_and_that_it_is_a_simulation(planned, photo_folder):
    for i, name in enumerate(planned.name):
        with Image.open(photo_folder / f"{name}.jpg") as picture:
            exif = picture.getexif()
            assert picture.size == (photos.PHOTO_PIXELS, photos.PHOTO_PIXELS)
        assert "Simulated" in exif[0x010E]
        gps = exif.get_ifd(0x8825)
        lat = sum(float(part) / 60**n for n, part in enumerate(gps[2])) * (1 if gps[1] == "N" else -1)
        lon = sum(float(part) / 60**n for n, part in enumerate(gps[4])) * (1 if gps[3] == "E" else -1)
        assert (lat, lon) == pytest.approx((planned.nadir[0][i], planned.nadir[1][i]), abs=1e-6)


def test_what_they_show_is_kept_apart(planned, photo_folder):
    truth = json.loads((photo_folder / photos.TRUTH).read_text("utf-8"))
    assert list(truth) == planned.name


def test_a_picture_does_not_depend_on_the_others(planned, photo_folder, tmp_path):
    photos.write_photos(tmp_path, planned)
    (tmp_path / f"{planned.name[3]}.jpg").unlink()
    kept = (tmp_path / f"{planned.name[4]}.jpg").stat().st_mtime_ns
    photos.write_photos(tmp_path, planned)
    name = f"{planned.name[3]}.jpg"
    assert (tmp_path / name).read_bytes() == (photo_folder / name).read_bytes()
    assert (tmp_path / f"{planned.name[4]}.jpg").stat().st_mtime_ns == kept


def test_ground_that_the_station_never_sees_is_refused():
    arctic = plan_tiles(150)
    keep = arctic.lat > 73
    lonely = Tiles(
        [n for n, k in zip(arctic.name, keep, strict=True) if k],
        arctic.lat[keep],
        arctic.lon[keep],
        (arctic.corners[0][keep], arctic.corners[1][keep]),
    )
    assert len(lonely)
    with pytest.raises(InputError, match="does not pass"):
        photos.plan_photos(4, lonely)
