"""The re-ranker against plain float64 on what the database holds, in every form and by every way."""

import threading

import numpy as np
import pytest
import torch
from rerank_space import add_images, all_candidates, awkward_vectors, fill, remove, stored, write
from test_rerank_scoring import assert_same

from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, drop_space
from geosearch.errors import DatabaseError, InputError, UnknownNameError
from geosearch.search import rerank_task, vector_store
from geosearch.search.candidates import Candidates
from geosearch.search.rerank import Reranker
from geosearch.search.resident import ResidentVectors
from geosearch.search.resident_form import Form
from geosearch.search.scoring import reference

D = 24


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def look(conn, rng):
    """The ids of 600 images with vectors in space `look`."""
    ids = add_images(conn, 600)
    fill(conn, "look", ids, awkward_vectors(rng, 600, D))
    return ids


def expected(conn, queries, ids, k, weights):
    """What the tables hold now, ranked plainly."""
    tables = {space: stored(conn, space) for space in queries}
    vectors = {space: np.stack([table[i][1] for i in ids.tolist()]) for space, table in tables.items()}
    return reference(queries, vectors, ids, k, weights)


@pytest.mark.parametrize("way", ["torch", "faiss"])
@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"device": "disk"}, {"memory_bytes": 30_000}], ids=str)
def test_ranking_equals_the_reference(conn, look, rng, tmp_path, options, way, monkeypatch):
    monkeypatch.setitem(rerank_task._BLOCK_BYTES, "cpu", 64 * 4 * D)  # many blocks
    resident = ResidentVectors.load(conn, "look", folder=tmp_path, **options)
    assert len(resident) == 600
    assert resident.form.where == ("ram" if "device" not in options and "memory_bytes" not in options else "disk")
    reranker = Reranker({"look": resident}, way)
    queries = rng.standard_normal((7, D))
    chosen = rng.permutation(look)[:400]
    versions = {i: v for i, (v, _) in stored(conn, "look").items()}
    candidates = Candidates.of(chosen, [versions[i] for i in chosen.tolist()])
    for k in (1, 10, 399, 1000):
        ranking = reranker.rank(conn, {"look": queries}, candidates, k)
        assert_same((ranking.image_ids, ranking.scores), expected(conn, {"look": queries}, chosen, k, {"look": 1.0}))
        assert ranking.versions["look"].tolist() == [[versions[i] for i in row] for row in ranking.image_ids.tolist()]
    assert (ranking.ranked, ranking.fetched, ranking.lacking["look"].tolist()) == (400, 0, [])
    assert len(ranking) == 7
    first = ranking[0][0]
    assert first == (ranking.image_ids[0, 0], ranking.scores[0, 0], {"look": versions[first.image_id]})
    assert [len(answers) for answers in ranking] == [400] * 7


def test_vectors_over_several_devices_are_ranked_alike(conn, look, rng, monkeypatch):
    # As over three GPUs; later rows go to the last.
    form = Form("gpu", "float16", ("cpu", "cpu", "cpu"), 0, 0, 10**9)
    monkeypatch.setattr("geosearch.search.resident.choose_form", lambda *_: form)
    monkeypatch.setattr(vector_store, "_GROWTH_BYTES", 4 * D * 30)
    held = ResidentVectors.load(conn, "look")
    new = add_images(conn, 200)
    write(conn, "look", new, awkward_vectors(rng, 200, D))
    queries = {"look": rng.standard_normal((5, D))}
    ids = np.concatenate([look, new])
    for _ in range(2):
        ranking = Reranker({"look": held}).rank(conn, queries, all_candidates(conn, "look"), 100)
        assert_same((ranking.image_ids, ranking.scores), expected(conn, queries, ids, 100, {"look": 1.0}))
    assert ranking.fetched == 0
    assert len(np.unique(held.shard_of(held.slots(ids)))) > 3


def test_scores_are_those_of_sql(conn, look, rng):
    query = rng.standard_normal(D).astype(np.float32)
    from pgvector import Vector

    rows = conn.execute(
        "select image_id, 1 - (embedding <=> %s::vector::halfvec) from geosearch.space_look", [Vector(query)]
    ).fetchall()
    ranking = Reranker({"look": ResidentVectors.load(conn, "look")}).rank(
        conn, {"look": query}, all_candidates(conn, "look"), 600
    )
    found = dict(zip(ranking.image_ids[0].tolist(), ranking.scores[0].tolist(), strict=True))
    assert found == pytest.approx(dict(rows), abs=1e-6)


def test_half_precision_products_only_propose(conn, rng, monkeypatch):
    # The path of a GPU that multiplies float16: raw rows, lengths only nearly 1, put right afterwards.
    monkeypatch.setattr(rerank_task, "_HALF_PRODUCTS", ("cpu",))
    ids = add_images(conn, 900)
    vectors = rng.standard_normal((900, D))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[100:700] = vectors[0] + rng.standard_normal((600, D)) * 1e-3  # many within the error of half precision
    fill(conn, "look", ids, vectors.astype(np.float16))
    resident = ResidentVectors.load(conn, "look", dtype="float16")
    assert 0 < resident.norm_error < 0.01
    monkeypatch.setattr(resident, "units", None)  # the other path, which must not be taken
    queries = {"look": np.concatenate([vectors[:2], rng.standard_normal((3, D))])}
    for weight in (1.0, -2.5, 1e-3):
        wanted = expected(conn, queries, ids, 20, {"look": weight})
        for way in ("torch", "faiss"):
            ranking = Reranker({"look": resident}, way).rank(
                conn, queries, all_candidates(conn, "look"), 20, {"look": weight}
            )
            assert_same((ranking.image_ids, ranking.scores), wanted)


def test_several_spaces_are_weighted_and_what_is_incomplete_is_named(conn, look, rng):
    other = look[100:]
    extra = add_images(conn, 5)
    fill(conn, "text", np.concatenate([other, extra]), awkward_vectors(rng, 505, 7))
    reranker = Reranker({space: ResidentVectors.load(conn, space) for space in ("look", "text")})
    queries = {"look": rng.standard_normal((4, D)), "text": rng.standard_normal((4, 7))}
    candidates = {space: all_candidates(conn, space) for space in queries}
    for weights in ({"look": 0.3, "text": 0.7}, {"look": 2.0, "text": -1.0}):
        ranking = reranker.rank(conn, queries, candidates, 50, weights)
        assert_same((ranking.image_ids, ranking.scores), expected(conn, queries, other, 50, weights))
    assert ranking.ranked == len(other)
    assert ranking.lacking["text"].tolist() == look[:100].tolist()
    assert ranking.lacking["look"].tolist() == extra.tolist()
    table = stored(conn, "text")
    assert ranking.versions["text"].tolist() == [[table[i][0] for i in row] for row in ranking.image_ids.tolist()]

    # Unweighted: equal weights that sum to 1. Weight 0: the space is left out, and so is what it lacks.
    halves = reranker.rank(conn, queries, candidates, 50)
    assert_same((halves.image_ids, halves.scores), expected(conn, queries, other, 50, {"look": 0.5, "text": 0.5}))
    alone = reranker.rank(conn, queries, candidates, 50, {"look": 1.0, "text": 0.0})
    assert alone.ranked == 600
    assert list(alone.versions) == ["look"]


def test_a_vector_that_vanished_from_one_space_leaves_the_image_unranked(conn, look, rng):
    fill(conn, "text", look, awkward_vectors(rng, 600, 7))
    reranker = Reranker({space: ResidentVectors.load(conn, space) for space in ("look", "text")})
    queries = {"look": rng.standard_normal(D), "text": rng.standard_normal(7)}
    before = {space: all_candidates(conn, space) for space in queries}
    remove(conn, "text", look[:3])
    write(conn, "text", look[3:6], awkward_vectors(rng, 3, 7))
    conn.commit()
    for held in reranker.residents.values():
        held.refresh(conn)
    ranking = reranker.rank(conn, queries, before, 600)
    assert ranking.lacking["text"].tolist() == look[:3].tolist()
    assert ranking.lacking["look"].tolist() == []
    assert ranking.ranked == 597
    assert_same(
        (ranking.image_ids, ranking.scores), expected(conn, queries, look[3:], 600, dict.fromkeys(queries, 0.5))
    )


def test_what_is_not_resident_is_fetched_kept_and_reported(conn, look, rng):
    resident = ResidentVectors.load(conn, "look")
    reranker = Reranker({"look": resident})
    before = all_candidates(conn, "look")
    new = add_images(conn, 4)
    write(conn, "look", np.concatenate([look[:6], new]), awkward_vectors(rng, 10, D))
    remove(conn, "look", look[6:8])
    conn.commit()
    query = {"look": rng.standard_normal(D)}

    # Candidates as of before: what is resident is what they saw; nothing is asked of the database.
    ranking = reranker.rank(conn, query, before, 600)
    assert (ranking.ranked, ranking.fetched) == (600, 0)

    now = all_candidates(conn, "look")
    ranking = reranker.rank(conn, query, now, 1000)
    assert (ranking.ranked, ranking.fetched) == (602, 10)
    assert_same((ranking.image_ids, ranking.scores), expected(conn, query, now.image_ids, 1000, {"look": 1.0}))
    assert reranker.rank(conn, query, now, 10).fetched == 0  # kept

    # The old candidates again: their versions are nowhere any more, so the newer ones are scored, and said.
    ranking = reranker.rank(conn, query, before, 600)
    then = dict(zip(before.image_ids.tolist(), before.versions.tolist(), strict=True))
    table = then | {i: version for i, (version, _) in stored(conn, "look").items()}
    assert ranking.versions["look"].tolist() == [[table[i] for i in ranking.image_ids[0].tolist()]]
    changed = [i for i in look[:6].tolist() if table[i] != then[i]]
    assert len(changed) == 6
    assert ranking.lacking["look"].tolist() == []


def test_images_that_left_are_dropped_in_time(conn, look, rng):
    resident = ResidentVectors.load(conn, "look")
    remove(conn, "look", look[:200])
    write(conn, "look", look[200:210], awkward_vectors(rng, 10, D))
    conn.commit()
    assert resident.refresh(conn) == (10, 200)
    assert len(resident) == 400
    assert resident.refresh(conn) == (0, 0)
    # A candidate of before that is nowhere: reported, not scored.
    candidates = Candidates.of(look, np.full(600, 10**9))
    ranking = Reranker({"look": resident}).rank(conn, {"look": rng.standard_normal(D)}, candidates, 600)
    assert (ranking.ranked, ranking.fetched) == (400, 400)
    assert ranking.lacking["look"].tolist() == look[:200].tolist()


def test_without_room_rows_are_read_each_time_and_still_right(conn, look, rng):
    resident = ResidentVectors.load(conn, "look", memory_bytes=600 * (4 * D + 40) + 100)
    assert resident.form.where == "ram"
    new = add_images(conn, 50)
    write(conn, "look", new, awkward_vectors(rng, 50, D))
    conn.commit()
    queries, reranker = {"look": rng.standard_normal((3, D))}, Reranker({"look": resident})
    for _ in range(2):
        ranking = reranker.rank(conn, queries, all_candidates(conn, "look"), 40)
        assert ranking.fetched == 50
        ids = np.concatenate([look, new])
        assert_same((ranking.image_ids, ranking.scores), expected(conn, queries, ids, 40, {"look": 1.0}))
    assert resident.memory_bytes <= resident.form.limit_bytes
    remove(conn, "look", look[:100])
    conn.commit()
    resident.refresh(conn)
    assert reranker.rank(conn, queries, all_candidates(conn, "look"), 40).fetched == 0


def test_a_block_for_which_a_gpu_has_no_memory_is_scored_in_halves(conn, look, rng, monkeypatch, caplog):
    reranker, query = Reranker({"look": ResidentVectors.load(conn, "look")}), {"look": rng.standard_normal((2, D))}
    wanted = reranker.rank(conn, query, all_candidates(conn, "look"), 50)
    contenders, sizes = rerank_task.contenders, []

    def full(queries, rows, *rest):
        if rows.shape[0] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more")  # as torch says it
        sizes.append(rows.shape[0])
        return contenders(queries, rows, *rest)

    monkeypatch.setattr(rerank_task, "contenders", full)
    again = reranker.rank(conn, query, all_candidates(conn, "look"), 50)
    np.testing.assert_array_equal(again.image_ids, wanted.image_ids)
    np.testing.assert_array_equal(again.scores, wanted.scores)
    assert sizes == [150] * 4
    assert "no GPU memory to score 600 rows at once" in caplog.text
    monkeypatch.setattr(rerank_task, "contenders", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # another error is none of memory
        reranker.rank(conn, query, all_candidates(conn, "look"), 50)


def test_an_empty_space_and_no_candidates(conn):
    create_space(conn, "bare", 3)
    conn.commit()
    reranker = Reranker({"bare": ResidentVectors.load(conn, "bare")})
    ranking = reranker.rank(conn, {"bare": [[1, 0, 0], [0, 1, 0]]}, all_candidates(conn, "bare"), 5)
    assert ranking.image_ids.shape == ranking.scores.shape == (2, 0)
    assert [list(answers) for answers in ranking] == [[], []]
    ids = add_images(conn, 3)
    write(conn, "bare", ids, np.eye(3, dtype=np.float16))
    ranking = reranker.rank(conn, {"bare": [1, 0.5, 0]}, all_candidates(conn, "bare"), 5)
    assert ranking.image_ids.tolist() == [ids.tolist()]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"k": 0}, "k, the number of answers"),
        ({"k": True}, "k, the number of answers"),
        ({"queries": {"look": np.zeros(D)}}, "no direction"),
        ({"queries": {"look": np.ones(3)}}, r"shape \(n, 24\)"),
        ({"weights": {"look": np.nan}}, "weights are finite"),
        ({"weights": {"look": 0}}, "not all of them 0"),
        ({"weights": {}}, "weights of"),
        ({"candidates": {}}, "candidates of space look"),
    ],
)
def test_wrong_arguments_are_refused(conn, look, change, says):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    arguments = {"queries": {"look": np.ones(D)}, "candidates": all_candidates(conn, "look"), "k": 5, **change}
    with pytest.raises(InputError, match=says):
        reranker.rank(conn, **arguments)


def test_candidates_are_checked():
    assert Candidates.of([3, 1], [7, 8]).image_ids.tolist() == [1, 3]
    assert len(Candidates.of([], [])) == 0
    for ids, versions in (([1, 1], [2, 3]), ([1], [1, 2]), ([[1]], [[1]]), (["a"], [1]), ([1.5], [1])):
        with pytest.raises(InputError):
            Candidates.of(ids, versions)


def test_another_space_of_the_same_name_is_not_scored(conn, look, rng, database_url):
    resident = ResidentVectors.load(conn, "look")
    reranker = Reranker({"look": resident})
    with pytest.raises(UnknownNameError, match="resident space"):
        reranker.rank(conn, {"other": np.ones(D)}, {}, 5)
    with pytest.raises(UnknownNameError, match="space"):
        ResidentVectors.load(conn, "other")
    drop_space(conn, "look")
    fill(conn, "look", look, awkward_vectors(rng, 600, 5))
    with connect(database_url) as fresh, pytest.raises(DatabaseError, match="Load it again"):
        reranker.rank(fresh, {"look": np.ones(D)}, all_candidates(fresh, "look"), 5)


def test_threads_share_what_is_resident_while_writers_change_it(conn, look, rng, database_url):
    """Every answer is scored by a vector that the table really held under the version that the answer names."""
    resident = ResidentVectors.load(conn, "look", dtype="float16")
    reranker = Reranker({"look": resident})
    history = {(i, v): vector for i, (v, vector) in stored(conn, "look").items()}
    stop, errors, answers = threading.Event(), [], []
    record = threading.Lock()

    def guard(work):
        def run(*arguments):
            try:
                with connect(database_url) as own:
                    work(own, *arguments)
            except BaseException as error:
                errors.append(error)
                stop.set()

        return run

    @guard
    def writer(own, seed):
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            some = np.sort(rng.permutation(look)[:20])
            what = rng.integers(0, 4)
            if what == 0:
                remove(own, "look", some)
            else:
                write(own, "look", some, awkward_vectors(rng, 20, D))
            if what == 1:
                own.rollback()
                continue
            with record:  # what is committed here, other writers cannot have replaced yet
                table = stored(own, "look")
                history.update({(i, v): vector for i, (v, vector) in table.items()})
                own.commit()

    @guard
    def reader(own, seed):
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            queries = {"look": rng.standard_normal((2, D))}
            candidates = all_candidates(own, "look")
            own.commit()
            if rng.integers(0, 3) == 0:
                resident.refresh(own)
            answers.append((queries, candidates, reranker.rank(own, queries, candidates, 600)))
            own.commit()

    threads = [threading.Thread(target=writer, args=(n,)) for n in range(2)]
    threads += [threading.Thread(target=reader, args=(n,)) for n in range(10, 13)]
    for thread in threads:
        thread.start()
    stop.wait(4)
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    newer = gone = 0
    assert len(answers) > 10
    for queries, candidates, ranking in answers:
        ids, versions = ranking.image_ids[0], ranking.versions["look"][0]
        vectors = np.stack([history[key] for key in zip(ids.tolist(), versions.tolist(), strict=True)])
        for query in range(2):
            place = np.argsort(ranking.image_ids[query])
            back = np.empty_like(place)
            back[np.argsort(ids)] = place
            wanted, scores = reference({"look": queries["look"][query]}, {"look": vectors}, ids, 600, {"look": 1.0})
            assert_same((ranking.image_ids[query : query + 1], ranking.scores[query : query + 1]), (wanted, scores))
        asked = dict(zip(candidates.image_ids.tolist(), candidates.versions.tolist(), strict=True))
        assert set(ids.tolist()) | set(ranking.lacking["look"].tolist()) == set(asked)
        newer += sum(asked[i] != v for i, v in zip(ids.tolist(), versions.tolist(), strict=True))
        gone += len(ranking.lacking["look"])
    assert newer or gone  # the race was really there
