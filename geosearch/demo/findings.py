"""What the demo found: counts, figures, times, and what its page is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from geosearch.demo import expected, measure, photos
from geosearch.search.compose_page import composed_question
from geosearch.search.composed import ComposedRanking
from geosearch.search.ranking import Ranking


@dataclass(frozen=True)
class Demo:
    """What the demo found. seconds: of each step. pages: where the page was written."""

    tiles: int
    photographs: int
    table: list[measure.Line]
    page: Path
    seconds: dict[str, float]
    model: str
    asked: list[measure.Asked] = field(repr=False)
    texts: list[Ranking] = field(repr=False)
    composed: list[ComposedRanking] = field(repr=False)
    planned: photos.Photos = field(repr=False)
    expected: list[expected.Expected] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, the table and the times as plain values."""
        return {
            "page": str(self.page),
            "tiles": self.tiles,
            "photographs": self.photographs,
            "model": self.model,
            "table": [asdict(line) for line in self.table],
            "composed": {
                composed_question(ranking.parts): [result.name for result in ranking] for ranking in self.composed
            },
            "expected": {place.name: [result.name for result in place.ranking] for place in self.expected},
            "seconds": self.seconds,
        }
