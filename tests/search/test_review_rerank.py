"""What reviews of the re-ranker found."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from rerank_space import add_images, all_candidates, fill

from geosearch.errors import DatabaseError
from geosearch.search import rerank_task
from geosearch.search.rerank import Reranker
from geosearch.search.resident import ResidentVectors
from geosearch.search.scoring import contenders, full_precision, margin


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


def missed(rows: int = 5000, queries: int = 32, dimension: int = 64, k: int = 10) -> int:
    """Of the true k best of each of several queries, how many are not even proposed."""
    rng = np.random.default_rng(0)
    units = [torch.from_numpy(rng.standard_normal((n, dimension))) for n in (rows, queries)]
    row, query = (unit / unit.norm(dim=1, keepdim=True) for unit in units)
    row, query = row.float(), query.float()
    best = (query.double() @ row.double().T).topk(k).indices
    floor = torch.full((queries,), -float("inf"))
    found = contenders(query, row, k, floor, margin(dimension), "torch")
    proposed = set(zip(*(part.tolist() for part in found), strict=True))
    return sum((i, int(j)) not in proposed for i in range(queries) for j in best[i])


def test_products_are_whole_within_a_callers_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert missed() > 0  # so this test would see it
        with full_precision():
            assert missed() == 0
        assert torch.is_autocast_enabled("cpu")


def test_precision_stays_while_any_thread_needs_it():
    torch.set_float32_matmul_precision("medium")
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with full_precision():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    try:
        thread.start()
        assert entered.wait(30)
        with full_precision():
            leave.set()
            thread.join()
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        leave.set()
        thread.join()
        torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch is older than 2.9")
def test_precision_that_was_set_the_newer_way_is_raised_and_put_back_too():
    settings = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    settings[0].fp32_precision, settings[1].fp32_precision = "tf32", "bf16"
    try:
        with full_precision():
            assert [one.fp32_precision for one in settings] == ["ieee", "ieee"]
        assert [one.fp32_precision for one in settings] == ["tf32", "bf16"]
    finally:
        torch.set_float32_matmul_precision("highest")
