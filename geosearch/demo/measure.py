"""The demo's figures: how often the right ground is among the first answers, with the circle and without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geosearch.evaluation.recall import KS, Recall, chance, first_hits, recall
from geosearch.search.client import Client
from geosearch.search.ranking import Ranking

RADIUS_KM = 2500.0


@dataclass(frozen=True)
class Asked:
    """One photograph's rankings and its truth. nadir: (lat, lon). relevant: ids of the tiles that overlap it.

    anywhere, nearby: by the model, without and with the circle; colours: the same two by the colour histogram.
    """

    name: str
    nadir: tuple[float, float]
    relevant: frozenset[int]
    held_out: bool
    anywhere: Ranking
    nearby: Ranking
    colours: tuple[Ranking, Ranking]


@dataclass(frozen=True)
class Line:
    """What was asked, of which photographs, and the recall: of the model, of the colour histogram, of chance."""

    photographs: str
    search: str
    recall: Recall
    colours: Recall
    chance: Recall


def ask(
    client: Client,
    *,
    photos: str,
    tiles: str,
    space: str,
    colours: str,
    nadirs: Mapping[str, tuple[float, float]],
    truth: Mapping[str, frozenset[int]],
    held_out: Mapping[str, bool],
    progress: Callable[[int, int], None] | None = None,
) -> list[Asked]:
    """Ask every photograph of archive `photos` of archive `tiles`, anywhere and within RADIUS_KM of its nadir.

    Keys are the images' names in archive `photos`.
    """
    asked = []
    for done, (name, nadir) in enumerate(nadirs.items(), 1):
        question = f"{photos}/{name}"
        found = [
            client.search(like=question, near=near, radius_km=RADIUS_KM, archive=tiles, space=by, k=max(KS))
            for by in (space, colours)
            for near in (None, nadir)
        ]
        anywhere, nearby, *by_colour = (_light(ranking) for ranking in found)
        asked.append(Asked(name, nadir, truth[name], held_out[name], anywhere, nearby, (by_colour[0], by_colour[1])))
        if progress:
            progress(done, len(nadirs))
    return asked


def _light(ranking: Ranking, shapes: int = 10) -> Ranking:
    """Return a ranking with the footprints of its first results only: a thousand rankings would fill the memory."""
    rest = [replace(result, shape=None) for result in ranking.results[shapes:]]
    return replace(ranking, results=[*ranking.results[:shapes], *rest])


def table(asked: list[Asked]) -> list[Line]:
    """Return Recall@k of all photographs and of those on held-out ground, each anywhere and nearby."""
    lines = []
    for title, some in (("all photographs", asked), ("on held-out ground", [a for a in asked if a.held_out])):
        if not some:
            continue
        right = [a.relevant for a in some]
        for search, rankings, colours in (
            ("no filter", [a.anywhere for a in some], [a.colours[0] for a in some]),
            (f"within {RADIUS_KM:.0f} km", [a.nearby for a in some], [a.colours[1] for a in some]),
        ):
            # What overlaps a photograph lies in its circle: the relevant tiles are among the candidates.
            expected = chance([len(r) for r in right], [r.plan.candidates for r in rankings])
            lines.append(Line(title, search, recall(hits(rankings, right)), recall(hits(colours, right)), expected))
    return lines


def hits(rankings: list[Ranking], truth: list[frozenset[int]]) -> NDArray[np.float64]:
    """Return the rank (n,) of the first tile that overlaps each photograph; inf and NaN as in `first_hits`."""
    return first_hits([[result.image_id for result in ranking] for ranking in rankings], truth)
