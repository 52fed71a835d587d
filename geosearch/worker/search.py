"""Vector → answers: `geosearch.search`, or the re-ranker over its candidates; both give the same images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector

from geosearch.errors import DatabaseError, InputError
from geosearch.worker.claims import Answer, Question

if TYPE_CHECKING:
    from geosearch.search.rerank import Reranker

# Place, dates and filters go from the question into the search without leaving the database.
_SEARCH = """
    select s.rank, s.image_id, s.similarity, s.distance_m
    from geosearch.query q cross join lateral geosearch.search(
        space => %(space)s::text, query => %(vector)s::vector, near => q.near, radius_m => q.radius_m, k => q.k,
        archive => q.archive, strategy => q.strategy, captured_from => q.captured_from, captured_to => q.captured_to,
        among => q.among) s
    where q.id = %(id)s order by s.rank
"""
_CANDIDATES = """
    select c.image_id, c.version
    from geosearch.query q cross join lateral geosearch.candidates(
        space => %(space)s::text, near => q.near, radius_m => q.radius_m, archive => q.archive,
        captured_from => q.captured_from, captured_to => q.captured_to, among => q.among) c
    where q.id = %(id)s
"""
_DISTANCES = """
    select f.rank, f.image_id, f.score, st_distance(coalesce(i.footprint, i.nadir), q.near)
    from geosearch.query q
    cross join unnest(%(ids)s::bigint[], %(scores)s::float8[]) with ordinality f (image_id, score, rank)
    join geosearch.image i on i.id = f.image_id
    where q.id = %(id)s order by f.rank
"""


class Searcher:
    """Answers questions in SQL, or by vectors that it holds in memory, loaded at the first question of a space.

    resident: whether to hold them; None: where there is a GPU. device: where they are held.
    """

    def __init__(self, resident: bool | None, device: str | None = None) -> None:
        self.resident, self.device = resident, device
        self._rerankers: dict[str, Reranker] = {}

    def search(
        self, conn: psycopg.Connection, question: Question, space: str, vector: NDArray[np.float32]
    ) -> list[Answer]:
        """Return the answers, best first. Raises psycopg's errors and InputError for what the database refuses."""
        asked = conn.execute("select strategy, k from geosearch.query where id = %s", [question.id]).fetchone()
        if asked is None:
            raise InputError("the question was deleted")
        if asked[0] in ("auto", "exact") and self._holds():
            return self._rerank(conn, question, space, vector, int(asked[1]))
        facts = {"space": space, "vector": Vector(vector), "id": question.id}
        return [Answer(*row) for row in conn.execute(_SEARCH, facts).fetchall()]

    def _holds(self) -> bool:
        if self.resident is None and "torch" in sys.modules:
            # Not before a model was needed: torch takes seconds to load, and catalogued images need none.
            from geosearch.encoders.registry import pick_device

            self.resident = pick_device(self.device).startswith("cuda")
        return bool(self.resident)

    def _rerank(
        self, conn: psycopg.Connection, question: Question, space: str, vector: NDArray[np.float32], k: int
    ) -> list[Answer]:
        from psycopg import sql

        from geosearch.search.binary_copy import key_rows
        from geosearch.search.candidates import Candidates
        from geosearch.search.resident import one_snapshot

        facts: dict[str, Any] = {"space": space, "id": question.id}
        for last in (False, True):
            reranker = self._reranker(conn, space)
            if reranker.residents[space].dimension != len(vector):
                del self._rerankers[space]
                reranker = self._reranker(conn, space)
            try:
                with one_snapshot(conn):
                    candidates = Candidates.of(*key_rows(conn, sql.SQL(_CANDIDATES), facts))
                    ranked = reranker.rank(conn, {space: vector}, candidates, k)
                    facts |= {"ids": ranked.image_ids[0].tolist(), "scores": ranked.scores[0].tolist()}
                    return [Answer(*row) for row in conn.execute(_DISTANCES, facts).fetchall()]
            except DatabaseError:  # the space was made anew: so is what is held of it
                del self._rerankers[space]
                if last:
                    raise
        raise AssertionError

    def _reranker(self, conn: psycopg.Connection, space: str) -> Reranker:
        if space not in self._rerankers:
            from geosearch.search.rerank import Reranker
            from geosearch.search.resident import ResidentVectors

            self._rerankers[space] = Reranker({space: ResidentVectors.load(conn, space, device=self.device)})
        return self._rerankers[space]
