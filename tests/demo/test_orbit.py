"""The orbit against published values: SGP4's own example, Vallado's sidereal time, solstice and equinox."""

import numpy as np
import pytest

from geosearch.demo import orbit
from geosearch.errors import InputError

START = np.datetime64("2019-12-09T20:42:00")


def checksum(line):
    return sum(int(c) if c.isdigit() else c == "-" for c in line[:68]) % 10


def test_the_element_set_is_whole():
    for line in orbit.element_set():
        assert checksum(line) == int(line[68])


def test_sidereal_time_as_in_vallado_example_3_5():
    day = orbit.julian_date(np.array(["1992-08-20T12:14:00"], "datetime64[s]"))
    assert np.degrees(orbit.sidereal_angle(day))[0] == pytest.approx(152.578787810, abs=2e-5)


def test_positions_as_in_the_documentation_of_sgp4():
    # TEME (-6088.92, -936.13, -2866.44) km at that time; turned by the sidereal angle and seen from the Earth.
    track = orbit.track(orbit.element_set(), START, 1 / 60, 60)
    angle = np.degrees(orbit.sidereal_angle(orbit.julian_date(track.time)))[0]
    expected_lon = (np.degrees(np.arctan2(-936.13, -6088.92)) - angle + 180) % 360 - 180
    assert track.lon[0] == pytest.approx(expected_lon, abs=1e-3)
    # The geodetic latitude exceeds the geocentric one by f·sin 2φ, less by a/(a + h) up there.
    geocentric = np.arctan2(-2866.44, np.hypot(6088.92, 936.13))
    excess = np.sin(2 * geocentric) / 298.257 * 6378 / 6794
    assert track.lat[0] == pytest.approx(np.degrees(geocentric + excess), abs=2e-3)
    assert 400e3 < track.altitude_m[0] < 440e3


def test_the_track_is_that_of_the_station():
    track = orbit.track(orbit.element_set(), START, 24, 10)
    assert len(track.time) == 24 * 360
    # Inclination 51.64° geocentric is 51.83° geodetic, and is reached.
    assert 51.7 < track.lat.max() < 51.9
    assert -51.9 < track.lat.min() < -51.7
    # 15.5 revolutions a day cross the equator northward 15 or 16 times.
    crossings = ((track.lat[:-1] < 0) & (track.lat[1:] >= 0)).sum()
    assert crossings in (15, 16)


def test_geodetic_of_a_pole_and_of_the_equator():
    lat, lon, height = orbit.geodetic(np.array([[0, 0, 6_356_752.314245], [0, -6_378_137.0 - 1000, 0]]))
    assert lat == pytest.approx([90, 0], abs=1e-9)
    assert lon[1] == pytest.approx(-90)
    assert height == pytest.approx([0, 1000], abs=1e-3)


@pytest.mark.parametrize(
    ("time", "lat", "lon", "elevation"),
    [
        ("2019-06-21T12:02:00", 23.44, 0.0, 90.0),  # the Sun stands over the tropic at the solstice; noon is 2 min late
        ("2019-12-22T12:00:00", 90.0, 0.0, -23.44),
        ("2019-03-20T21:58:00", 0.0, 32.35, -90.0),  # the equinox: midnight; the Sun is 7.4 minutes late
    ],
)
def test_the_sun_stands_where_it_should(time, lat, lon, elevation):
    when = np.array([time], "datetime64[s]")
    assert orbit.sun_elevation(when, lat, lon)[0] == pytest.approx(elevation, abs=0.7)


def test_wrong_elements_are_refused():
    first, second = orbit.element_set()
    wrong = first[:20] + "5" + first[21:]
    with pytest.raises(InputError, match="element set is wrong"):
        orbit.track((wrong, second), START, 1)


def test_a_decayed_orbit_is_refused():
    with pytest.raises(InputError, match="cannot be computed"):
        orbit.track(orbit.element_set(), np.datetime64("2150-01-01T00:00:00"), 0.1)
