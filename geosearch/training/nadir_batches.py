"""The batches of a nadir-aware model's training: tiles, a photograph of each, and which pairs are right and wrong.

A batch is planned by its step alone, and each picture of it is made by its step and its place in the batch alone:
however many processes share the work, the batch is the same.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble import atmosphere
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, Floats, unit_vectors
from geosearch.training.nadir_catalogued import Photos
from geosearch.training.nadir_ground import Tiles
from geosearch.training.nadir_options import Options
from geosearch.training.nadir_photos import shoot

SIMULATED = -1


class Plan(NamedTuple):
    """The n pairs of a batch: tile (n,); photo (n,), −1 for one that is simulated; withheld (n,): its nadir."""

    tile: NDArray[np.int64]
    photo: NDArray[np.int64]
    withheld: NDArray[np.bool_]


class Part(NamedTuple):
    """The m pairs of a batch that one process draws, of which 2m pictures are made: m tiles, then m photographs.

    pixels (2m, s, s, 3) uint8; lat, lon (2m,): what the model is told, degrees, NaN unknown; middle (2m, 3) and
    reach (2m,): the cap round what each shows, a unit vector and radians. plan: of the whole batch.
    """

    plan: Plan
    pixels: NDArray[np.uint8]
    lat: Floats
    lon: Floats
    middle: Floats
    reach: Floats


def plan(
    tiles: Tiles, photos: Photos | None, groups: NDArray[np.int64], options: Options, step: int, processes: int = 1
) -> Plan:
    """Return the pairs of a step: from all over, or from one cluster of tiles. Their number divides by processes."""
    rng = np.random.default_rng([options.seed, step])
    pool = np.arange(len(tiles))
    if photos is not None and options.catalogued >= 1:
        pool = pool[photos.of(pool)]
    if step >= options.cluster_every and rng.random() < options.hard:
        members = pool[groups[pool] == rng.integers(groups.max() + 1)]
        pool = members if len(members) >= max(2, processes) else pool
    n = min(options.batch, len(pool))
    tile, photo = np.empty(0, np.int64), np.empty(0, np.int64)
    if photos is not None and options.catalogued > 0:
        able = pool[photos.of(pool)]
        tile = rng.choice(able, min(round(n * options.catalogued), len(able)), replace=False)
        photo = photos.choose(tile, rng)
        once = np.sort(np.unique(photo, return_index=True)[1])  # a photograph of two tiles here is of the first
        tile, photo = tile[once], photo[once]
    if options.catalogued < 1:
        rest = np.setdiff1d(pool, tile)
        more = rng.choice(rest, min(n - len(tile), len(rest)), replace=False)
        tile = np.concatenate([tile, more])
        photo = np.concatenate([photo, np.full(len(more), SIMULATED)])
    n = len(tile) - len(tile) % processes
    if n < max(2, processes):
        raise InputError(
            f"a batch of {len(tile)} pairs is too small for {processes} process{'es' if processes > 1 else ''}: "
            "give more tiles, more photographs or a larger --batch"
        )
    # Shuffled, so that each process has as many to simulate, which takes longest.
    order = rng.permutation(len(tile))[:n]
    return Plan(tile[order], photo[order], rng.random(n) < options.unknown)


def draw(
    tiles: Tiles,
    photos: Photos | None,
    groups: NDArray[np.int64],
    options: Options,
    step: int,
    process: int = 0,
    processes: int = 1,
) -> Part:
    """Return a process's part of the batch of a step."""
    batch = plan(tiles, photos, groups, options, step, processes)
    m = len(batch.tile) // processes
    mine = range(process * m, (process + 1) * m)
    size = tiles.pixels.shape[1]
    pixels = np.empty((2, m, size, size, 3), np.uint8)
    known, middle, reach = np.empty((2, 2, m)), np.empty((2, 2, m)), np.empty((2, m))
    for i, slot in enumerate(mine):
        rng = np.random.default_rng([options.seed, step, slot])
        tile, photo = batch.tile[slot], batch.photo[slot]
        pixels[0, i] = _light(tiles.pixels[tile], rng)
        known[0, :, i] = tiles.place[0][tile], tiles.place[1][tile]
        middle[0, :, i], reach[0, i] = (tiles.lat[tile], tiles.lon[tile]), tiles.cap_m[tile] / EARTH_RADIUS_M
        if photo == SIMULATED:
            at = slice(tile, tile + 1)
            shot = shoot(tiles.lat[at], tiles.lon[at], 0.5 * tiles.cap_m[at], size, rng, options.uniform)
            pixels[1, i], known[1, :, i] = shot.pixels[0], np.ravel(shot.nadir)
            middle[1, :, i], reach[1, i] = np.ravel(shot.aim), shot.reach_m[0] / EARTH_RADIUS_M
        else:
            assert photos is not None
            # A camera is held any way round, so a catalogued photograph may be turned.
            pixels[1, i] = _light(np.rot90(photos.pixels[photo], int(rng.integers(4))), rng)
            known[1, :, i] = photos.nadir[0][photo], photos.nadir[1][photo]
            middle[1, :, i], reach[1, i] = (photos.middle[0][photo], photos.middle[1][photo]), photos.cap[photo]
        if batch.withheld[slot]:
            known[1, :, i] = np.nan
    lat, lon = known.transpose(1, 0, 2).reshape(2, -1)
    points = unit_vectors(*middle.transpose(1, 0, 2).reshape(2, -1))
    return Part(batch, pixels.reshape(-1, size, size, 3), lat, lon, points, reach.ravel())


def right_and_wrong(
    batch: Plan, middle: Floats, reach: Floats, photos: Photos | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of the 2n pictures of a whole batch are pairs and which show other ground, each (2n, 2n).

    What may share ground without being a pair is neither. Caps decide, which may say so of what does not; for
    catalogued photographs their footprints do, against tiles and one another.
    """
    n = len(batch.tile)
    pair = np.tile(np.arange(n), 2)
    positive = pair[:, None] == pair
    apart = np.arccos(np.clip(middle @ middle.T, -1, 1)) > reach[:, None] + reach
    real = np.flatnonzero(batch.photo != SIMULATED)
    if len(real):
        assert photos is not None
        some = batch.photo[real]
        apart[n + real, :n] = ~photos.shows(some, batch.tile)
        apart[:n, n + real] = apart[n + real, :n].T
        apart[np.ix_(n + real, n + real)] = ~photos.meet(some)
    return positive, apart & ~positive


def _light(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return atmosphere.apply(np.asarray(pixels, np.float32)[None], rng, atmosphere.LIGHT)[0]
