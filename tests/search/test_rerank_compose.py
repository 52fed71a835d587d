"""Composed questions to the re-ranker against WeiCom in plain NumPy on what the database holds."""

import threading

import numpy as np
import psycopg
import pytest
import torch
from pgvector import Vector
from rerank_space import add_images, all_candidates, awkward_vectors, fill, remove, stored, write

from geosearch.compose.parts import Parts
from geosearch.compose.reference import LEAST_DEVIATION, compose_parts
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, drop_space
from geosearch.errors import DatabaseError, InputError, UnknownNameError
from geosearch.search import rerank_compose, rerank_task, vector_store
from geosearch.search import resident as resident_module
from geosearch.search.binary_copy import key_rows
from geosearch.search.candidates import Candidates
from geosearch.search.faiss_flat import gpu_count
from geosearch.search.rerank import Reranker
from geosearch.search.rerank_tails import best_tails, moments
from geosearch.search.resident import ResidentVectors
from geosearch.search.resident_form import Form
from geosearch.search.scoring import half_queries

D = 24
# float32 rows are the stored ones within 6e-8, cosines therefore, and their mean; a deviation here is 0.2.
TOLERANCE = 1e-6


@pytest.fixture
def rng():
    return np.random.default_rng(17)


@pytest.fixture
def look(conn, rng):
    """The ids of 600 images with vectors in space `look`: runs of equal ones, and multiples of one."""
    ids = add_images(conn, 600)
    fill(conn, "look", ids, awkward_vectors(rng, 600, D))
    return ids


def some_parts(rng, count=3):
    return rng.standard_normal((count, D)), rng.choice([-1, 1], count) * rng.uniform(0.1, 1, count)


def wanted(table, parts, weights, ids, k, population="space"):
    """Image ids and tails of the k best by the reference; table: image id → (version, vector)."""
    ids = np.sort(ids)
    rows = np.stack([table[i][1] for i in ids.tolist()])
    over = np.stack([vector for _, vector in table.values()]) if population == "space" else rows
    asked = Parts.of(half_queries(parts, rows.shape[1]), weights)
    tails = compose_parts(rows, asked, over).tails
    order = np.lexsort((ids, tails))[:k]
    return ids[order], tails[order]


def assert_same(answer, expected, tolerance=TOLERANCE):
    """The same tails; the same images wherever tails differ by more than the tolerance; equal tails by id."""
    ids, tails = expected
    assert answer.image_ids.shape == ids.shape
    np.testing.assert_allclose(answer.tails, tails, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(answer.scores, 1 - answer.tails)
    gaps = np.diff(answer.tails)
    assert (gaps >= 0).all()
    assert (np.diff(answer.image_ids)[gaps == 0] > 0).all()
    for place in np.flatnonzero(answer.image_ids != ids):
        near = np.abs(tails - tails[place]) <= tolerance
        # The last group may go on beyond k.
        assert answer.image_ids[place] in ids[near] or tails[-1] - tails[place] <= tolerance


@pytest.mark.parametrize("population", ["space", "candidates"])
@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"device": "disk"}, {"memory_bytes": 30_000}], ids=str)
def test_answers_are_those_of_the_reference(conn, look, rng, tmp_path, options, population, monkeypatch):
    monkeypatch.setitem(rerank_task._BLOCK_BYTES, "cpu", 64 * 4 * D)  # many blocks
    resident = ResidentVectors.load(conn, "look", folder=tmp_path, **options)
    assert resident.form.where == ("ram" if "device" not in options and "memory_bytes" not in options else "disk")
    reranker, table = Reranker({"look": resident}), stored(conn, "look")
    chosen = np.sort(rng.permutation(look)[:400])
    for count in (1, 2, 5):
        parts, weights = some_parts(rng, count)
        for k in (1, 10, 399, 1000):
            answer = reranker.compose(conn, "look", parts, weights, k, population, among=chosen)
            assert_same(answer, wanted(table, parts, weights, chosen, k, population))
            assert answer.versions.tolist() == [table[i][0] for i in answer.image_ids.tolist()]
    assert (answer.ranked, answer.population) == (400, 600 if population == "space" else 400)
    assert (answer.fetched, answer.lacking.tolist()) == (0, [])

    # What comes with them: cosines, means, deviations and z of the stored vectors.
    unit = half_queries(parts, D)
    rows = np.stack([table[i][1].astype(float) for i in (look if population == "space" else chosen).tolist()])
    cosines = (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ unit.T
    np.testing.assert_allclose(answer.means, cosines.mean(0), atol=1e-8)
    np.testing.assert_allclose(answer.deviations, cosines.std(0, ddof=1), atol=1e-8)
    first = answer[0]
    vector = table[first.image_id][1].astype(float)
    np.testing.assert_allclose(first.similarities, unit @ vector / np.linalg.norm(vector), atol=1e-7)
    z = np.sign(answer.weights) * (np.array(first.similarities) - answer.means) / answer.deviations
    np.testing.assert_allclose(answer.standard[0], z, atol=1e-6)
    assert (first.score, first.version) == (answer.scores[0], table[first.image_id][0])
    assert [scored.image_id for scored in answer[:3]] == answer.image_ids[:3].tolist()
    assert len(list(answer)) == len(answer) == 400


def test_every_form_gives_the_same_answer(conn, look, rng, tmp_path, monkeypatch):
    """Blocks and forms change the order of no sum that counts: the same bits, up to a last digit of a moment."""
    parts, weights = some_parts(rng)
    answers = []
    for block, options in ((64, {}), (7, {"dtype": "float16"}), (100_000, {}), (500, {"device": "disk"})):
        monkeypatch.setitem(rerank_task._BLOCK_BYTES, "cpu", block * 4 * D)
        monkeypatch.setattr(rerank_task, "LEAST_ROWS", 1)
        resident = ResidentVectors.load(conn, "look", folder=tmp_path, **options)
        answers.append(Reranker({"look": resident}).compose(conn, "look", parts, weights, 600))
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.image_ids, answers[0].image_ids)
        np.testing.assert_allclose(answer.tails, answers[0].tails, rtol=1e-11)


def test_ties_are_the_references_to_the_last_image(conn, rng):
    """Vectors of ±1 have float32 and float64 cosines without any rounding, and many are equal: nothing is tolerated."""
    ids = add_images(conn, 700)
    vectors = rng.choice([-1.0, 1.0], (40, 16))[rng.integers(0, 40, 700)].astype(np.float16)
    fill(conn, "signs", ids, vectors)
    reranker, table = Reranker({"signs": ResidentVectors.load(conn, "signs")}), stored(conn, "signs")
    for count in (1, 2, 3):
        parts, weights = rng.choice([-1.0, 1.0], (count, 16)), rng.choice([-1.0, 1.0], count)
        for k in (1, 13, 350, 700):
            answer = reranker.compose(conn, "signs", parts, weights, k)
            order, tails = wanted(table, parts, weights, ids, 700)
            # Equal rows are the same number in the reference, too, once its last digits are off.
            order = np.sort(ids)[np.lexsort((np.sort(ids), np.round(tails[np.argsort(order)], 13)))]
            np.testing.assert_array_equal(answer.image_ids, order[:k])
    assert len(np.unique(answer.tails)) < 41


def test_vectors_over_several_devices_are_composed_alike(conn, look, rng, monkeypatch):
    form = Form("gpu", "float16", ("cpu", "cpu", "cpu"), 0, 0, 10**9)  # as over three GPUs
    monkeypatch.setattr("geosearch.search.resident.choose_form", lambda *_: form)
    monkeypatch.setattr(vector_store, "_GROWTH_BYTES", 4 * D * 30)
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    new = add_images(conn, 200)
    write(conn, "look", new, awkward_vectors(rng, 200, D))
    parts, weights = some_parts(rng)
    for fetched in (200, 0):
        answer = reranker.compose(conn, "look", parts, weights, 100)
        assert answer.fetched == fetched
        assert_same(answer, wanted(stored(conn, "look"), parts, weights, np.concatenate([look, new]), 100))


def test_a_part_that_does_not_vary_says_nothing_and_one_row_has_no_deviation(conn, rng):
    ids = add_images(conn, 60)
    vectors = np.zeros((60, 4), np.float16)
    vectors[:, 0], vectors[:, 1] = 1, np.arange(60) / 60
    vectors[:, 2] = np.sqrt(1 + vectors[:, 1].astype(float) ** 2)
    fill(conn, "flat", ids, vectors)
    reranker = Reranker({"flat": ResidentVectors.load(conn, "flat")})
    never, along = [0, 0, 0, 1.0], [0, 1.0, 0, 0]
    answer = reranker.compose(conn, "flat", [never, along], [0.7, 0.3], 60)
    assert answer.deviations[0] < LEAST_DEVIATION < answer.deviations[1]
    assert answer.image_ids.tolist() == ids[::-1].tolist()
    assert (answer.standard[:, 0] == 0).all()
    both = reranker.compose(conn, "flat", [never, never], [0.7, -0.3], 60)
    np.testing.assert_allclose(both.scores, 0.5, rtol=1e-15)
    assert both.image_ids.tolist() == ids.tolist()
    # A population of one: no deviation, Φ = 0.5 for all parts. Beside the whole space it is as good as it is there.
    alone = reranker.compose(conn, "flat", [along], [1.0], 5, "candidates", among=[ids[7]])
    assert (alone.image_ids.tolist(), alone.scores.tolist(), alone.population) == ([ids[7]], [0.5], 1)
    beside = reranker.compose(conn, "flat", [along], [1.0], 5, among=[ids[7]])
    assert (beside.image_ids.tolist(), beside.population) == ([ids[7]], 60)
    assert beside.scores[0] < 0.2


def test_an_empty_space_and_no_candidates(conn, look, rng):
    create_space(conn, "bare", 3)
    conn.commit()
    reranker = Reranker({space: ResidentVectors.load(conn, space) for space in ("bare", "look")})
    for population in ("space", "candidates"):
        answer = reranker.compose(conn, "bare", np.eye(3), [1, 1, -1], 5, population)
        assert (len(answer), list(answer), answer.population) == (0, [], 0)
        assert answer.similarities.shape == answer.standard.shape == (0, 3)
        answer = reranker.compose(conn, "look", np.ones(D), [1], 5, population, archive="rerank", among=[])
        assert (len(answer), answer.ranked) == (0, 0)
        assert answer.population == (600 if population == "space" else 0)


def test_weights_are_scaled_and_one_of_zero_is_left_out(conn, look, rng):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    parts, _ = some_parts(rng, 3)
    one = reranker.compose(conn, "look", parts, [3, 0, -1], 50)
    other = reranker.compose(conn, "look", parts[[0, 2]], [0.75, -0.25], 50)
    np.testing.assert_array_equal(one.image_ids, other.image_ids)
    np.testing.assert_array_equal(one.tails, other.tails)
    assert one.weights.tolist() == [0.75, -0.25]
    assert one.similarities.shape == (50, 2)


def test_one_part_alone_orders_as_its_cosines_do(conn, look, rng):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    part = rng.standard_normal(D)
    ranked = reranker.rank(conn, {"look": part}, all_candidates(conn, "look"), 100)
    composed = reranker.compose(conn, "look", part, [1.0], 100)
    np.testing.assert_array_equal(composed.image_ids, ranked.image_ids[0])
    np.testing.assert_allclose(composed.similarities[:, 0], ranked.scores[0], atol=1e-12)
    away = reranker.compose(conn, "look", part, [-1.0], 600)
    assert away.similarities[0, 0] == away.similarities.min()


def test_scores_far_up_keep_their_order(rng):
    """Near the top 1 - tail is 1 for all; where even the tail is 0 the id decides."""
    found = np.zeros((5000, 1))
    found[:30, 0] = 2.0 ** -np.arange(30)  # z up to 60, of 5 000 rows
    found[[40, 41], 0] = 1.0
    means, deviations = moments(found)
    best = best_tails(found, np.ones(1), means, deviations, np.arange(5000)[::-1], 10)
    assert best.rows.tolist() == [41, 40, 0, 1, 2, 3, 4, 5, 6, 7]
    assert best.tails[:3].tolist() == [0, 0, 0] or (best.standard[0] < 38).all()
    assert (np.diff(best.tails) >= 0).all()
    deviations /= 4  # beyond what float64 can say: 0 for several that differ
    best = best_tails(found, np.ones(1), means, deviations, np.arange(5000)[::-1], 3)
    assert best.tails.tolist() == [0, 0, 0]
    assert best.rows.tolist() == [41, 40, 2]


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_leaves_out_none_of_the_best(seed):
    rng = np.random.default_rng(seed)
    rows, parts = int(rng.integers(1, 400)), int(rng.integers(1, 5))
    spread = rng.choice([0.01, 1.0, 30.0], parts)
    found = np.round(rng.standard_t(2, (rows, parts)) * spread, int(rng.integers(1, 4)))  # heavy tails, and ties
    weights = rng.choice([-1, 1], parts) * rng.dirichlet(np.ones(parts))
    means, deviations = moments(found)
    ids = rng.permutation(10 * rows)[:rows]
    everything = best_tails(found, weights, means, deviations, ids, rows)
    for k in (1, 2, 7, rows - 1, rows, rows + 5):
        best = best_tails(found, weights, means, deviations, ids, max(1, k))
        np.testing.assert_array_equal(best.rows, everything.rows[: max(1, k)])
        np.testing.assert_array_equal(best.tails, everything.tails[: max(1, k)])


def test_what_changes_is_followed(conn, look, rng):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    parts, weights = some_parts(rng)
    before = all_candidates(conn, "look")
    assert reranker.compose(conn, "look", parts, weights, 600).fetched == 0
    new = add_images(conn, 4)
    write(conn, "look", np.concatenate([look[:6], new]), awkward_vectors(rng, 10, D))
    remove(conn, "look", look[6:8])
    # Within the transaction that changes them, before anybody else sees it.
    ids = np.concatenate([np.delete(look, [6, 7]), new])
    answer = reranker.compose(conn, "look", parts, weights, 1000)
    assert_same(answer, wanted(stored(conn, "look"), parts, weights, ids, 1000))
    assert (answer.fetched, answer.population, answer.ranked) == (10, 602, 602)
    conn.rollback()
    answer = reranker.compose(conn, "look", parts, weights, 1000)
    assert_same(answer, wanted(stored(conn, "look"), parts, weights, look, 1000))
    assert answer.ranked == 600
    write(conn, "look", look[:6], awkward_vectors(rng, 6, D))
    remove(conn, "look", look[6:8])
    conn.commit()
    answer = reranker.compose(conn, "look", parts, weights, 1000)
    assert_same(answer, wanted(stored(conn, "look"), parts, weights, np.delete(look, [6, 7]), 1000))
    assert reranker.compose(conn, "look", parts, weights, 1000).fetched == 0  # kept
    # Candidates of before: what is resident as they saw it is scored so.
    assert reranker.compose_candidates(conn, "look", parts, weights, before, 1000, "candidates").ranked == 600
    reranker.residents["look"].refresh(conn)
    # What is gone lacks, and what changed is scored as it is now.
    answer = reranker.compose_candidates(conn, "look", parts, weights, before, 1000, "candidates")
    assert answer.lacking.tolist() == look[6:8].tolist()
    assert_same(answer, wanted(stored(conn, "look"), parts, weights, np.delete(look, [6, 7]), 1000))


def test_keys_are_read_again_only_after_a_change(conn, look, rng, monkeypatch):
    resident = ResidentVectors.load(conn, "look")
    reads = []
    monkeypatch.setattr(resident_module, "key_rows", lambda *given: reads.append(1) or key_rows(*given))
    first = resident.everything(conn)
    assert resident.everything(conn) is first
    assert len(reads) == 1
    write(conn, "look", look[:1], awkward_vectors(rng, 1, D))
    own = resident.everything(conn)  # a transaction's own changes are for itself
    conn.rollback()
    assert resident.everything(conn) is first
    assert (own.versions != first.versions).sum() == 1
    with pytest.raises(psycopg.errors.DivisionByZero), conn.transaction():
        write(conn, "look", look[:1], awkward_vectors(rng, 1, D))
        conn.execute("select 1 / 0")
    assert resident.everything(conn) is first
    write(conn, "look", look[:1], awkward_vectors(rng, 1, D))
    conn.commit()
    again = resident.everything(conn)
    assert (again.versions != first.versions).sum() == 1
    assert resident.everything(conn) is again
    conn.execute("update geosearch.image set reach_m = 5 where id = %s", [int(look[3])])  # moves, changes no vector
    conn.commit()
    assert resident.everything(conn) is again


def test_without_room_rows_are_read_each_time_and_still_right(conn, look, rng):
    resident = ResidentVectors.load(conn, "look", memory_bytes=600 * (4 * D + 40) + 100)
    new = add_images(conn, 50)
    write(conn, "look", new, awkward_vectors(rng, 50, D))
    conn.commit()
    reranker, (parts, weights) = Reranker({"look": resident}), some_parts(rng)
    for _ in range(2):
        answer = reranker.compose(conn, "look", parts, weights, 40)
        assert answer.fetched == 50
        assert_same(answer, wanted(stored(conn, "look"), parts, weights, np.concatenate([look, new]), 40))


def test_a_block_for_which_a_gpu_has_no_memory_is_scored_in_halves(conn, look, rng, monkeypatch, caplog):
    reranker, (parts, weights) = Reranker({"look": ResidentVectors.load(conn, "look")}), some_parts(rng)
    wanted = reranker.compose(conn, "look", parts, weights, 50)
    similarities, sizes = rerank_compose.similarities, []

    def full(parts, rows):
        if rows.shape[0] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more")
        sizes.append(rows.shape[0])
        return similarities(parts, rows)

    monkeypatch.setattr(rerank_compose, "similarities", full)
    again = reranker.compose(conn, "look", parts, weights, 50)
    np.testing.assert_array_equal(again.image_ids, wanted.image_ids)
    np.testing.assert_allclose(again.tails, wanted.tails, rtol=1e-12)
    assert sizes == [150] * 4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"k": 0}, "k, the number of answers"),
        ({"k": 2.5}, "k, the number of answers"),
        ({"population": "archive"}, "no population 'archive'"),
        ({"parts": np.zeros((2, D))}, "no direction"),
        ({"parts": np.ones((2, 3))}, r"shape \(n, 24\)"),
        ({"parts": np.ones((3, D))}, "do not belong together"),
        ({"weights": [1, np.nan]}, "weights are finite"),
        ({"weights": [0, 0]}, "weights are finite"),
        ({"weights": ["much", "little"]}, "weights"),
        ({"archive": "atlantis"}, "no archive is named"),
    ],
)
def test_wrong_arguments_are_refused(conn, look, change, says):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    with pytest.raises(InputError, match=says):
        reranker.compose(conn, "look", **{"parts": np.ones((2, D)), "weights": [1, 1], **change})


def test_another_space_of_the_same_name_is_not_scored(conn, look, rng, database_url):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    with pytest.raises(UnknownNameError, match="resident space"):
        reranker.compose(conn, "other", np.ones(D), [1])
    reranker.compose(conn, "look", np.ones(D), [1])
    drop_space(conn, "look")
    with pytest.raises(DatabaseError, match="was dropped"):
        reranker.compose(conn, "look", np.ones(D), [1])
    fill(conn, "look", look, awkward_vectors(rng, 600, 5))
    with connect(database_url) as fresh, pytest.raises(DatabaseError, match="Load it again"):
        reranker.compose(fresh, "look", np.ones(D), [1])


def test_answers_are_of_one_snapshot_while_writers_change_the_space(conn, look, rng, database_url):
    """Threads that share what is resident, each answer compared with the tables as its own transaction sees them."""
    resident = ResidentVectors.load(conn, "look", dtype="float16")
    reranker = Reranker({"look": resident})
    stop, errors, answers = threading.Event(), [], []

    def guard(work):
        def run(*arguments):
            try:
                with connect(database_url) as own:
                    work(own, np.random.default_rng(arguments[0]))
            except BaseException as error:
                errors.append(error)
                stop.set()

        return run

    @guard
    def writer(own, rng):
        while not stop.is_set():
            some, what = np.sort(rng.permutation(look)[:20]), rng.integers(0, 4)
            if what == 0:
                remove(own, "look", some)
            else:
                write(own, "look", some, awkward_vectors(rng, 20, D))
            own.rollback() if what == 1 else own.commit()

    @guard
    def reader(own, rng):
        while not stop.is_set():
            own.execute("set transaction isolation level repeatable read")
            table = stored(own, "look")
            parts, weights = some_parts(rng, 2)
            if rng.integers(0, 2):
                answer, ids = reranker.compose(own, "look", parts, weights, 600), np.array(list(table))
            else:
                ids = np.intersect1d(rng.permutation(look)[:200], np.array(list(table)))
                answer = reranker.compose(own, "look", parts, weights, 600, among=ids)
            own.commit()
            answers.append((table, parts, weights, ids, answer))
            if rng.integers(0, 5) == 0:
                resident.refresh(own)
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
    assert len(answers) > 10
    for table, parts, weights, ids, answer in answers:
        assert answer.population == len(table)
        assert answer.ranked == len(ids)
        assert answer.versions.tolist() == [table[i][0] for i in answer.image_ids.tolist()]
        assert_same(answer, wanted(table, parts, weights, ids, 600))
    assert sum(answer.fetched for *_, answer in answers) > 0  # the race was really there


@pytest.mark.parametrize("population", ["space", "candidates"])
def test_answers_are_those_of_sql(conn, look, rng, population):
    reranker = Reranker({"look": ResidentVectors.load(conn, "look")})
    chosen = np.sort(rng.permutation(look)[:300]).tolist()
    for count in (1, 2, 4):
        parts, weights = some_parts(rng, count)
        rows = conn.execute(
            "select image_id, similarity from geosearch.compose_parts("
            "'look', %s::vector[], %s::float8[], k => 40, population => %s, among => %s::bigint[]) order by rank",
            [[Vector(part) for part in parts], weights.tolist(), population, chosen],
        ).fetchall()
        answer = reranker.compose(conn, "look", parts, weights, 40, population, among=chosen)
        expected = np.array([row[0] for row in rows]), 1 - np.array([row[1] for row in rows])
        assert_same(answer, expected, 1e-5)


def test_a_space_made_anew_with_as_many_changes_is_another(conn, rng):
    ids = add_images(conn, 30)
    for count in (30, 20):
        create_space(conn, "again", D)
        write(conn, "again", ids[:count], awkward_vectors(rng, count, D))
        for _ in range(30 - count):
            write(conn, "again", ids[:1], awkward_vectors(rng, 1, D))
        conn.commit()
        if count == 30:
            reranker, (parts, weights) = Reranker({"again": ResidentVectors.load(conn, "again")}), some_parts(rng)
        answer = reranker.compose(conn, "again", parts, weights, 50)
        assert_same(answer, wanted(stored(conn, "again"), parts, weights, ids[:count], 50))
        drop_space(conn, "again")
        conn.commit()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("population", ["space", "candidates"])
def test_a_gpu_gives_the_same_answers(conn, look, rng, dtype, population, monkeypatch):
    if not gpu_count():
        pytest.skip("no GPU that both FAISS and torch can use")
    resident = ResidentVectors.load(conn, "look", dtype=dtype, device="cuda")
    assert resident.form.where == "gpu"
    on_cpu = Reranker({"look": ResidentVectors.load(conn, "look", device="cpu")})
    chosen = np.sort(rng.permutation(look)[:400])
    for block in (512 << 20, 100 * 4 * D):
        monkeypatch.setitem(rerank_task._BLOCK_BYTES, "cuda", block)
        for count in (1, 2, 5):
            parts, weights = some_parts(rng, count)
            arguments = (conn, "look", parts, weights, 399, population)
            answer = Reranker({"look": resident}).compose(*arguments, among=chosen)
            assert_same(answer, wanted(stored(conn, "look"), parts, weights, chosen, 399, population))
            other = on_cpu.compose(*arguments, among=chosen)
            np.testing.assert_array_equal(answer.image_ids, other.image_ids)
            np.testing.assert_allclose(answer.tails, other.tails, rtol=1e-9)


def test_candidates_known_under_another_version_are_scored_by_it(conn, look, rng):
    """What is resident is what the candidates saw; in the population they count by the same vector."""
    resident = ResidentVectors.load(conn, "look")
    reranker, (parts, weights) = Reranker({"look": resident}), some_parts(rng)
    before, table = all_candidates(conn, "look"), stored(conn, "look")
    write(conn, "look", look[:6], awkward_vectors(rng, 6, D))
    conn.commit()
    some = Candidates.of(before.image_ids[:3], before.versions[:3])
    answer = reranker.compose_candidates(conn, "look", parts, weights, some, 10)
    mixed = stored(conn, "look") | {i: table[i] for i in some.image_ids.tolist()}
    assert_same(answer, wanted(mixed, parts, weights, some.image_ids, 10))
    assert answer.fetched == 3
