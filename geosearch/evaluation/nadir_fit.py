"""A distance prior with its weight beside a cosine: fitted on photographs of which the right tiles are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation import nadir_relevant
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_report import ask
from geosearch.evaluation.nadir_vectors import VectorSource
from geosearch.evaluation.nadir_ways import CONCAT, CONCAT_PRIOR, IMAGE, PRIOR, cosines
from geosearch.geometry import Floats, distance_m
from geosearch.nadir.prior import Blend, DistancePrior, fit_blend
from geosearch.whole_files import write_whole

COSINES = {PRIOR: IMAGE, CONCAT_PRIOR: CONCAT}
MOST, PART = 200, 25  # photographs that the weights are fitted to, and how many of them are compared at a time


@dataclass(frozen=True)
class FittedPrior:
    """A `nadir_ways.Prior`: cosine + weight / sharpness · log-ratio of the distance."""

    distance: DistancePrior
    blend: Blend

    def score(self, cosine: Floats, distance_m: Floats) -> Floats:
        """Return scores of the shape of both."""
        return self.blend.score(cosine, self.distance.log_ratio(distance_m))


Priors = Mapping[str, FittedPrior]  # by way: "prior", "concat+prior"


def fit_priors(
    conn: psycopg.Connection[Any],
    photos: Images,
    tiles: Images,
    source: VectorSource,
    ways: Sequence[str] = (PRIOR, CONCAT_PRIOR),
    most: int = MOST,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Priors:
    """Return the prior of each way: distances of all right pairs, and weights of greatest likelihood.

    photos: not those that are measured with it: a prior fitted to its own questions proves nothing. most: photographs
    drawn for the weights, which compare each with all tiles. Raises InputError where there are too few right pairs.
    """
    asked, queries, _ = ask(photos, source)
    relevant = nadir_relevant.relevant(conn, asked, tiles, progress)
    pairs = np.repeat(np.arange(len(asked)), [len(rows) for rows in relevant])
    right = np.concatenate([*relevant, np.empty(0, np.int64)])
    away = _away(asked, pairs, tiles, right)
    distance = DistancePrior.fit(away)
    usable = np.unique(pairs[~np.isnan(away)])
    some = np.sort(np.random.default_rng(seed).permutation(usable)[:most])
    parts: dict[str, list[tuple[Any, Any, NDArray[np.bool_]]]] = {way: [] for way in ways}
    for start in range(0, len(some), PART):
        rows = some[start : start + PART]
        of = queries.only(rows, None)
        every = np.arange(len(tiles))
        ratios = distance.log_ratio([_away(asked, np.full(len(tiles), row), tiles, every) for row in rows])
        good = np.stack([np.isin(every, relevant[row]) for row in rows])
        for way in ways:
            blocks = source.blocks(tiles, tiles.place_lat, tiles.place_lon)
            parts[way].append((cosines(of, blocks, COSINES[way]), ratios.astype(np.float32), good))
    return {way: FittedPrior(distance, fit_blend(parts[way])) for way in ways}


def write_priors(path: Path, priors: Priors, fitted_on: Mapping[str, Any]) -> None:
    """Write priors as JSON. fitted_on: what they were fitted on, kept for people. Raises InputError."""
    first = next(iter(priors.values()))
    facts = {"fitted_on": dict(fitted_on), "ways": {way: asdict(prior.blend) for way, prior in priors.items()}}
    write_whole(path, (json.dumps(facts | {"distance": first.distance.facts()}) + "\n").encode())


def check_fitted_on(fitted_on: object, photos: str) -> None:
    """Raise InputError where a prior is fitted to the archive of photographs that it is to be measured with."""
    if fitted_on == photos:
        raise InputError(
            f"a prior fitted to the photographs that it is measured with proves nothing; fit it on others than {photos}"
        )


def read_priors(path: Path, photos: str | None = None) -> Priors:
    """Return the priors of a file of `write_priors`, by way.

    photos: the archive that they are to be measured with. Raises InputError for what is none, or was fitted to those.
    """
    try:
        facts = json.loads(path.read_text("utf-8"))
        distance = DistancePrior.read(facts["distance"])
        blends = {way: Blend(float(of["sharpness"]), float(of["weight"])) for way, of in facts["ways"].items()}
        fitted_on = facts["fitted_on"].get("photos")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); name another file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: holds no priors ({error}); fit them again with --fit-prior") from error
    if photos is not None:
        check_fitted_on(fitted_on, photos)
    return {way: FittedPrior(distance, blend) for way, blend in blends.items()}


def _away(photos: Images, photo: NDArray[np.int64], tiles: Images, tile: NDArray[np.int64]) -> Floats:
    """Return distances (n,) in metres from the nadirs of photographs to the places of tiles, both by row."""
    return distance_m(photos.nadir_lat[photo], photos.nadir_lon[photo], tiles.place_lat[tile], tiles.place_lon[tile])
