"""ComposedRanking: the ordered answers to a composed question, and what each part of it has to do with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosearch.search.compose import Composition, Kind
from geosearch.search.ranking import Result

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ComposedPlan:
    """How the database answered: one row of `geosearch.compose_plan`, and k.

    moments: whether mean and deviation were kept with the space or computed. candidates: images that pass the filters.
    touched: rows of which the combined similarity was computed. scored: of which the score was.
    """

    strategy: str
    population: str
    moments: str | None
    candidates: int
    touched: int
    scored: int
    requested: int
    returned: int
    exhausted: bool


@dataclass(frozen=True)
class RankedPart:
    """A part of the question. weight: its share, negative where it is not wanted; 0 where it does not count.

    mean, deviation: of its similarities over the population, None where it does not count or nothing is standardised.
    source, root: what to show of an image, not in the JSON.
    """

    kind: Kind
    label: str
    weight: float
    mean: float | None
    deviation: float | None
    source: Path | Image | str | None = field(default=None, repr=False, compare=False)
    root: str | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Likeness:
    """What a part has to do with an answer: the cosine, and how many deviations that is on the wanted side of the mean.

    Both are None for a part that does not count; z where nothing is standardised.
    """

    similarity: float | None
    z: float | None


@dataclass(frozen=True)
class ComposedResult(Result):
    """One answer; similarity is its score. parts: in the order of the ranking's."""

    parts: tuple[Likeness, ...] = ()

    @property
    def score(self) -> float:
        """What it is ranked by."""
        return self.similarity

    def to_dict(self) -> dict[str, Any]:
        """Return the keys that `geosearch compose --json` prints."""
        facts = super().to_dict()
        return {"score" if key == "similarity" else key: value for key, value in facts.items()}


@dataclass(frozen=True)
class ComposedRanking:
    """The answers to a composed question, best first; iterates over its results.

    lam: the weight of the texts, None where it does not count. default_lambda: what it is unless the question says so.
    notes: what the database had to say, such as that the moments of the space are late.
    """

    plan: ComposedPlan
    results: list[ComposedResult]
    parts: tuple[RankedPart, ...]
    composition: Composition = field(repr=False, compare=False)
    space: str = ""
    lam: float | None = None
    default_lambda: float = 0.5
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[ComposedResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values: the document that `geosearch compose --json` prints."""
        return {
            "plan": asdict(self.plan),
            "space": self.space,
            "method": self.composition.method,
            "lambda": self.lam,
            "lambda_given": self.composition.lam is not None,
            "default_lambda": self.default_lambda,
            "parts": [
                {
                    "kind": part.kind,
                    "label": part.label,
                    "weight": part.weight,
                    "mean": part.mean,
                    "deviation": part.deviation,
                }
                for part in self.parts
            ],
            "results": [result.to_dict() for result in self.results],
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """Return that document as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent, allow_nan=False)
