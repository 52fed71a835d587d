"""A composed benchmark without a download: views of Blue Marble, "like this place, but with snow".

Two attributes are told from colours and a land mask (`earth_labels`): surface and context. A question is a view and
another value of one of them; relevant are the views that have this value and share the other attribute with the
question's view: a desert coast and "island" ask for desert islands. The metric is PatternCom's (`composed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble import camera, raster
from geosearch.bluemarble.tiles import land_tiles
from geosearch.errors import InputError
from geosearch.evaluation import composed_metric as metric
from geosearch.evaluation.composed import CHANCE, LAMBDAS, Labelled, Report, questions, ways
from geosearch.evaluation.composed_bootstrap import Asked, averages, interval, winners
from geosearch.evaluation.composed_ranking import Pool, Question, Way
from geosearch.evaluation.earth_labels import CONTEXTS, NONE, SURFACES, Labels, context, surface
from geosearch.evaluation.probe import cells
from geosearch.geometry import Floats, distance_m
from geosearch.item import Item
from geosearch.training.report import Encodes, encode
from geosearch.training.split import split

Ground = Literal["all", "seen", "held-out"]
GROUNDS: tuple[Ground, ...] = ("all", "seen", "held-out")
ATTRIBUTES = {"surface": SURFACES, "context": CONTEXTS}

CANDIDATES = 30_000  # of which about one in three gets both labels
WIDTH_M = 360_000.0  # wide enough for islands, and a width that mini-clip was trained on (230 to 380 km)
LEAST = 4  # views of a pair of labels; one or two would decide hundreds of questions
APART_M = 150_000.0  # between views of one pair of labels: no two are nearly the same picture
SOUTH, NORTH = -84.0, 84.0
LABEL_PIXELS, PIXELS, BLOCK = 36, 112, 500  # the picture and the mask have about 40 pixels across a view

Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Views:
    """lat, lon (n,): centres in degrees. surface, context (n,): indices in SURFACES and CONTEXTS, or NONE."""

    lat: Floats
    lon: Floats
    surface: Labels
    context: Labels

    def __len__(self) -> int:
        return len(self.lat)

    def only(self, rows: NDArray[Any]) -> Views:
        """Return some of the views."""
        return Views(self.lat[rows], self.lon[rows], self.surface[rows], self.context[rows])

    def counts(self) -> list[dict[str, Any]]:
        """Return a row a surface, and how many views it has in each context; the last row and column: no label."""
        return [
            {"surface": surface}
            | {context: int(((self.surface == i) & (self.context == j)).sum()) for j, context in _named(CONTEXTS)}
            for i, surface in _named(SURFACES)
        ]


def candidates(count: int = CANDIDATES, progress: Callable[[int, int], None] | None = None) -> Views:
    """Return about `count` views with land in them, evenly over the Earth, labelled or not."""
    earth = raster.load()
    lat, lon = land_tiles(count, SOUTH, NORTH)
    labels: list[tuple[Labels, Labels]] = []
    for start in range(0, len(lat), BLOCK):
        patch = camera.tile_view(lat[start : start + BLOCK], lon[start : start + BLOCK], WIDTH_M, LABEL_PIXELS)
        mask = earth.surface(*patch)
        labels.append((surface(earth.sample(*patch), mask), context(mask)))
        if progress:
            progress(min(start + BLOCK, len(lat)), len(lat))
    return Views(lat, lon, np.concatenate([s for s, _ in labels]), np.concatenate([c for _, c in labels]))


def on_ground(every: Views, ground: Ground) -> Views:
    """Return all views, or only those where mini-clip was trained (seen), or where it was not (held-out)."""
    if ground == "seen":
        return every.only(split().trainable(every.lat, every.lon))
    if ground == "held-out":
        return every.only(split().region(every.lat, every.lon) >= 0)
    if ground != "all":
        raise InputError(f"there is no ground {ground!r}; there are: {', '.join(GROUNDS)}")
    return every


def choose(every: Views, most: int = 100, seed: int = 1) -> Views:
    """Return at most `most` views of every pair of surface and context, drawn at random but APART_M from each other.

    Pairs of which the Earth has fewer than LEAST such views are left out.
    """
    if most < LEAST:
        raise InputError(f"give each pair of surface and context at least {LEAST} views, not {most}")
    rng = np.random.default_rng(seed)
    kept: list[int] = []
    for i in range(len(SURFACES)):
        for j in range(len(CONTEXTS)):
            pair = np.flatnonzero((every.surface == i) & (every.context == j))
            some = _apart(every, rng.permutation(pair), most)
            kept += some if len(some) >= LEAST else []
    return every.only(np.sort(np.array(kept, np.int64)))


def pictures(views: Views) -> NDArray[np.uint8]:
    """Return the clear pictures (n, 112, 112, 3) of views, north up."""
    earth = raster.load()
    blocks = [
        earth.sample(*camera.tile_view(views.lat[s : s + BLOCK], views.lon[s : s + BLOCK], WIDTH_M, PIXELS))
        for s in range(0, len(views), BLOCK)
    ]
    return np.clip(np.rint(np.concatenate(blocks)), 0, 255).astype(np.uint8)


def labelled(views: Views, vectors: NDArray[Any]) -> dict[str, Labelled]:
    """Return, for each attribute, the views with its values, and with the other attribute's as their classes."""
    names = [f"{lat:.3f},{lon:.3f}" for lat, lon in zip(views.lat, views.lon, strict=True)]
    surfaces, contexts = [SURFACES[i] for i in views.surface], [CONTEXTS[i] for i in views.context]
    return {
        "surface": Labelled(names, contexts, {"surface": surfaces}, vectors),
        "context": Labelled(names, surfaces, {"context": contexts}, vectors),
    }


@dataclass(frozen=True)
class EarthReport:
    """What was measured. looked_at: candidates; views: those of them that were ranked; vectors (n, d): theirs.

    texts: value → (d,) vector of its text. questions, asked, report: by attribute.
    asked: `composed_bootstrap.Asked`, its ways in the order of report.ways, its questions in that of `questions`.
    """

    looked_at: Views
    views: Views
    vectors: NDArray[np.float32]
    texts: dict[str, NDArray[np.float32]]
    questions: dict[str, list[Question]]
    asked: dict[str, Asked]
    report: Report

    def values(self, lam: float | None = None) -> list[dict[str, Any]]:
        """Return a row a value that is asked for: its questions and their mAP by the baselines and by WeiCom.

        lam: one of the measured λ; the best by default.
        """
        way = Way("weicom", lam) if lam is not None else self.report.best()
        shown = [w for w in self.report.ways if w.lam is None] + [way]
        rows = []
        for attribute, every in self.questions.items():
            for value in ATTRIBUTES[attribute]:
                of = [i for i, question in enumerate(every) if question.value == value]
                if of:
                    row: dict[str, Any] = {"attribute": attribute, "asked for": value, "questions": len(of)}
                    means = self.asked[attribute].ap[of].mean(0)
                    rows.append(row | {w.name: round(float(means[self.report.ways.index(w)]), 2) for w in shown})
        return rows

    def sure(self, draws: int = 1000, seed: int = 1) -> list[dict[str, Any]]:
        """Return a row a way: its average with a 95 % interval, the best λ's lead over it, and the draws that it wins.

        Drawn again are cells of 10 degrees with all views in them: neighbouring views are much alike. The lead is
        that of WeiCom at `Report.best`, as an interval; wins are counted among the λ of WeiCom, in percent.
        """
        measured = self.report.ways
        drawn = averages(self.asked, draws, seed, cells(self.views.lat, self.views.lon))
        best = measured.index(self.report.best())
        weicom = [i for i, way in enumerate(measured) if way.method == "weicom"]
        won = winners(drawn[:, weicom], [measured[i].name for i in weicom])
        rows = []
        for i, way in enumerate(measured):
            row: dict[str, Any] = {"method": way.name, "average": round(self.report.average(way.name).ap, 2)}
            row |= dict(zip(("low", "high"), interval(drawn[:, i]), strict=True))
            if i != best:
                row |= dict(zip(("lead low", "lead high"), interval(drawn[:, best] - drawn[:, i]), strict=True))
            if way.method == "weicom":
                row["best in %"] = round(100 * won.get(way.name, 0.0), 1)
            rows.append(row)
        return rows


def measure(
    encoder: Encodes,
    most: int = 100,
    seed: int = 1,
    ground: Ground = "all",
    lambdas: Sequence[float] = LAMBDAS,
    progress: Progress | None = None,
) -> EarthReport:
    """Measure text, image, mean and WeiCom with a model of images and texts; the texts are the bare values.

    The mean is also measured with the weights of WeiCom: what its weights alone bring, and what its normalisation does.
    progress: called with what is about to be done, returns what is called with (done, of). Raises InputError.
    """
    step = progress or (lambda _: lambda _done, _of: None)
    every = on_ground(candidates(progress=step("views looked at")), ground)
    views = choose(every, most, seed)
    vectors = encode(encoder, pictures(views))
    values = sorted({*SURFACES, *CONTEXTS})
    texts = dict(zip(values, encoder.encode([Item(text=value) for value in values]), strict=True))
    measured = _measured(labelled(views, vectors), texts, lambdas, step("questions"))
    return EarthReport(every, views, vectors, texts, *measured)


def _measured(
    sides: dict[str, Labelled],
    texts: dict[str, NDArray[Any]],
    lambdas: Sequence[float],
    progress: Callable[[int, int], None],
) -> tuple[dict[str, list[Question]], dict[str, Asked], Report]:
    measured = (*ways(lambdas), *(Way("mean", lam) for lam in lambdas if 0 < lam < 1))
    every = {attribute: questions(side, attribute) for attribute, side in sides.items()}
    images = len(next(iter(sides.values())).names)
    total, done = sum(map(len, every.values())), 0
    asked, scores = {}, {}
    for attribute, side in sides.items():
        if not every[attribute]:
            raise InputError(f"no question can be asked about the {attribute}: too few views; give more views a pair")
        pool = Pool(side.vectors, {value: texts[value] for value in {q.value for q in every[attribute]}})
        got: list[list[metric.Scores]] = []
        for ranked in pool.rank(every[attribute], measured):
            got.append([metric.score(ranks) for ranks in ranked])
            done += 1
            progress(done, total)
        asked[attribute] = Asked(
            np.array([q.image for q in every[attribute]]), np.array([[one.ap for one in of] for of in got])
        )
        scores[attribute] = {
            CHANCE: metric.mean(metric.chance(len(q.relevant), images) for q in every[attribute]),
            **{way.name: metric.mean(of[i] for of in got) for i, way in enumerate(measured)},
        }
    return every, asked, Report(images, measured, scores)


def _apart(every: Views, order: NDArray[np.int64], most: int) -> list[int]:
    """Return the first rows of an order, at most `most`, that keep their distance from those before them."""
    kept: list[int] = []
    for i in order.tolist():
        if len(kept) == most:
            break
        near = kept and distance_m(every.lat[i], every.lon[i], every.lat[kept], every.lon[kept]).min() < APART_M
        if not near:
            kept.append(i)
    return kept


def _named(names: tuple[str, ...]) -> list[tuple[int, str]]:
    return [*enumerate(names), (NONE, "no label")]
