"""What reviews of the re-ranker found."""

from __future__ import annotations

import numpy as np
import pytest
from rerank_space import add_images, all_candidates, fill

from geosearch.errors import DatabaseError
from geosearch.search import rerank_task
from geosearch.search.rerank import Reranker
from geosearch.search.resident import ResidentVectors


def test_every_space_is_checked_on_a_connection_that_ranked_another_before(conn):
    """Else vectors of one database could be taken for those of another's space of that name."""
    rng = np.random.default_rng(3)
    ids, vectors = add_images(conn, 20), rng.standard_normal((20, 4)).astype(np.float16)
    for space in ("one", "two"):
        fill(conn, space, ids, vectors)
    ranker = Reranker({space: ResidentVectors.load(conn, space, device="cpu") for space in ("one", "two")})
    conn.execute("select geosearch.drop_space('two')")
    fill(conn, "two", ids, -vectors)
    ranker.rank(conn, {"one": vectors[0]}, all_candidates(conn, "one"))
    with pytest.raises(DatabaseError, match="made anew"):
        ranker.rank(conn, {"two": vectors[0]}, all_candidates(conn, "two"))


@pytest.mark.parametrize("devices", [(), ("cpu",)])
def test_no_queries_have_no_answers_where_halves_are_multiplied_too(conn, monkeypatch, devices):
    monkeypatch.setattr(rerank_task, "_HALF_PRODUCTS", devices)
    rng = np.random.default_rng(4)
    fill(conn, "one", add_images(conn, 20), rng.standard_normal((20, 4)).astype(np.float16))
    ranker = Reranker({"one": ResidentVectors.load(conn, "one", dtype="float16", device="cpu")})
    found = ranker.rank(conn, {"one": np.empty((0, 4))}, all_candidates(conn, "one"))
    assert len(found) == 0 and found.ranked == 20
