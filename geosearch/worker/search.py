"""Vectors → answers: `geosearch.search` and `geosearch.compose`, or the re-ranker; both give the same images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector

from geosearch.errors import DatabaseError, InputError
from geosearch.worker.claims import Answer, Question
from geosearch.worker.vectors import Asked

if TYPE_CHECKING:
    from geosearch.search.candidates import Candidates
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
# A text and a picture; where the moments of the space are late, mean and deviation are computed.
_COMPOSE = """
    select c.rank, c.image_id, c.similarity, c.distance_m
    from geosearch.query q cross join lateral geosearch.compose(
        space => %(space)s::text, image => %(image)s::vector, text => %(text)s::vector, lambda => %(weight)s::float8,
        near => q.near, radius_m => q.radius_m, k => q.k, archive => q.archive,
        strategy => case q.strategy when 'hnsw' then 'fast' else q.strategy end, captured_from => q.captured_from,
        captured_to => q.captured_to, among => q.among, late => 'compute') c
    where q.id = %(id)s order by c.rank
"""
_CANDIDATES = """
    select c.image_id, c.version
    from geosearch.query q cross join lateral geosearch.candidates(
        space => %(space)s::text, near => q.near, radius_m => q.radius_m, archive => q.archive,
        captured_from => q.captured_from, captured_to => q.captured_to, among => q.among) c
    where q.id = %(id)s
"""
_UNFILTERED = """
    select num_nonnulls(q.near, q.archive, q.captured_from, q.captured_to, q.among) = 0
    from geosearch.query q where q.id = %(id)s
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

    def search(self, conn: psycopg.Connection, question: Question, space: str, asked: Asked) -> list[Answer]:
        """Return the answers, best first. Raises psycopg's errors and InputError for what the database refuses."""
        row = conn.execute("select strategy, k from geosearch.query where id = %s", [question.id]).fetchone()
        if row is None:
            raise InputError("the question was deleted")
        if row[0] in ("auto", "exact") and self._holds():
            return self._rerank(conn, question, space, asked, int(row[1]))
        facts: dict[str, Any] = {"space": space, "id": question.id}
        vectors = [Vector(vector) for vector in asked.vectors]
        if len(vectors) == 2:
            facts |= {"image": vectors[0], "text": vectors[1], "weight": asked.weight}
            return [Answer(*row) for row in conn.execute(_COMPOSE, facts).fetchall()]
        facts["vector"] = vectors[0]
        return [Answer(*row) for row in conn.execute(_SEARCH, facts).fetchall()]

    def _holds(self) -> bool:
        if self.resident is None and "torch" in sys.modules:
            # Not before a model was needed: torch takes seconds to load, and catalogued images need none.
            from geosearch.encoders.registry import pick_device

            self.resident = pick_device(self.device).startswith("cuda")
        return bool(self.resident)

    def _rerank(self, conn: psycopg.Connection, question: Question, space: str, asked: Asked, k: int) -> list[Answer]:
        from psycopg import sql

        from geosearch.search.binary_copy import key_rows
        from geosearch.search.candidates import Candidates
        from geosearch.search.resident import one_snapshot

        facts: dict[str, Any] = {"space": space, "id": question.id}
        for last in (False, True):
            reranker = self._reranker(conn, space)
            if reranker.residents[space].dimension != len(asked.vectors[0]):
                del self._rerankers[space]
                reranker = self._reranker(conn, space)
            try:
                with one_snapshot(conn):
                    if conn.execute(_UNFILTERED, facts).fetchone() == (True,):
                        candidates = reranker.residents[space].everything(conn)
                    else:
                        candidates = Candidates.of(*key_rows(conn, sql.SQL(_CANDIDATES), facts))
                    ids, scores = _ranked(conn, reranker, space, asked, candidates, k)
                    facts |= {"ids": ids.tolist(), "scores": scores.tolist()}
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


def _ranked(
    conn: psycopg.Connection, reranker: Reranker, space: str, asked: Asked, candidates: Candidates, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return image ids and scores (m,) of the best, by one vector or by two of them composed."""
    if len(asked.vectors) == 1:
        ranked = reranker.rank(conn, {space: asked.vectors[0]}, candidates, k)
        return ranked.image_ids[0], ranked.scores[0]
    assert asked.weight is not None
    weights = [1 - asked.weight, asked.weight]
    composed = reranker.compose_candidates(conn, space, np.stack(asked.vectors), weights, candidates, k)
    return composed.image_ids, composed.scores
