"""The same answers from the memory of a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch
from rerank_space import add_images, all_candidates, awkward_vectors, fill, stored
from test_rerank_scoring import assert_same

from geosearch.search import rerank_task
from geosearch.search.faiss_flat import GPU_K, gpu_count, knn
from geosearch.search.rerank import Reranker
from geosearch.search.resident import ResidentVectors
from geosearch.search.resident_form import Form
from geosearch.search.scoring import reference
from geosearch.search.vector_store import VectorStore

D = 64


@pytest.fixture(autouse=True)
def _gpu():
    if not gpu_count():
        pytest.skip("no GPU that both FAISS and torch can use")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_faiss_reads_tensors_in_place_and_sums_in_float32(dtype):
    rng = np.random.default_rng(0)
    queries = torch.from_numpy(rng.standard_normal((9, 768))).to("cuda:0", dtype)
    rows = torch.from_numpy(rng.standard_normal((20_000, 768))).to("cuda:0", dtype)
    exact = (queries.double() @ rows.double().T).cpu()
    for part in (slice(None), slice(777, 9000)):  # a view that does not begin where its memory does
        scores, found = knn(queries, rows[part], 100)
        wanted = exact[:, part].topk(100, dim=1)
        # Half a unit in the last place of float32 a term, as `margin` says.
        torch.testing.assert_close(scores.double().cpu(), wanted.values, rtol=0, atol=768**1.5 * 2.0**-24)
        torch.testing.assert_close(exact[:, part].gather(1, found.cpu()), wanted.values, rtol=0, atol=1e-3)


@pytest.mark.parametrize("way", ["faiss", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("lengths", ["unit", "awkward"])
def test_ranking_equals_the_reference(conn, dtype, way, lengths, monkeypatch):
    rng = np.random.default_rng(1)
    ids = add_images(conn, 4000)
    vectors = awkward_vectors(rng, 4000, D)
    if lengths == "unit":
        vectors = (vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)).astype(np.float16)
    fill(conn, "look", ids, vectors)
    resident = ResidentVectors.load(conn, "look", dtype=dtype, device="cuda")
    assert resident.form.where == "gpu"
    reranker, queries = Reranker({"look": resident}, way), {"look": rng.standard_normal((5, D))}
    held = stored(conn, "look")
    wanted = np.stack([held[i][1] for i in ids.tolist()])
    candidates = all_candidates(conn, "look")
    for block in (512 << 20, 1000 * 4 * D):
        monkeypatch.setitem(rerank_task._BLOCK_BYTES, "cuda", block)
        for k in (1, 10, GPU_K, GPU_K + 1, 4000):
            ranking = reranker.rank(conn, queries, candidates, k)
            assert_same(
                (ranking.image_ids, ranking.scores), reference(queries, {"look": wanted}, ids, k, {"look": 1.0})
            )


def test_cpu_and_gpu_give_the_same_order(conn):
    rng = np.random.default_rng(2)
    ids = add_images(conn, 3000)
    fill(conn, "look", ids, awkward_vectors(rng, 3000, D))
    fill(conn, "text", ids, awkward_vectors(rng, 3000, 16))
    queries = {"look": rng.standard_normal((4, D)), "text": rng.standard_normal((4, 16))}
    candidates = {space: all_candidates(conn, space) for space in queries}
    answers = []
    for device in ("cpu", "cuda"):
        residents = {space: ResidentVectors.load(conn, space, device=device) for space in queries}
        answers.append(Reranker(residents).rank(conn, queries, candidates, 200, {"look": 0.8, "text": 0.2}))
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, atol=1e-12)
    np.testing.assert_array_equal(answers[0].image_ids, answers[1].image_ids)


def test_rows_over_several_gpus():
    if gpu_count() < 2:
        pytest.skip("only one GPU")
    rng = np.random.default_rng(3)
    store = VectorStore("toy", D, Form("gpu", "float16", ("cuda:0", "cuda:1"), 0, 0, 10**9), 2000, None)
    ids = np.arange(2000)
    vectors = awkward_vectors(rng, 2000, D)
    assert store.put(ids, ids + 1, vectors) == 0
    assert {store.shard_device(n).index for n in range(2)} == {0, 1}


def test_a_gpu_that_is_full_is_no_crash(conn, monkeypatch):
    rng = np.random.default_rng(4)
    ids = add_images(conn, 1000)
    fill(conn, "look", ids, awkward_vectors(rng, 1000, D))
    resident = ResidentVectors.load(conn, "look", device="cuda")
    reranker, query = Reranker({"look": resident}), {"look": rng.standard_normal(D)}
    wanted = reranker.rank(conn, query, all_candidates(conn, "look"), 50)
    contenders = rerank_task.contenders

    def full(queries, rows, *rest):
        if rows.shape[0] > 300:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")
        return contenders(queries, rows, *rest)

    monkeypatch.setattr(rerank_task, "contenders", full)
    again = reranker.rank(conn, query, all_candidates(conn, "look"), 50)
    np.testing.assert_array_equal(again.image_ids, wanted.image_ids)
