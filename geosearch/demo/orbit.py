"""The space station's path: nadirs from a two-line element set (SGP4), and whether it is day beneath."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats

Times = NDArray[np.datetime64]

J2000 = 2_451_545.0
_UNIX_EPOCH = 2_440_587.5  # Julian date of 1970-01-01


@dataclass(frozen=True)
class Track:
    """Positions (n,): time (UTC), geodetic latitude and longitude of the nadir in degrees, altitude in metres."""

    time: Times
    lat: Floats
    lon: Floats
    altitude_m: Floats


def element_set() -> tuple[str, str]:
    """Return the two lines of the demo's element set: the ISS on 9 December 2019."""
    lines = (files("geosearch.demo") / "iss.txt").read_text("ascii").splitlines()
    return lines[1], lines[2]


def track(elements: tuple[str, str], start: np.datetime64, hours: float, step_s: int = 20) -> Track:
    """Return where the satellite of an element set is, from start for some hours, every step_s seconds.

    Raises InputError when sgp4 is missing, the elements are wrong or the satellite has decayed by then.
    """
    try:
        from sgp4.api import SGP4_ERRORS, Satrec
        from sgp4.io import verify_checksum
    except ModuleNotFoundError as error:
        raise InputError("sgp4 is not installed; get it with: pip install 'geosearch[demo]'") from error
    try:
        verify_checksum(*elements)
        satellite = Satrec.twoline2rv(*elements)
    except (ValueError, IndexError) as error:
        raise InputError(f"the element set is wrong: {error}") from error
    time = start.astype("datetime64[s]") + np.arange(0, round(hours * 3600), step_s).astype("timedelta64[s]")
    day = julian_date(time)
    whole = np.floor(day)
    failed, position_km, _ = satellite.sgp4_array(whole, day - whole)
    if failed.any():
        raise InputError(f"the orbit cannot be computed: {SGP4_ERRORS[int(failed[failed > 0][0])]}")
    lat, lon, altitude = geodetic(earth_fixed(position_km * 1000.0, day))
    return Track(time, lat, lon, altitude)


def julian_date(time: Times) -> Floats:
    """Return Julian dates (n,) of times (UTC); UT1 is taken to be UTC (within 0.9 s: 400 m at the equator)."""
    seconds = time.astype("datetime64[s]").astype(np.int64)
    return _UNIX_EPOCH + seconds / 86_400.0


def sidereal_angle(day: ArrayLike) -> Floats:
    """Return Greenwich mean sidereal time (IAU 1982) in radians, 0 … 2π, at Julian dates of UT1."""
    t = (np.asarray(day, float) - J2000) / 36_525.0
    seconds = 67_310.54841 + (876_600.0 * 3600 + 8_640_184.812866) * t + 0.093104 * t**2 - 6.2e-6 * t**3
    return np.radians(seconds / 240.0 % 360.0)


def earth_fixed(position: Floats, day: ArrayLike) -> Floats:
    """Return positions (n, 3) turned from SGP4's frame (true equator, mean equinox) to one that turns with the Earth.

    Polar motion (below 15 m) is left out.
    """
    angle = sidereal_angle(day)
    x, y, z = np.moveaxis(position, -1, 0)
    return np.stack([x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle), z], axis=-1)


def geodetic(position: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (latitude, longitude, height in metres) on WGS 84 of Earth-fixed positions (n, 3) in metres."""
    from pyproj import Transformer

    to_geographic = Transformer.from_crs("EPSG:4978", "EPSG:4979", always_xy=True)
    x, y, z = np.moveaxis(position, -1, 0)
    lon, lat, height = to_geographic.transform(x, y, z)
    return np.asarray(lat), np.asarray(lon), np.asarray(height)


def sun_elevation(time: Times, lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Return the Sun's elevation in degrees, to about 0.01° (the Astronomical Almanac's low-precision formula)."""
    day = julian_date(time)
    n = day - J2000
    anomaly = np.radians(357.528 + 0.9856003 * n)
    longitude = np.radians(280.460 + 0.9856474 * n + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    tilt = np.radians(23.439 - 0.0000004 * n)
    declination = np.arcsin(np.sin(tilt) * np.sin(longitude))
    ascension = np.arctan2(np.cos(tilt) * np.sin(longitude), np.cos(longitude))
    phi, hour = np.radians(np.asarray(lat, float)), sidereal_angle(day) + np.radians(np.asarray(lon, float)) - ascension
    return np.degrees(np.arcsin(np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour)))
