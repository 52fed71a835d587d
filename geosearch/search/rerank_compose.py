"""One composed question to the re-ranker: its rows in the order of work, block by block, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.compose.parts import Parts
from geosearch.errors import InputError
from geosearch.geometry import Floats
from geosearch.search.candidates import Candidates
from geosearch.search.rerank_tails import best_tails, moments, similarities
from geosearch.search.rerank_task import Task
from geosearch.search.resident import ResidentVectors
from geosearch.search.scoring import half_queries
from geosearch.search.vector_store import Fetched, Located


class ComposedScored(NamedTuple):
    """One answer: the image, its score, its cosine with each part, and the version of its vector that was scored."""

    image_id: int
    score: float
    similarities: tuple[float, ...]
    version: int


@dataclass(frozen=True, eq=False)
class ComposedReranking(Sequence[ComposedScored]):
    """The answers to one composed question, best first: m = min(k, ranked) of them.

    image_ids, scores, tails = 1 - scores (m,); similarities (m, j), the cosines with each part; standard (m, j), how
    many deviations they lie above the mean, below it where the part is not wanted; versions (m,) of the vectors.
    weights, means, deviations (j,): of the parts that count. population: how many rows mean and deviation are taken
    over. ranked: candidates that were scored. lacking: ids of candidates that have no vector (any more). fetched: how
    many vectors were read from the database.
    """

    image_ids: NDArray[np.int64]
    scores: Floats
    tails: Floats
    similarities: Floats
    standard: Floats
    versions: NDArray[np.int64]
    weights: Floats
    means: Floats
    deviations: Floats
    population: int
    ranked: int
    lacking: NDArray[np.int64]
    fetched: int

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, place: Any) -> Any:
        """Return an answer, or those of a slice."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        cosines = tuple(self.similarities[place].tolist())
        return ComposedScored(int(self.image_ids[place]), float(self.scores[place]), cosines, int(self.versions[place]))


class ComposeTask(Task):
    """One call of `compose`: the rows of its population and its candidates, and their similarities so far."""

    def __init__(
        self,
        resident: ResidentVectors,
        parts: ArrayLike,
        weights: ArrayLike,
        candidates: Candidates,
        population: Candidates | None,
        k: int,
    ) -> None:
        """Check the parts (j, d) and weights (j,). population: None where it is the candidates."""
        try:
            given, shares = np.atleast_2d(np.asarray(parts, np.float64)), np.atleast_1d(np.asarray(weights, np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(f"parts and weights are not made of numbers: {error}") from error
        checked = Parts.of(half_queries(given, resident.dimension), shares)
        rows = candidates if population is None else _union(candidates, population)
        self.space, self.k, self.part_weights = resident.space, k, checked.weights
        # Parts of weight 0 cost nothing: their vectors are not among the queries.
        queries = {self.space: given[shares != 0]}
        super().__init__({self.space: resident}, queries, {self.space: 1.0}, {self.space: rows}, 1)
        self._is_candidate = _within(self.ids, candidates)
        self._is_population = self._is_candidate if population is None else _within(self.ids, population)
        self._similarities = np.zeros((len(self.ids), len(checked.weights)))
        self._there = np.zeros(len(self.ids), bool)

    def score(self, block: slice, located: dict[str, Located], fetched: dict[str, Fetched], way: str) -> None:
        """Note the similarities of a block: of all of it, or of none where this fails. Under the lock."""
        where = located[self.space]
        there = (where.slots >= 0) | (where.fetched >= 0)
        if not there.all():
            where = Located(*(column[there] for column in where))
        places = np.arange(block.start, block.stop)[there]
        if not len(places):
            return
        resident = self.residents[self.space]
        device = resident.shard_device(int(resident.shard_of(where.slots[:1])[0]))
        rows = resident.units(where, fetched[self.space], device)
        self._similarities[places] = similarities(self._queries_on(device)[0], rows)
        self._scored[self.space][places] = where.versions
        self._there[places] = True

    def composed(self) -> ComposedReranking:
        """Return the answer."""
        population, candidates = self._there & self._is_population, self._there & self._is_candidate
        means, deviations = moments(self._similarities[population])
        places = np.flatnonzero(candidates)
        best = best_tails(self._similarities[places], self.part_weights, means, deviations, self.ids[places], self.k)
        answers = places[best.rows]
        return ComposedReranking(
            self.ids[answers],
            1 - best.tails,
            best.tails,
            np.clip(self._similarities[answers], -1, 1),  # a float32 row is of unit length within 1e-7 only
            best.standard,
            self._scored[self.space][answers],
            self.part_weights,
            means,
            deviations,
            int(population.sum()),
            len(places),
            np.sort(self.ids[self._is_candidate & ~self._there]),
            self.fetched,
        )


def _union(candidates: Candidates, population: Candidates) -> Candidates:
    """Return all rows of both; where they know an image under two versions, the candidates' counts."""
    if candidates is population:
        return population
    more = ~_within(candidates.image_ids, population)
    ids = np.concatenate([population.image_ids, candidates.image_ids[more]])
    versions = np.concatenate([population.versions, candidates.versions[more]])
    order = np.argsort(ids, kind="stable")
    ids, versions = ids[order], versions[order]
    versions[np.searchsorted(ids, candidates.image_ids)] = candidates.versions
    return Candidates(ids, versions)


def _within(ids: NDArray[np.int64], candidates: Candidates) -> NDArray[np.bool_]:
    """Tell of each id whether it is among the candidates', which ascend."""
    known = candidates.image_ids
    if not len(known):
        return np.zeros(len(ids), bool)
    return known[np.minimum(np.searchsorted(known, ids), len(known) - 1)] == ids
