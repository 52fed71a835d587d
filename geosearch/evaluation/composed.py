"""WeiCom and its baselines measured over labelled images: arrays in, mean average precisions out.

The protocol of PatternCom (Psomas et al., arXiv 2405.15587). A question is a labelled image together with another value
of one attribute that images of its class have, e.g. an oval pool and "rectangular". Relevant are the images of the same
class that have this value. All images are ranked, the question's own among them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.evaluation import composed_metric as metric
from geosearch.evaluation.composed_metric import KS, Scores
from geosearch.evaluation.composed_ranking import Pool, Question, Way

LAMBDAS = tuple(step / 10 for step in range(11))
AVERAGE, CHANCE = "average", "chance"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Labelled:
    """Images of which some are labelled.

    names, classes: (n,), of every image; classes with merged ones under one name: what a relevant image shares with the
    question's. values: attribute → (n,) the image's value, or None where it has none. vectors: (n, d), of any length
    but 0. asked: attribute → (n,) the classes within which other values are asked for, where those are not `classes`
    (the published evaluation merges some classes for one attribute only). Raises InputError for unequal lengths.
    """

    names: Sequence[str]
    classes: Sequence[str]
    values: Mapping[str, Sequence[str | None]]
    vectors: NDArray[Any]
    asked: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {"classes": len(self.classes), "vectors": len(self.vectors)}
        lengths |= {name: len(of) for lists in (self.values, self.asked) for name, of in lists.items()}
        for what, length in lengths.items():
            if length != len(self.names):
                raise InputError(f"{len(self.names)} images, but {length} entries of {what!r}")
        if not self.values:
            raise InputError("there is no attribute to ask for: no image is labelled")


@dataclass(frozen=True)
class Report:
    """What was measured. scores: attribute → way (`Way.name`, or CHANCE) → means over its questions, in percent.

    images: ranked for every question. ways: in the order of tables.
    """

    images: int
    ways: tuple[Way, ...]
    scores: dict[str, dict[str, Scores]]

    @classmethod
    def joined(cls, parts: Sequence[Report]) -> Report:
        """Return the reports of different attributes as one; they ranked as many images in the same ways."""
        if len({(part.images, part.ways) for part in parts}) != 1:
            raise InputError("only reports over as many images, in the same ways, make one report")
        return cls(parts[0].images, parts[0].ways, {name: of for part in parts for name, of in part.scores.items()})

    def average(self, way: str) -> Scores:
        """Return the plain mean over attributes, however many questions each has."""
        every = [self.scores[attribute][way] for attribute in self.scores]
        return metric.mean(every, list(every[0].precision))

    def best(self) -> Way:
        """Return the λ of the greatest average; chosen on the very questions it is judged by, so it flatters."""
        sweep = [way for way in self.ways if way.method == "weicom"]
        if not sweep:
            raise InputError("no λ was measured")
        return max(sweep, key=lambda way: self.average(way.name).ap)

    def table(self) -> list[dict[str, Any]]:
        """Return a row a way: mAP of every attribute and their average, rounded to two places."""
        rows = []
        for name in (CHANCE, *(way.name for way in self.ways)):
            figures = {attribute: round(of[name].ap, 2) for attribute, of in self.scores.items()}
            rows.append({"method": name, **figures, AVERAGE: round(self.average(name).ap, 2)})
        return rows

    def at_k(self) -> list[dict[str, Any]]:
        """Return a row a way: P@k and R@k of the average, rounded to two places."""
        rows = []
        for name in (CHANCE, *(way.name for way in self.ways)):
            of = self.average(name)
            rows.append(
                {"method": name}
                | {f"P@{k}": round(share, 2) for k, share in of.precision.items()}
                | {f"R@{k}": round(share, 2) for k, share in of.recall.items()}
            )
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Return a row an attribute and way, and the averages: questions, mAP, P@k and R@k to two places."""
        rows = []
        lams: dict[str, tuple[str, float | None]] = {way.name: (way.method, way.lam) for way in self.ways}
        for attribute in (*self.scores, AVERAGE):
            for name in (CHANCE, *lams):
                of = self.average(name) if attribute == AVERAGE else self.scores[attribute][name]
                method, lam = lams.get(name, (name, None))
                row: dict[str, Any] = {"attribute": attribute, "method": method, "lambda": lam}
                row |= {"questions": of.questions, "mAP": round(of.ap, 2)}
                row |= {f"P@{k}": round(share, 2) for k, share in of.precision.items()}
                row |= {f"R@{k}": round(share, 2) for k, share in of.recall.items()}
                rows.append(row)
        return rows


def questions(labelled: Labelled, attribute: str) -> list[Question]:
    """Return the questions of an attribute: every image that has it × every other value asked for in its class."""
    if attribute not in labelled.values:
        raise InputError(f"there is no attribute {attribute!r}; there are: {', '.join(labelled.values)}")
    values, classes = labelled.values[attribute], labelled.classes
    asked = labelled.asked.get(attribute, classes)
    having: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    among: defaultdict[str, set[str]] = defaultdict(set)
    for i, value in enumerate(values):
        if value is not None:
            having[classes[i], value].append(i)
            among[asked[i]].add(value)
    found = []
    positions = {key: np.array(rows, np.int64) for key, rows in having.items()}
    none = np.empty(0, np.int64)
    for i, own in enumerate(values):
        if own is not None:
            others = sorted(among[asked[i]] - {own})
            found += [Question(i, other, positions.get((classes[i], other), none)) for other in others]
    return found


def ways(lambdas: Sequence[float] = LAMBDAS) -> tuple[Way, ...]:
    """Return the baselines and WeiCom at each λ, in rising order. Raises InputError for a λ outside 0 … 1."""
    for lam in lambdas:
        if not 0 <= lam <= 1:
            raise InputError(f"lambda is the weight of the text, from 0 (image alone) to 1 (text alone), not {lam}")
    return (Way("text"), Way("image"), Way("mean"), *(Way("weicom", lam) for lam in sorted(set(lambdas))))


def evaluate(
    labelled: Labelled,
    texts: Mapping[str, ArrayLike],
    lambdas: Sequence[float] = LAMBDAS,
    attributes: Sequence[str] | None = None,
    ks: Sequence[int] = KS,
    progress: Progress | None = None,
) -> Report:
    """Measure text, image, mean and WeiCom at each λ on all questions of the attributes (all of them if not given).

    texts: value → (d,) vector of its text, in the images' space. progress: called with (questions done, of).
    The rankings are those of `geosearch.compose.reference`: float64, ties by position. Raises InputError for an unknown
    attribute, one without questions, and a value without a text.
    """
    every = {attribute: questions(labelled, attribute) for attribute in attributes or labelled.values}
    for attribute, asked in every.items():
        if not asked:
            raise InputError(f"no class has two values of {attribute!r}, so nothing can be asked; leave it out")
    wanted = sorted({question.value for asked in every.values() for question in asked})
    unknown = [value for value in wanted if value not in texts]
    if unknown:
        raise InputError(f"no text vector is given for {', '.join(map(repr, unknown))}")
    pool = Pool(labelled.vectors, {value: texts[value] for value in wanted})
    measured = ways(lambdas)
    total, done = sum(map(len, every.values())), 0
    scores: dict[str, dict[str, Scores]] = {}
    for attribute, asked in every.items():
        got: list[list[Scores]] = [[] for _ in measured]
        for ranked in pool.rank(asked, measured):
            for of, ranks in zip(got, ranked, strict=True):
                of.append(metric.score(ranks, ks))
            done += 1
            if progress:
                progress(done, total)
        expected = {m: metric.chance(m, len(labelled.names), ks) for m in {len(q.relevant) for q in asked}}
        scores[attribute] = {
            CHANCE: metric.mean((expected[len(q.relevant)] for q in asked), ks),
            **{way.name: metric.mean(of, ks) for way, of in zip(measured, got, strict=True)},
        }
    return Report(len(labelled.names), measured, scores)
