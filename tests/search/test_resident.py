"""Candidates from the database, and what happens between finding and scoring them."""

import datetime as dt
import re
import threading
from pathlib import Path

import numpy as np
import psycopg
import pytest
from rerank_space import add_images, all_candidates, awkward_vectors, fill, remove, stored, write
from test_rerank_scoring import assert_same

from geosearch.database.connection import connect
from geosearch.errors import DatabaseError, InputError
from geosearch.search.binary_copy import vector_rows
from geosearch.search.candidates import Candidates, find_candidates
from geosearch.search.rerank import Reranker
from geosearch.search.resident import ResidentVectors
from geosearch.search.scoring import reference
from geosearch.search.vector_store import VectorStore

D = 6


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_candidates_pass_the_filters_of_search(filled):
    conn, ids = filled

    def found(**filters):
        candidates = find_candidates(conn, "four", **filters)
        versions = {i: version for i, (version, _) in stored(conn, "four").items()}
        assert candidates.versions.tolist() == [versions[i] for i in candidates.image_ids.tolist()]
        return {name for name, number in ids.items() if number in candidates.image_ids}

    assert found() == set(ids)
    assert found(archive="crew") == {"crew/photo", "crew/north", "crew/nowhere"}
    assert found(near=(45, 10), radius_km=10) == {"atlas/north", "crew/photo"}  # photos reach 2 500 km
    assert found(near=(-16.5, 180), radius_km=1) == {"atlas/dateline"}
    assert found(among=[ids["atlas/north"], 10**9]) == {"atlas/north"}
    assert found(captured_from=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)) == set()
    for wrong in ({"space": "none"}, {"archive": "none"}, {"radius_km": -1, "near": (0, 0)}):
        with pytest.raises(InputError):
            found(**wrong) if "space" not in wrong else find_candidates(conn, "none")


def test_search_ranks_as_sql_does(filled):
    conn, _ = filled
    reranker = Reranker({"four": ResidentVectors.load(conn, "four")})
    for filters in ({}, {"near": (45, 10), "radius_km": 3000}, {"archive": "atlas"}):
        ranking = reranker.search(conn, {"four": [1, 0.5, 0.1, 0]}, 4, **filters)
        near = filters.get("near")
        rows = conn.execute(
            "select image_id, similarity from geosearch.search('four', '[1,.5,.1,0]',"
            " case when %s then st_makepoint(10, 45)::geography end, 3e6, 4, %s, 'exact')",
            [near is not None, filters.get("archive")],
        ).fetchall()
        assert [answer.image_id for answer in ranking[0]] == [row[0] for row in rows]
        assert ranking.scores[0].tolist() == pytest.approx([row[1] for row in rows], abs=1e-6)
        conn.rollback()


def test_search_sees_one_state_of_the_database(conn, rng, database_url):
    """Between finding candidates and scoring them all vectors change: the answer is as of the finding."""
    ids = add_images(conn, 50)
    vectors = awkward_vectors(rng, 50, D)
    fill(conn, "look", ids, vectors)
    resident = ResidentVectors.load(conn, "look")
    write(conn, "look", ids, vectors[::-1])  # so that everything must be fetched
    conn.commit()
    then = stored(conn, "look")
    conn.commit()
    reranker, fetch = Reranker({"look": resident}), resident.fetch

    def change_first(own, *arguments):
        with connect(database_url) as other:
            write(other, "look", ids[:40], awkward_vectors(rng, 40, D))
            remove(other, "look", ids[40:])
        fetch(own, *arguments)

    resident.fetch = change_first
    query = rng.standard_normal(D)
    ranking = reranker.search(conn, {"look": query}, 50)
    wanted = reference({"look": query}, {"look": vectors[::-1]}, ids, 50, {"look": 1.0})
    assert_same((ranking.image_ids, ranking.scores), wanted)
    assert ranking.versions["look"][0].tolist() == [then[i][0] for i in ranking.image_ids[0].tolist()]
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_rows_changed_between_finding_and_scoring_are_scored_as_they_are_now(conn, rng, database_url):
    ids = add_images(conn, 60)
    fill(conn, "look", ids, awkward_vectors(rng, 60, D))
    resident = ResidentVectors.load(conn, "look")
    write(conn, "look", ids[:30], awkward_vectors(rng, 30, D))
    conn.commit()
    candidates = all_candidates(conn, "look")  # 30 of them not resident under these versions
    conn.commit()
    with connect(database_url) as other:
        write(other, "look", ids[:10], awkward_vectors(rng, 10, D))
        remove(other, "look", ids[10:20])
    query = rng.standard_normal(D)
    ranking = Reranker({"look": resident}).rank(conn, {"look": query}, candidates, 60)
    now = stored(conn, "look")
    left = np.array(sorted(now))
    wanted = reference({"look": query}, {"look": np.stack([now[i][1] for i in left])}, left, 60, {"look": 1.0})
    assert_same((ranking.image_ids, ranking.scores), wanted)
    assert ranking.versions["look"][0].tolist() == [now[i][0] for i in ranking.image_ids[0].tolist()]
    assert ranking.lacking["look"].tolist() == ids[10:20].tolist()
    asked = dict(zip(candidates.image_ids.tolist(), candidates.versions.tolist(), strict=True))
    assert sum(asked[i] != now[i][0] for i in left.tolist()) == 10


def test_a_row_replaced_by_another_thread_before_scoring_is_fetched_again(conn, rng, database_url):
    """Resident and wanted agree, then another thread keeps a newer row: what was wanted is nowhere any more."""
    ids = add_images(conn, 40)
    fill(conn, "look", ids, awkward_vectors(rng, 40, D))
    resident = ResidentVectors.load(conn, "look")
    candidates = all_candidates(conn, "look")
    conn.commit()
    reranker, locate, calls = Reranker({"look": resident}), resident.locate, []

    def replaced_meanwhile(*arguments):
        if not calls:
            calls.append(1)

            def other_thread():
                with connect(database_url) as other:
                    write(other, "look", ids[:5], awkward_vectors(rng, 5, D))
                    remove(other, "look", ids[5:7])
                    other.commit()
                    resident.refresh(other)

            # Under the lock here, which the other thread needs: this stands for what happens just before it is taken.
            resident.lock.release()
            thread = threading.Thread(target=other_thread)
            thread.start()
            thread.join()
            resident.lock.acquire()
        return locate(*arguments)

    resident.locate = replaced_meanwhile
    query = rng.standard_normal(D)
    ranking = reranker.rank(conn, {"look": query}, candidates, 40)
    now = stored(conn, "look")
    left = np.array(sorted(now))
    wanted = reference({"look": query}, {"look": np.stack([now[i][1] for i in left])}, left, 40, {"look": 1.0})
    assert_same((ranking.image_ids, ranking.scores), wanted)
    assert ranking.lacking["look"].tolist() == ids[5:7].tolist()
    assert ranking.fetched == 5


def test_versions_that_commit_out_of_order_are_followed(conn, rng, database_url):
    """The transaction that drew the lower version commits last: "newer than the last seen" would miss it."""
    ids = add_images(conn, 2)
    fill(conn, "look", ids, awkward_vectors(rng, 2, D))
    with connect(database_url) as early, connect(database_url) as late:
        write(early, "look", ids[:1], np.full((1, D), 2, np.float16))
        write(late, "look", ids[1:], np.full((1, D), 3, np.float16))
        late.commit()
        resident = ResidentVectors.load(conn, "look")
        highest = int(all_candidates(conn, "look").versions.max())
        conn.commit()
        early.commit()
    candidates = all_candidates(conn, "look")
    assert candidates.versions[0] < highest
    ranking = Reranker({"look": resident}).rank(conn, {"look": np.ones(D)}, candidates, 2)
    assert ranking.fetched == 1
    assert ranking.scores[0].tolist() == pytest.approx([1, 1])
    assert ranking.image_ids[0].tolist() == ids.tolist()


def test_an_image_made_again_under_a_lower_version_is_scored_anew(conn, rng):
    ids = add_images(conn, 1)
    fill(conn, "look", ids, np.array([[1, 0, 0, 0, 0, 0]], np.float16))
    resident = ResidentVectors.load(conn, "look")
    # As when an insert drew its version before another's insert and removal: the row that is there counts.
    conn.execute("alter table geosearch.space_look disable trigger user")
    conn.execute("update geosearch.space_look set version = version - 1, embedding = '[0,1,0,0,0,0]'")
    conn.execute("alter table geosearch.space_look enable trigger user")
    reranker = Reranker({"look": resident})
    for fetched in (1, 1):
        ranking = reranker.rank(conn, {"look": [0, 1, 0, 0, 0, 0]}, all_candidates(conn, "look"), 1)
        assert (ranking.scores.tolist(), ranking.fetched) == ([[1.0]], fetched)
    resident.refresh(conn)
    assert reranker.rank(conn, {"look": [0, 1, 0, 0, 0, 0]}, all_candidates(conn, "look"), 1).fetched == 0


def test_two_threads_over_two_spaces_do_not_wait_for_each_other_forever(conn, rng, database_url):
    ids = add_images(conn, 200)
    for space, dimension in (("one", 5), ("two", 5)):
        fill(conn, space, ids, awkward_vectors(rng, 200, dimension))
    residents = {space: ResidentVectors.load(conn, space) for space in ("one", "two")}
    # One lists the spaces the other way round.
    rerankers = [Reranker(residents), Reranker(dict(reversed(residents.items())))]
    candidates = {space: all_candidates(conn, space) for space in residents}
    done = []

    def work(reranker):
        queries = dict.fromkeys(reranker.residents, np.ones(5))
        with connect(database_url) as own:
            for _ in range(60):
                reranker.rank(own, queries, candidates, 5)
        done.append(1)

    threads = [threading.Thread(target=work, args=(reranker,)) for reranker in rerankers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4


def test_many_stale_rows_are_fetched_some_at_a_time(conn, rng, monkeypatch):
    from geosearch.search import rerank_task

    monkeypatch.setattr(rerank_task, "_FETCH_BYTES", 50 * 2 * D)
    ids = add_images(conn, 330)
    fill(conn, "look", ids[:10], awkward_vectors(rng, 10, D))
    resident = ResidentVectors.load(conn, "look")
    write(conn, "look", ids[10:], awkward_vectors(rng, 320, D))
    sizes = []
    put = VectorStore.put
    monkeypatch.setattr(VectorStore, "put", lambda self, new, *rest: sizes.append(len(new)) or put(self, new, *rest))
    query = rng.standard_normal(D)
    ranking = Reranker({"look": resident}).rank(conn, {"look": query}, all_candidates(conn, "look"), 330)
    now = stored(conn, "look")
    vectors = np.stack([now[i][1] for i in ids.tolist()])
    assert_same(
        (ranking.image_ids, ranking.scores), reference({"look": query}, {"look": vectors}, ids, 330, {"look": 1})
    )
    assert (sum(sizes), max(sizes)) == (320, 50)


def test_a_table_of_another_dimension_is_not_read(conn, rng):
    ids = add_images(conn, 3)
    fill(conn, "look", ids, awkward_vectors(rng, 3, D))
    from psycopg import sql

    select = sql.SQL("select image_id, version, embedding from geosearch.space_look")
    assert [part[2].shape for part in vector_rows(conn, select, D)] == [(3, D)]
    for dimension in (D - 1, D + 1, 100):
        with pytest.raises(DatabaseError, match="load it again"):
            list(vector_rows(conn, select, dimension))


def test_the_read_role_can_load_and_rank(conn, rng, superuser_url):
    ids = add_images(conn, 20)
    fill(conn, "look", ids, awkward_vectors(rng, 20, D))
    with connect(superuser_url) as reader:
        reader.execute("set role geosearch_read")
        reranker = Reranker({"look": ResidentVectors.load(reader, "look")})
        assert len(reranker.search(reader, {"look": np.ones(D)}, 5)[0]) == 5


def test_nothing_stays_open(conn, rng, database_url):
    """Loading, ranking and refreshing leave no transaction behind on a connection that had none."""
    ids = add_images(conn, 20)
    fill(conn, "look", ids, awkward_vectors(rng, 20, D))
    with connect(database_url) as own:
        resident = ResidentVectors.load(own, "look")
        reranker = Reranker({"look": resident})
        reranker.rank(own, {"look": np.ones(D)}, Candidates.of(ids, ids * 0), 5)
        reranker.search(own, {"look": np.ones(D)}, 5, archive="rerank")
        resident.refresh(own)
        assert own.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_what_the_how_to_says_runs(conn, rng, database_url, monkeypatch, capsys):
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    ids = add_images(conn, 30)
    conn.execute("update geosearch.image set nadir = st_makepoint(8, 46)")
    for space, dimension in (("look", 8), ("text", 5)):
        fill(conn, space, ids, awkward_vectors(rng, 30, dimension))
    names = {"vectors": rng.standard_normal((2, 8)), "a": rng.standard_normal(8), "b": rng.standard_normal(5)}
    names["parts"] = rng.standard_normal((2, 8))
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "rerank.md"
    for block in re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(guide), "exec"), names)
        names["conn"] = conn  # the first block closes its own
    assert len(capsys.readouterr().out.splitlines()) == 30
    assert names["ranking"].image_ids.shape == (2, 10)
    assert len(names["answers"]) == 10
