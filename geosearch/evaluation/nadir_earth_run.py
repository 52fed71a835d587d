"""The simulated benchmark, run: every law, way, region and prior, baselines, rotations, and real photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from geosearch.encoders.base import Encoder
from geosearch.errors import InputError, ModelError
from geosearch.evaluation import nadir_earth, nadir_real, nadir_relevant, nadir_ways
from geosearch.evaluation.colours import NAME as COLOURS
from geosearch.evaluation.colours import ColourEncoder
from geosearch.evaluation.nadir_data import Images, read_images
from geosearch.evaluation.nadir_fit import FittedPrior, fit_priors
from geosearch.evaluation.nadir_report import Measured, ask, measure
from geosearch.evaluation.nadir_table import KS, rows
from geosearch.evaluation.nadir_vectors import ANGLES, FromModel
from geosearch.evaluation.nadir_ways import CONCAT, CONCAT_PRIOR, FILTER, IMAGE, PRIOR, Rotations
from geosearch.evaluation.recall import first_hits, recall
from geosearch.geometry import Floats, distance_m

BANDS_KM = (0, 250, 500, 750, 1000, 1250, 1500, 1750, 2300)
LEAST = 30  # photographs a band
TRAINING = "training"  # offsets as in training: three quarters as astronauts look, a quarter up to the horizon
REAL_WAYS = (IMAGE, FILTER, PRIOR, CONCAT, CONCAT_PRIOR)

Tell = Callable[[str, int, int], None]
Step = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Choice:
    """What is measured beside the ways of the model itself.

    baselines: models without nadirs, or "colours". rotations: tiles turned four ways, too. photographs: a CSV of
    `nadir_real`.
    """

    baselines: Sequence[str] = ()
    rotations: bool = False
    photographs: Path | None = None


def run(
    conn: psycopg.Connection[Any],
    model: str,
    folder: Path,
    size: nadir_earth.Size | None = None,
    choice: Choice | None = None,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Make the benchmark where it is not there, measure a model by it, and return all figures as plain JSON values.

    folder: where tiles, photographs and vectors are kept; a run that was killed goes on there. tell: called with
    (what is done, done, of). Raises ModelError for a model that reads no places, GeosearchError.
    """
    from geosearch.encoders.registry import load

    size, choice, told = size or nadir_earth.Size(), choice or Choice(), tell or (lambda _what, _done, _of: None)
    if choice.photographs is not None:  # first: what cannot be read should not be found out after minutes of work
        nadir_real.read_photographs(choice.photographs)
    encoder = load(model)
    others: list[Encoder] = [ColourEncoder() if name == COLOURS else load(name) for name in choice.baselines]
    if "place" not in encoder.info.reads:
        raise ModelError(f"{model} knows nothing of nadirs; name a model that does (`geosearch model list`)")
    nadir_earth.make(conn, folder, size, told)
    step: Step = lambda what: lambda done, of: told(what, done, of)  # noqa: E731
    tiles = read_images(conn, [nadir_earth.TILES])
    source = FromModel(encoder, folder / "vectors")
    _encode(source, tiles, step(f"tiles encoded by {model}"))
    fit_sets = _fit_sets(conn)
    fitted = {name: fit_priors(conn, some, tiles, source) for name, some in fit_sets.items()}
    baselines = {other.info.name: _baseline(conn, other, folder, tiles, fit_sets[TRAINING], step) for other in others}
    report: dict[str, Any] = {
        "model": model,
        "weights_sha256": encoder.info.weights_sha256,
        "scale": round(source.scale, 4),
        "tiles": len(tiles),
        "size": {"tiles": size.tiles, "photographs": size.photographs, "fit": size.fit, "seed": size.seed},
        "priors": {name: _prior_facts(priors) for name, priors in fitted.items()},
        "laws": {},
    }
    for law, name in nadir_earth.archives().items():
        photos = read_images(conn, [name])
        ways = list(nadir_ways.WAYS)
        measured = measure(conn, photos, tiles, source, ways, priors=fitted[TRAINING], progress=step)
        again = _Again(conn, measured)
        found = _law(measured)
        found["priors"] = {
            prior: again.recall(source, (PRIOR, CONCAT_PRIOR), priors) for prior, priors in fitted.items()
        }
        found["baselines"] = {
            name: again.recall(by, [IMAGE, FILTER, *priors], priors) for name, (by, priors) in baselines.items()
        }
        if choice.rotations:
            found["rotations"] = {}
            _encode(source, tiles, step(f"turned tiles encoded by {model}"), ANGLES)
            for kind in ("shared", "used"):
                found["rotations"][kind] = again.recall(source, (IMAGE, CONCAT), rotations=kind)
        report["laws"][law] = found
    if choice.photographs is not None:
        real = nadir_real.read_photographs(choice.photographs)
        report["real"] = nadir_real.ranks(conn, real, tiles, encoder, source, REAL_WAYS, fitted[TRAINING])
    return report


class _Again:
    """The same photographs asked in other ways: what is right for them is found once."""

    def __init__(self, conn: psycopg.Connection[Any], measured: Measured) -> None:
        self.photos, self.tiles, self.relevant = measured.photos, measured.tiles, measured.relevant
        self.some = np.flatnonzero([len(right) > 0 for right in self.relevant])
        self.allowed = nadir_relevant.near(conn, self.photos.only(self.some), self.tiles)

    def recall(
        self,
        source: FromModel,
        ways: Sequence[str],
        priors: Mapping[str, FittedPrior] | None = None,
        rotations: Rotations = "none",
    ) -> dict[str, dict[str, float]]:
        """Return Recall@k in percent of each way, over all photographs."""
        asked, queries, _ = ask(self.photos, source)
        if len(asked) != len(self.photos):
            raise InputError(f"{source.name} could not read some photographs: delete the folder and run again")
        angles = ANGLES if rotations != "none" else (0,)
        best = nadir_ways.rank(
            queries.only(self.some, self.allowed),
            lambda: source.blocks(self.tiles, self.tiles.place_lat, self.tiles.place_lon, angles),
            ways, max(KS), rotations, priors
        )  # fmt: skip
        right = [set(self.relevant[i].tolist()) for i in self.some]
        return {way: _percent(first_hits(best[way].tolist(), right)) for way in ways}


def _baseline(
    conn: psycopg.Connection[Any], encoder: Encoder, folder: Path, tiles: Images, fit: Images, step: Step
) -> tuple[FromModel, Mapping[str, FittedPrior]]:
    """Return the vectors of a model that knows no nadirs, and the prior that is fitted for it."""
    source = FromModel(encoder, folder / "vectors")
    _encode(source, tiles, step(f"tiles encoded by {encoder.info.name}"))
    try:
        return source, fit_priors(conn, fit, tiles, source, (PRIOR,))
    except InputError:  # its cosine does not help: there is no weight for a prior beside it
        return source, {}


def _encode(
    source: FromModel, images: Images, progress: Callable[[int, int], None], angles: tuple[int, ...] = (0,)
) -> None:
    """Encode and keep all vectors, so that what follows finds them."""
    for block in source.blocks(images, images.place_lat, images.place_lon, angles):
        progress(block.start + len(block), len(images))


def _fit_sets(conn: psycopg.Connection[Any]) -> dict[str, Images]:
    """Return the photographs that priors are fitted to: offsets as in training, and each law alone."""
    alone = {law: read_images(conn, [name]) for law, name in nadir_earth.fit_archives().items()}
    both = read_images(conn, list(nadir_earth.fit_archives().values()))
    astronauts, horizon = alone["photographs"], alone["horizon"]
    share = nadir_earth.TRAINING_SHARE
    few = horizon.ids[: round(len(astronauts) * share / (1 - share))]
    return {TRAINING: both.only(np.isin(both.ids, np.concatenate([astronauts.ids, few]))), **alone}


def _law(measured: Measured) -> dict[str, Any]:
    photos = measured.photos
    away = distance_m(photos.nadir_lat, photos.nadir_lon, photos.middle_lat, photos.middle_lon) / 1000
    counts, edges = np.histogram(away, np.arange(0, 2401, 100))
    counted = ~np.isnan(measured.ranks[IMAGE])
    return {
        "facts": dict(measured.facts),
        "counted": int(counted.sum()),
        "offsets": {
            "edges_km": edges.tolist(),
            "counts": counts.tolist(),
            **{f"{share:.0%}": round(float(np.quantile(away, share))) for share in (0.05, 0.5, 0.95, 1.0)},
        },
        "rows": rows(measured.ranks, photos, measured.relevant, len(measured.tiles)),
        "bands": _bands(measured, away, counted),
        "nearest": _percent(nadir_real.nearest(photos, measured.tiles, measured.relevant)),
    }


def _bands(measured: Measured, away_km: Floats, counted: Any) -> list[dict[str, Any]]:
    """Return R@1 of each way by the distance from the nadir to what is seen; bands with few photographs left out."""
    found = []
    for low, high in pairwise(BANDS_KM):
        inside = counted & (away_km >= low) & (away_km < high)
        if inside.sum() < LEAST:
            continue
        at = {way: round(100 * float((ranks[inside] <= 1).mean()), 2) for way, ranks in measured.ranks.items()}
        found.append({"from_km": low, "to_km": high, "photographs": int(inside.sum()), **at})
    return found


def _percent(ranks: Floats) -> dict[str, float]:
    return {f"R@{k}": round(100 * share, 2) for k, share in recall(ranks, KS).at.items()}


def _prior_facts(priors: Mapping[str, FittedPrior]) -> dict[str, Any]:
    first = next(iter(priors.values()))
    weights = {way: {"sharpness": round(p.blend.sharpness, 2), "weight": round(p.blend.weight, 3)}
               for way, p in priors.items()}  # fmt: skip
    return {"weights": weights, "distance": first.distance.facts()}
