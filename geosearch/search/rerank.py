"""Re-ranking: candidates that a filter let through, scored in full precision over one space or a weighted several."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
import psycopg
import torch
from numpy.typing import ArrayLike

from geosearch.errors import InputError, UnknownNameError
from geosearch.search.candidates import Candidates, find_candidates
from geosearch.search.compose import POPULATIONS
from geosearch.search.query import check_choice
from geosearch.search.rerank_compose import ComposedReranking, ComposeTask
from geosearch.search.rerank_task import LEAST_ROWS, Reranking, Task
from geosearch.search.resident import ResidentVectors, one_snapshot
from geosearch.search.scoring import Way, full_precision
from geosearch.search.vector_store import Fetched

log = logging.getLogger(__name__)


class Reranker:
    """Ranks candidates by resident vectors: `Reranker({"look": ResidentVectors.load(conn, "look")})`.

    Several threads may share one, each with a connection of its own. way: what proposes, 'torch' or 'faiss'; 'auto'
    takes FAISS, but torch for many queries on a CPU. The answers are the same.
    Beside the vectors it takes about 200 MB of RAM at most, 2 GB on a GPU, and some 100 bytes a candidate.
    """

    def __init__(self, residents: Mapping[str, ResidentVectors], way: Way | Literal["auto"] = "auto") -> None:
        if way not in ("auto", "torch", "faiss"):
            raise InputError(f"there is no way {way!r}; there are: auto, torch, faiss")
        self.residents, self.way = dict(residents), way
        self._followed: weakref.WeakKeyDictionary[psycopg.Connection[Any], set[str]] = weakref.WeakKeyDictionary()

    def search(
        self,
        conn: psycopg.Connection[Any],
        queries: Mapping[str, ArrayLike],
        k: int = 10,
        weights: Mapping[str, float] | None = None,
        **filters: Any,
    ) -> Reranking:
        """Find the candidates of every space and rank them, all in one snapshot. filters: see `find_candidates`."""
        weights = self._weights(queries, weights)
        with one_snapshot(conn):
            candidates = {space: find_candidates(conn, space, **filters) for space in weights}
            return self.rank(conn, queries, candidates, k, weights)

    def rank(
        self,
        conn: psycopg.Connection[Any],
        queries: Mapping[str, ArrayLike],
        candidates: Candidates | Mapping[str, Candidates],
        k: int = 10,
        weights: Mapping[str, float] | None = None,
    ) -> Reranking:
        """Return the k candidates with the largest sum of weight × cosine for each of n queries.

        queries: (n, d) or (d,) a space. candidates: of every space, shared by all queries; for one space they may come
        bare. weights: by default equal, with the sum 1; a space of weight 0 is left out.
        A candidate is scored by the vector of its version, or by the one that the table holds now, where that version
        is not resident; `versions` says which. Equal scores come in the order of image ids.
        Raises InputError, UnknownNameError for a space that is not resident, DatabaseError where it was made anew.
        """
        weights = self._weights(queries, weights)
        if not isinstance(candidates, Candidates):
            if missing := [space for space in weights if space not in candidates]:
                raise InputError(f"candidates of space {missing[0]} are not given")
        elif len(weights) > 1:
            raise InputError(f"candidates are given for each of the spaces {', '.join(weights)}: versions differ")
        _check_count(k)
        residents = {space: self.residents[space] for space in weights}
        given = {space: candidates if isinstance(candidates, Candidates) else candidates[space] for space in weights}
        task = Task(residents, queries, weights, given, int(k))
        self._run(conn, task)
        return task.answer()

    def compose(
        self,
        conn: psycopg.Connection[Any],
        space: str,
        parts: ArrayLike,
        weights: ArrayLike,
        k: int = 10,
        population: str = "space",
        **filters: Any,
    ) -> ComposedReranking:
        """Find the candidates and rank them by WeiCom's score of one composed question, all in one snapshot.

        The score is Σ |w_j| Φ(±z_j), with z_j a cosine less the mean of all cosines with part j, over their deviation:
        see `geosearch.compose.reference`. parts: (j, d), images and texts. weights: (j,), signed, scaled so that their
        sizes sum to 1; negative: not wanted. population: what mean and deviation are taken over, 'space' or
        'candidates'. filters: see `find_candidates`. Equal scores come in the order of image ids.
        Raises InputError, UnknownNameError, DatabaseError as `rank` does.
        """
        resident = self._resident(space)
        with one_snapshot(conn):
            self._follow(conn, resident)
            candidates = find_candidates(conn, space, **filters) if filters else resident.everything(conn)
            return self.compose_candidates(conn, space, parts, weights, candidates, k, population)

    def compose_candidates(
        self,
        conn: psycopg.Connection[Any],
        space: str,
        parts: ArrayLike,
        weights: ArrayLike,
        candidates: Candidates,
        k: int = 10,
        population: str = "space",
    ) -> ComposedReranking:
        """Do the same for candidates that were found already; versions count as for `rank`.

        The population `space` is what the table holds now; an image that is a candidate counts in it by the vector by
        which it is scored.
        """
        check_choice("population", population, POPULATIONS)
        _check_count(k)
        resident = self._resident(space)
        self._follow(conn, resident)
        everything = resident.everything(conn) if population == "space" else None
        task = ComposeTask(resident, parts, weights, candidates, everything, int(k))
        self._run(conn, task)
        return task.composed()

    def _run(self, conn: psycopg.Connection[Any], task: Task) -> None:
        """Score all rows of a task."""
        for resident in task.residents.values():
            self._follow(conn, resident)
        with full_precision():
            for first, last in task.chunks():
                fetched = {space: Fetched(resident.dimension) for space, resident in task.residents.items()}
                self._fetch(conn, task, slice(first, last), fetched)
                for block in task.blocks(first, last):
                    self._score(conn, task, block, fetched)
                task.fetched += sum(len(rows.ids) for rows in fetched.values())

    def _follow(self, conn: psycopg.Connection[Any], resident: ResidentVectors) -> None:
        """Check once a connection that its database holds the very space. Raises DatabaseError."""
        followed = self._followed.setdefault(conn, set())
        if resident.space not in followed:
            resident.follow(conn)
            followed.add(resident.space)

    def _resident(self, space: str) -> ResidentVectors:
        if space not in self.residents:
            raise UnknownNameError(
                "resident space", space, sorted(self.residents), "Give it to Reranker when that is made."
            )
        return self.residents[space]

    def _weights(self, queries: Mapping[str, ArrayLike], weights: Mapping[str, float] | None) -> dict[str, float]:
        """Return the weights of the spaces that count, checked; the one of most dimensions first."""
        for space in queries:
            self._resident(space)
        if weights is None:
            weights = dict.fromkeys(queries, 1 / max(1, len(queries)))
        if set(weights) != set(queries):
            raise InputError(f"queries are of {', '.join(queries) or 'no space'}, weights of {', '.join(weights)}")
        if not all(math.isfinite(weight) for weight in weights.values()) or not any(weights.values()):
            raise InputError(f"weights are finite numbers, not all of them 0, not {dict(weights)}")
        counting = [space for space in weights if weights[space]]
        # Blocks follow the rows of the first space, which are the most to move.
        counting.sort(key=lambda space: -self.residents[space].dimension)
        return {space: float(weights[space]) for space in counting}

    def _fetch(self, conn: psycopg.Connection[Any], task: Task, part: slice, fetched: dict[str, Fetched]) -> None:
        for space, resident in task.residents.items():
            missing = resident.stale(task.ids[part], task.versions[space][part], fetched[space])
            if len(missing):
                resident.fetch(conn, missing, fetched[space])

    def _score(self, conn: psycopg.Connection[Any], task: Task, block: slice, fetched: dict[str, Fetched]) -> None:
        """Score one block of candidates, in halves where a GPU has no memory for it."""
        while True:
            with ExitStack() as locks:
                # One order for all threads, so that no two wait for each other.
                for resident in sorted(task.residents.values(), key=id):
                    locks.enter_context(resident.lock)
                located = task.locate(block, fetched)
                if located is not None:
                    try:
                        task.score(block, located, fetched, self.way)
                        return
                    except RuntimeError as error:  # torch and FAISS have no kind in common for this
                        size = block.stop - block.start
                        if "out of memory" not in str(error) or size <= LEAST_ROWS:
                            raise
                        log.warning("no GPU memory to score %d rows at once; half of them are tried", size)
                    torch.cuda.empty_cache()
            if located is None:
                # Another thread replaced a row meanwhile by a newer one. What was fetched is not fetched again, so
                # this ends.
                self._fetch(conn, task, block, fetched)
                continue
            middle = (block.start + block.stop) // 2
            self._score(conn, task, slice(block.start, middle), fetched)
            block = slice(middle, block.stop)


def _check_count(k: object) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k, the number of answers, must be a whole number from 1 up, not {k!r}")
