"""One call of the re-ranker: its candidates in the order of work, block by block, and its answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.search.candidates import Candidates
from geosearch.search.resident import ResidentVectors
from geosearch.search.scoring import Best, Way, contenders, exact_scores, half_queries, margin
from geosearch.search.vector_store import Fetched, Located

# Rows that stay in the processor's cache between gathering and scoring: 2 to 4 times as fast as gathering all first.
_BLOCK_BYTES = {"cpu": 6 << 20, "cuda": 512 << 20}
_PRODUCTS = {"cpu": 1 << 20, "cuda": 1 << 27}  # held at a time, 4 bytes each
_FETCH_BYTES = 32 << 20
LEAST_ROWS = 64
_MANY_QUERIES = 16  # from here on torch takes less time on a CPU than FAISS, up to 1.4 times less
_HALF_PRODUCTS = ("cuda",)  # devices that multiply float16 with sums in float32
_HALF_ERROR = 0.01  # beyond that too many rows would have to be scored again


class Scored(NamedTuple):
    """One answer: the image, its score, and the version of its vector in each space that was scored."""

    image_id: int
    score: float
    versions: dict[str, int]


@dataclass(frozen=True, eq=False)
class Reranking(Sequence[list[Scored]]):
    """The answers to n queries, best first: image_ids and scores (n, m), versions (n, m) a space; m = min(k, ranked).

    ranked: candidates that were scored. lacking: by space, the ids of candidates that have no vector in it (any more);
    an image that lacks one in any of the spaces has no score, since sums over other spaces cannot be compared.
    fetched: how many vectors were read from the database, because they were not resident under the version wanted.
    """

    image_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    versions: dict[str, NDArray[np.int64]]
    ranked: int
    lacking: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    fetched: int = 0

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, query: Any) -> Any:
        """Return the answers to one query, as a list of Scored."""
        if isinstance(query, slice):
            return [self[i] for i in range(*query.indices(len(self)))]
        columns = (self.image_ids[query].tolist(), self.scores[query].tolist())
        versions = [dict(zip(self.versions, row, strict=True)) for row in self._versions(query)]
        return [Scored(*facts) for facts in zip(*columns, versions, strict=True)]

    def _versions(self, query: int) -> list[tuple[int, ...]]:
        return list(zip(*(held[query].tolist() for held in self.versions.values()), strict=True))


class Task:
    """One call of `rank`: its candidates in the order of work, and what has been found so far."""

    def __init__(
        self,
        residents: dict[str, ResidentVectors],
        queries: Mapping[str, ArrayLike],
        weights: dict[str, float],
        candidates: dict[str, Candidates],
        k: int,
    ) -> None:
        self.residents, self.weights = residents, weights
        parts = [weight * half_queries(queries[s], residents[s].dimension) for s, weight in weights.items()]
        if len({len(part) for part in parts}) > 1:
            raise InputError(f"the spaces have different numbers of queries: {[len(part) for part in parts]}")
        self.queries = np.concatenate(parts, axis=1)
        self._weight_sum = sum(abs(weight) for weight in weights.values())

        given = [part.image_ids for part in candidates.values()]
        ids, everything = reduce(partial(np.intersect1d, assume_unique=True), given), reduce(np.union1d, given)
        self._lacking = {
            s: [np.setdiff1d(everything, part.image_ids, True) if len(given) > 1 else everything[:0]]
            for s, part in candidates.items()
        }
        # In the order of memory: neighbours in space lie side by side, and runs need no gathering.
        slots = next(iter(residents.values())).slots(ids)
        order = np.argsort(slots, kind="stable")
        self.ids, self._slots = ids[order], slots[order]
        self.versions = {s: part.versions[np.searchsorted(part.image_ids, self.ids)] for s, part in candidates.items()}
        self._scored = {s: np.zeros(len(ids), np.int64) for s in candidates}
        self._best = Best(len(self.queries), min(k, len(ids)), self.ids)
        self._on: dict[torch.device, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = {}
        self._ranked = self.fetched = 0

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of candidates of which not too many have to be fetched at once."""
        missing = np.zeros(len(self.ids), bool)
        for space, resident in self.residents.items():
            stale = resident.stale(self.ids, self.versions[space])
            if len(stale):
                missing |= np.isin(self.ids, stale)
        most = max(1, _FETCH_BYTES // (2 * self.queries.shape[1]))
        ends = np.flatnonzero(missing)[most - 1 :: most] + 1
        yield from pairwise([0, *ends.tolist(), len(self.ids)])

    def blocks(self, first: int, last: int) -> Iterator[slice]:
        """Yield ranges that are scored at once, each on one device."""
        primary = next(iter(self.residents.values()))
        numbers = primary.shard_of(self._slots[first:last])
        for start, stop in pairwise([0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), last - first]):
            if stop == start:
                continue
            kind = primary.shard_device(numbers[start]).type
            rows = max(LEAST_ROWS, _BLOCK_BYTES[kind] // (4 * self.queries.shape[1]))
            for at in range(first + start, first + stop, rows):
                yield slice(at, min(at + rows, first + stop))

    def locate(self, block: slice, fetched: dict[str, Fetched]) -> dict[str, Located] | None:
        """Return where the block's rows are in every space; None where one must be fetched again. Under the locks."""
        found = {}
        for space, resident in self.residents.items():
            located = resident.locate(self.ids[block], self.versions[space][block], fetched[space])
            if located is None:
                return None
            found[space] = located
        return found

    def score(self, block: slice, located: dict[str, Located], fetched: dict[str, Fetched], way: str) -> None:
        """Take a block into the ranking: all of it, or none where this fails. Under the locks."""
        there = {space: (rows.slots >= 0) | (rows.fetched >= 0) for space, rows in located.items()}
        complete = np.logical_and.reduce(list(there.values()))
        places = np.arange(block.start, block.stop)[complete]
        found: list[_Pairs] = []
        if len(places):
            if not complete.all():
                located = {space: Located(*(column[complete] for column in rows)) for space, rows in located.items()}
            found = list(self._pairs(located, fetched, way))
        for query, row, score in found:
            self._best.add(query, places[row], score)
        for space, rows in located.items():
            self._scored[space][places] = rows.versions
            self._lacking[space].append(self.ids[block][~there[space]])
        self._ranked += len(places)

    def answer(self) -> Reranking:
        """Return what was found."""
        self._best.settle()
        width = min(self._best.scores.shape[1], self._ranked)
        places = self._best.places[:, :width]
        # A float32 row is of unit length within 1e-7 only.
        scores = np.clip(self._best.scores[:, :width], -self._weight_sum, self._weight_sum)
        versions = {space: numbers[places] for space, numbers in self._scored.items()}
        lacking = {space: np.sort(np.concatenate(parts)) for space, parts in self._lacking.items()}
        return Reranking(self.ids[places], scores, versions, self._ranked, lacking, self.fetched)

    def _pairs(self, located: dict[str, Located], fetched: dict[str, Fetched], way: str) -> Iterator[_Pairs]:
        """Yield (query, row of the block, exact score) of all pairs that may be among the best."""
        primary = next(iter(self.residents.values()))
        slots = next(iter(located.values())).slots
        device = primary.shard_device(int(primary.shard_of(slots[:1])[0]))
        few = device.type == "cuda" or len(self.queries) < _MANY_QUERIES
        chosen: Way = "faiss" if way == "faiss" or (way == "auto" and few) else "torch"
        exact, single, half = self._queries_on(device)
        slack, inverse, rows = margin(self.queries.shape[1], self._weight_sum), None, None
        if half is not None and primary.norm_error <= _HALF_ERROR and len(located) == 1:
            halves = primary.halves(next(iter(located.values())), device)
            if halves is not None:
                rows, inverse = halves
                single = half
                error = float((half.double() - exact).norm(dim=1).max()) * (1 + primary.norm_error)
                slack = margin(self.queries.shape[1], self._weight_sum, primary.norm_error + error / self._weight_sum)
        if rows is None:
            parts = [self.residents[space].units(where, fetched[space], device) for space, where in located.items()]
            rows = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        step = max(1, _PRODUCTS[device.type] // rows.shape[0])
        for at in range(0, len(single), step):
            part = slice(at, at + step)
            floor = torch.from_numpy(self._best.floor[part]).to(device)
            query, row = contenders(single[part], rows, self._best.scores.shape[1], floor, slack, chosen)
            score = exact_scores(exact[part], rows, query, row, inverse)
            yield query.cpu().numpy() + at, row.cpu().numpy(), score

    def _queries_on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return the queries on a device as float64, float32 and, where it multiplies such and they fit, float16."""
        if device not in self._on:
            exact = torch.from_numpy(self.queries).to(device)
            half = None
            if device.type in _HALF_PRODUCTS and len(exact):
                half = exact.half()
                # Very large or small weights leave the range of half precision.
                if not float((half.double() - exact).norm(dim=1).max()) <= _HALF_ERROR * self._weight_sum:
                    half = None
            self._on[device] = (exact, exact.float(), half)
        return self._on[device]


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
