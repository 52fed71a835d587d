"""Simulated astronaut photographs: oblique views of the archive's ground from along the station's orbit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.demo import orbit
from geosearch.demo.archive import Tiles, write_whole
from geosearch.errors import InputError
from geosearch.geometry import Floats, destination, distance_m
from geosearch.training.split import split

PHOTO_PIXELS = 192
MOST_M = 2_200_000.0  # beyond about 2 250 km the ground lies behind the horizon
SPREAD_M = 420_000.0  # as far off nadir as real astronaut photographs: median near 300 km, 95 % within 820 km
WIDTH_M = (170_000.0, 480_000.0)
LOWEST_SUN = 8.0  # degrees over the horizon
START, DAYS = np.datetime64("2019-12-09T16:38:29"), 6
TRUTH = "truth.json"

FACTS = {
    "title": "Simulated astronaut photographs",
    "licence": "public domain",
    "attribution": "rendered from NASA's Blue Marble; not real photographs",
}


class Law(NamedTuple):
    """How far off its nadir a photograph looks: offset draws metres; lenses, by which the picture may be narrowed.

    sky: where the longest lens, too, has some in the picture, the photograph is taken all the same.
    """

    offset: Callable[[np.random.Generator], float]
    lenses: tuple[float, ...]
    sky: bool = False


# What is far away is seen at a low angle: a longer lens keeps the horizon out of the picture.
PHOTOGRAPHS = Law(lambda rng: min(abs(rng.normal(0, SPREAD_M)), MOST_M), (1.0, 0.7, 0.5, 0.35))


@dataclass(frozen=True)
class Photos:
    """n photographs: where the station was, where it looked, and the ground that is seen.

    nadir, aim: (lat, lon), each (n,), degrees. footprint: rings of (longitude, latitude), the photograph's border.
    held_out: the aim lies on ground that no model of this project was trained on.
    """

    name: list[str]
    time: orbit.Times
    nadir: tuple[Floats, Floats]
    aim: tuple[Floats, Floats]
    altitude_m: Floats
    width_m: Floats
    turn_deg: Floats
    footprint: list[list[tuple[float, float]]]
    held_out: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.name)


def plan_photos(
    count: int, tiles: Tiles, seed: int = 1, law: Law = PHOTOGRAPHS, start: np.datetime64 = START
) -> Photos:
    """Return photographs of ground inside the tiles, by day, without horizon; half of them on held-out ground.

    start: when the station's DAYS begin along whose path the nadirs lie. Fewer than half are where the archive has no
    tile on held-out ground. The same arguments give the same photographs.
    """
    rng = np.random.default_rng(seed)
    track = orbit.track(orbit.element_set(), start, DAYS * 24)
    held_out = split().region(tiles.lat, tiles.lon) >= 0
    pools = [np.flatnonzero(held_out), np.flatnonzero(split().trainable(tiles.lat, tiles.lon))]
    wanted = [count // 2, count - count // 2]
    if not len(pools[0]) or not len(pools[1]):
        whole = 1 if not len(pools[0]) else 0
        wanted = [0, count] if whole else [count, 0]
    shots: list[tuple[int, float, float, float, float, bool, list[tuple[float, float]]]] = []
    for pool, number, unseen in zip(pools, wanted, (True, False), strict=True):
        found = tries = 0
        while found < number:
            tries += 1
            if tries > 60 * number + 200:
                raise InputError("the orbit does not pass the archive's ground by day; cut the archive into more tiles")
            shot = _shot(pool, tiles, track, rng, law)
            if shot is not None:
                shots.append((*shot[:5], unseen, shot[5]))
                found += 1
    rng.shuffle(shots)
    at = np.array([shot[0] for shot in shots], int)
    return Photos(
        name=[f"simulated-{i + 1:04d}" for i in range(len(shots))],
        time=track.time[at],
        nadir=(track.lat[at], track.lon[at]),
        aim=(np.array([s[1] for s in shots]), np.array([s[2] for s in shots])),
        altitude_m=track.altitude_m[at],
        width_m=np.array([s[3] for s in shots]),
        turn_deg=np.array([s[4] for s in shots]),
        held_out=np.array([s[5] for s in shots], bool),
        footprint=[s[6] for s in shots],
    )


def write_photos(
    folder: Path, photos: Photos, seed: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the photographs that are not there yet as JPEG files whose EXIF says the station's position and the time.

    What they show is written beside the folder's pictures, in TRUTH, and is not given to the database.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(photos.name):
        path = folder / f"{name}.jpg"
        if not path.exists():
            # A seed of its own: a picture does not depend on which others were there already.
            picture = Image.fromarray(_render(photos, i, np.random.default_rng([seed, i])))
            write_whole(path, partial(picture.save, format="JPEG", quality=92, exif=_exif(photos, i)))
        if progress:
            progress(i + 1, len(photos))
    truth = {
        name: {"type": "Polygon", "coordinates": [ring]}
        for name, ring in zip(photos.name, photos.footprint, strict=True)
    }
    write_whole(folder / TRUTH, lambda path: path.write_text(json.dumps(truth), "utf-8"))


def _shot(
    pool: NDArray[np.int64], tiles: Tiles, track: orbit.Track, rng: np.random.Generator, law: Law
) -> tuple[int, float, float, float, float, list[tuple[float, float]]] | None:
    """Return one photograph of a tile's ground, or None where the draw cannot be taken."""
    tile = pool[rng.integers(len(pool))]
    away = 120_000.0 * np.sqrt(rng.uniform())
    lat, lon = (float(v) for v in destination(tiles.lat[tile], tiles.lon[tile], rng.uniform(0, 360), away))
    width, turn = float(np.exp(rng.uniform(*np.log(WIDTH_M)))), float(rng.uniform(0, 360))
    wish = law.offset(rng)
    far = distance_m(track.lat, track.lon, lat, lon)
    passes = np.flatnonzero(np.abs(far - wish) < 60_000.0)
    passes = passes[orbit.sun_elevation(track.time[passes], lat, lon) > LOWEST_SUN]
    if not len(passes):
        return None
    at = int(passes[rng.integers(len(passes))])
    for lens in law.lenses:
        longest = lens == law.lenses[-1]
        altitude = float(track.altitude_m[at])
        view = camera.photo_view(track.lat[at], track.lon[at], lat, lon, width * lens, 33, turn, altitude_m=altitude)
        if not np.isnan(view.lat).any():
            return at, lat, lon, width * lens, turn, _border(view.lat[0], view.lon[0])
        if law.sky and longest and not np.isnan(view.lat[0, 15:18, 15:18]).any():
            fine = camera.photo_view(track.lat[at], track.lon[at], lat, lon, width * lens, 129, turn, altitude)
            return at, lat, lon, width * lens, turn, _border_below_sky(fine.lat[0], fine.lon[0])
    return None


def _border(lat: NDArray[np.float32], lon: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return the closed ring of (longitude, latitude) along a view's outermost pixels."""

    def around(a: NDArray[np.float32]) -> list[float]:
        return [float(v) for v in np.concatenate([a[0, :-1], a[:-1, -1], a[-1, :0:-1], a[:0:-1, 0]])]

    ring = [(round(x, 6), round(y, 6)) for x, y in zip(around(lon), around(lat), strict=True)]
    return [*ring, ring[0]]


def _border_below_sky(lat: NDArray[np.float32], lon: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Return the closed ring round what is ground, NaN being sky. In the picture the Earth is convex, and its ground
    is seen from the middle: the last pixels of rays from there, in the order of their angles, are its border.
    """
    size = len(lat)
    centre, angle = size // 2, np.linspace(0, 2 * np.pi, 128, endpoint=False)
    step = np.stack([np.sin(angle), np.cos(angle)]) / np.maximum(np.abs(np.sin(angle)), np.abs(np.cos(angle)))
    y, x = (centre + np.rint(part[:, None] * np.arange(centre + 1)).astype(int) for part in step)
    last = (np.cumsum(np.isnan(lat[y, x]), axis=1) == 0).sum(1) - 1
    ends = np.unique(np.stack([np.take_along_axis(v, last[:, None], 1)[:, 0] for v in (y, x)], axis=1), axis=0)
    ends = ends[np.argsort(np.arctan2(ends[:, 0] - centre, ends[:, 1] - centre))]
    ring = [(round(float(lon[a, b]), 6), round(float(lat[a, b]), 6)) for a, b in ends]
    return [*ring, ring[0]]


def _render(photos: Photos, i: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    view = camera.photo_view(
        photos.nadir[0][i],
        photos.nadir[1][i],
        photos.aim[0][i],
        photos.aim[1][i],
        photos.width_m[i],
        PHOTO_PIXELS,
        photos.turn_deg[i],
        altitude_m=float(photos.altitude_m[i]),
    )
    return atmosphere.apply(raster.load().sample(*view), rng, atmosphere.HELD_OUT)[0]


def _exif(photos: Photos, i: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "Simulated photograph, rendered from NASA's Blue Marble"
    exif[0x010F] = "geosearch"
    when = str(photos.time[i].astype("datetime64[s]")).replace("-", ":").replace("T", " ")
    details = exif.get_ifd(0x8769)
    details[0x9003], details[0x9011] = when, "+00:00"
    lat, lon = float(photos.nadir[0][i]), float(photos.nadir[1][i])
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N" if lat >= 0 else "S", _sexagesimal(abs(lat))
    gps[3], gps[4] = "E" if lon >= 0 else "W", _sexagesimal(abs(lon))
    gps[5], gps[6] = b"\x00", IFDRational(round(photos.altitude_m[i]), 1)
    return exif


def _sexagesimal(degrees: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    thousandths = round(degrees * 3_600_000)  # of a second of arc: 3 cm
    whole, rest = divmod(thousandths, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return IFDRational(whole, 1), IFDRational(minutes, 1), IFDRational(Fraction(rest, 1000))
