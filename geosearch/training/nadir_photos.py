"""Photographs of given places, simulated while training: from along the station's orbit, by day, in any weather."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.demo import orbit
from geosearch.demo.photos import DAYS, LOWEST_SUN, PHOTOGRAPHS, SPREAD_M, START, WIDTH_M
from geosearch.geometry import EARTH_RADIUS_M, Floats, destination, distance_m, unit_vectors

MOST_M = 2_300_000.0  # from 430 km the ground beyond this lies behind the horizon
LENSES = (*PHOTOGRAPHS.lenses, 0.2, 0.1)  # longer ones, for ground near the horizon
MARGIN = 1.2  # of the caps that say what a photograph may show: beside sky half a pixel is tens of kilometres
_EDGE = 9  # pixels a side of the trial views that tell whether there is sky


@dataclass(frozen=True)
class Shots:
    """n photographs of n tiles. pixels (n, s, s, 3) uint8; nadir, aim: (lat, lon), each (n,), degrees.

    reach_m (n,): how far from the aim the farthest ground in the picture lies, at most.
    """

    pixels: NDArray[np.uint8]
    nadir: tuple[Floats, Floats]
    aim: tuple[Floats, Floats]
    reach_m: Floats


@cache
def track() -> tuple[orbit.Track, NDArray[np.float32]]:
    """Return six days of the station's path, a point each 20 s, and its unit vectors (n, 3)."""
    path = orbit.track(orbit.element_set(), START, DAYS * 24)
    return path, unit_vectors(path.lat, path.lon).astype(np.float32)


def shoot(lat: Floats, lon: Floats, within_m: Floats, size: int, rng: np.random.Generator, uniform: float) -> Shots:
    """Return one photograph of each place, whose aim lies within within_m (n,) of it.

    uniform: the share of photographs whose nadirs lie at any distance up to the horizon alike; the rest are as far off
    as real astronaut photographs, half-normal with SPREAD_M. A place that the orbit does not pass so is photographed
    from where the distance comes nearest to it.
    """
    n = len(lat)
    aim_lat, aim_lon = destination(lat, lon, rng.uniform(0, 360, n), within_m * np.sqrt(rng.uniform(0, 1, n)))
    wish = np.minimum(np.abs(rng.normal(0, SPREAD_M, n)), MOST_M)
    wish = np.where(rng.random(n) < uniform, rng.uniform(0, MOST_M, n), wish)
    eye = np.array([_pass(a, b, w, rng) for a, b, w in zip(aim_lat, aim_lon, wish, strict=True)])
    path, _ = track()
    eye_lat, eye_lon = path.lat[eye], path.lon[eye]
    width, turn = np.exp(rng.uniform(np.log(WIDTH_M[0]), np.log(WIDTH_M[1]), n)), rng.uniform(0, 360, n)
    height = float(np.median(path.altitude_m[eye]))
    many, length = len(LENSES), np.repeat(LENSES, n)
    eyes, aims = np.tile([eye_lat, eye_lon], many), np.tile([aim_lat, aim_lon], many)
    wide, turned = np.tile(width, many) * length, np.tile(turn, many)
    seen = camera.photo_view(eyes[0], eyes[1], aims[0], aims[1], wide, _EDGE, turned, height)
    clear = ~np.isnan(seen.lat).any((1, 2)).reshape(len(LENSES), n)
    lens = np.where(clear.any(0), np.array(LENSES)[clear.argmax(0)], LENSES[-1])
    view = camera.photo_view(eye_lat, eye_lon, aim_lat, aim_lon, width * lens, size, turn, height)
    # The farthest ground lies at the border, or beside sky, where a pixel more or less is far: there all are looked at.
    every = 1 if np.isnan(view.lat).any() else 8
    some = np.ix_(np.arange(n), *2 * [np.append(np.arange(0, size - 1, every), size - 1)])
    far = distance_m(aim_lat[:, None, None], aim_lon[:, None, None], view.lat[some], view.lon[some])
    reach = MARGIN * np.nanmax(far, axis=(1, 2))
    pixels = atmosphere.apply(raster.load().sample(*view), rng)
    return Shots(pixels, (eye_lat, eye_lon), (aim_lat, aim_lon), reach)


def _pass(lat: float, lon: float, wish_m: float, rng: np.random.Generator) -> int:
    """Return where on the track a photograph of a place is taken: by day, about as far away as wished."""
    path, points = track()
    away = np.arccos(np.clip(points @ unit_vectors(lat, lon).astype(np.float32), -1, 1)) * EARTH_RADIUS_M
    near = np.flatnonzero(np.abs(away - wish_m) < 60_000.0)
    day = near[orbit.sun_elevation(path.time[near], lat, lon) > LOWEST_SUN]
    if len(day):
        return int(rng.choice(day))
    return int(rng.choice(near)) if len(near) else int(np.abs(away - wish_m).argmin())
