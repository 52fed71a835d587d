"""Searches while others write: no error, no wrong answer; writers who wait for each other, never in a circle."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest
from search_truth import Where, text
from toy_world import awkward_places

from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, get_space
from geosearch.embedding.write import VectorWriter

DIMENSION, START = 16, 400
SECONDS = 6.0
SEARCHERS = 8

# The answer and the truth from one snapshot: what brute force finds, and the exact cosine of each.
TRUTH = (
    "select s.image_id, 1 - (s.embedding <=> %(query)s::vector::halfvec), s.version from geosearch.space_busy s"
    " join geosearch.image i on i.id = s.image_id join geosearch.archive a on a.id = i.archive_id"
    " where (%(near)s::text is null"
    "  or st_distance(coalesce(i.footprint, i.nadir), st_geogfromtext(%(near)s)) <= %(radius)s + i.reach_m)"
    " and (%(archive)s::text is null or a.name = %(archive)s)"
    " and (%(since)s::timestamptz is null or i.captured_at >= %(since)s)"
    " and (%(among)s::bigint[] is null or i.id = any (%(among)s))"
)
SEARCH = (
    "select image_id, similarity from geosearch.search('busy', %(query)s, st_geogfromtext(%(near)s), %(radius)s, %(k)s,"
    " %(archive)s, %(strategy)s, captured_from => %(since)s, among => %(among)s)"
)


@pytest.fixture
def busy(database_url: str) -> Iterator[str]:
    """The URL of a database with a space `busy` of START awkward places, indexed, counted."""
    with connect(database_url) as conn:
        conn.execute("insert into geosearch.archive (name) values ('odd'), ('even')")
        create_space(conn, "busy", DIMENSION)
        rng = np.random.default_rng(60)
        add(conn, rng, START)
        conn.execute(
            "create index space_busy_hnsw_idx on geosearch.space_busy using hnsw (embedding halfvec_cosine_ops)"
        )
        conn.execute("update geosearch.space set indexed_as = 'halfvec' where name = 'busy'")
        conn.execute("select geosearch.count_cells('busy')")
        # So that auto does walk, in so small a space.
        conn.execute("update geosearch.cell_count set images = images * 10000000")
        conn.execute("update geosearch.space set counted = counted * 10000000")
    yield database_url


def vectors(rng: np.random.Generator, count: int) -> list[str]:
    return [text(row) for row in rng.standard_normal((count, DIMENSION))]


def add(conn: psycopg.Connection, rng: np.random.Generator, count: int) -> None:
    """Catalogue and embed images, some of them across 180 degrees, at the poles, with a reach, without a place."""
    places = awkward_places(rng)
    chosen = [places[int(i)] for i in rng.integers(0, len(places), count)]
    rows = [
        (int(rng.integers(1, 3)), uuid.uuid4().hex, *place, f"20{int(rng.integers(10, 20))}-01-01Z", vector)
        for place, vector in zip(chosen, vectors(rng, count), strict=True)
    ]
    conn.cursor().executemany(
        "insert into geosearch.image (archive_id, name, nadir, footprint, reach_m, captured_at, properties)"
        " values (%s, %s, st_geogfromtext(%s), st_geogfromtext(%s), %s, %s, jsonb_build_object('v', %s::text))",
        rows,
    )
    conn.execute(
        "insert into geosearch.space_busy (image_id, embedding) select i.id, (i.properties->>'v')::halfvec"
        " from geosearch.image i where i.name = any (%s) order by i.id",
        [[row[1] for row in rows]],
    )


def chosen(conn: psycopg.Connection, rng: np.random.Generator, count: int) -> list[int]:
    """Ids of some images, ascending: writers that lock in one order do not wait for each other in a circle."""
    ids = [row[0] for row in conn.execute("select image_id from geosearch.space_busy").fetchall()]
    return sorted(int(i) for i in rng.choice(ids, min(count, len(ids)), replace=False))


# Writers lock their images by ascending id, then the vectors by ascending id, as the commands that embed do: who goes
# in another order may have to wait in a circle with them, and PostgreSQL then ends one of the two.
LOCK = "select from geosearch.image where id = any (%s) order by id for update"
MOVE = """
update geosearch.image i set nadir = st_geogfromtext(t.nadir), footprint = st_geogfromtext(t.footprint),
    reach_m = t.reach, archive_id = 3 - i.archive_id
from unnest(%s::bigint[], %s::text[], %s::text[], %s::float8[]) t (id, nadir, footprint, reach) where i.id = t.id
"""


def move(conn: psycopg.Connection, rng: np.random.Generator) -> None:
    ids = chosen(conn, rng, 12)
    places = [awkward_places(rng)[int(rng.integers(0, 800))] for _ in range(2)] * 6
    conn.execute(LOCK, [ids])
    conn.execute(MOVE, [ids, *map(list, zip(*places[: len(ids)], strict=True))])


def embed_again(conn: psycopg.Connection, rng: np.random.Generator) -> None:
    """As `geosearch embed` writes, and as a plain update."""
    ids = chosen(conn, rng, 12)
    if rng.random() < 0.5:
        fresh = rng.standard_normal((len(ids), DIMENSION)).astype(np.float16)
        VectorWriter(conn, get_space(conn, "busy")).write(ids, fresh, [rng.bytes(32) for _ in ids])
    else:
        conn.cursor().executemany(
            "update geosearch.space_busy set embedding = %s::vector where image_id = %s",
            list(zip(vectors(rng, len(ids)), ids, strict=True)),
        )


def remove(conn: psycopg.Connection, rng: np.random.Generator) -> None:
    """Some images, but never so many that nothing is left to search."""
    if conn.execute("select count(*) from geosearch.image").fetchone()[0] < START * 3 // 4:
        return
    ids = chosen(conn, rng, 10)
    conn.execute(LOCK, [ids])
    conn.cursor().executemany("delete from geosearch.image where id = %s", [(image_id,) for image_id in ids])


def test_eight_search_while_others_add_move_embed_and_remove(busy):
    stop = time.monotonic() + SECONDS
    errors: list[BaseException] = []
    searched = dict.fromkeys(("exact", "hnsw", "auto"), 0)
    written = dict.fromkeys(("add", "move", "embed_again", "remove"), 0)
    recalls: list[float] = []
    lock = threading.Lock()

    def write(what: str, seed: int, work: Callable[[psycopg.Connection, np.random.Generator], object]) -> None:
        rng = np.random.default_rng(seed)
        with connect(busy) as conn:
            while time.monotonic() < stop and not errors:
                with conn.transaction():
                    work(conn, rng)
                written[what] += 1

    def look(seed: int) -> None:
        rng = np.random.default_rng(seed)
        with connect(busy) as conn:
            conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            conn.read_only = True
            for strategy in itertools.cycle(("exact", "hnsw", "auto")):
                if time.monotonic() > stop or errors:
                    return
                recall = one_search(conn, rng, strategy)
                with lock:
                    searched[strategy] += 1
                    recalls.append(recall)

    def guarded(work: Callable[..., None], *arguments: object) -> Callable[[], None]:
        def run() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                errors.append(error)

        return run

    works = [guarded(look, 100 + n) for n in range(SEARCHERS)]
    works += [
        guarded(write, "add", 1, lambda conn, rng: add(conn, rng, 12)),
        guarded(write, "move", 2, move),
        guarded(write, "embed_again", 3, embed_again),
        guarded(write, "embed_again", 4, embed_again),
        guarded(write, "remove", 5, remove),
    ]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    assert min(searched.values()) >= SEARCHERS and min(written.values()) >= 3, (searched, written)
    assert np.mean(recalls) >= 0.95
    with connect(busy) as conn:  # and in the end every row is what its image says
        stale = conn.execute(
            "select count(*) filter (where s.archive_id <> i.archive_id or s.reach_m <> i.reach_m"
            "  or s.captured_at is distinct from i.captured_at or s.x is distinct from coalesce(p.x, 0)"
            "  or s.z is distinct from coalesce(p.z, 0) or s.cap is distinct from coalesce(p.cap, pi())),"
            " count(*), count(distinct s.version), (select count(*) from geosearch.image)"
            " from geosearch.space_busy s join geosearch.image i on i.id = s.image_id"
            " left join lateral geosearch.place_cap(coalesce(i.footprint, i.nadir)) p on true"
        ).fetchone()
    assert stale[0] == 0
    assert stale[1] == stale[2] == stale[3]


def one_search(conn: psycopg.Connection, rng: np.random.Generator, strategy: str) -> float:
    """Search once and hold the answer against the truth of the same snapshot; return the recall."""
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1))), rng.choice([rng.uniform(-180, 180), 180.0])
    where = Where(
        None if rng.random() < 0.2 else f"POINT({lon:.6f} {rng.choice([lat, 90.0]):.6f})",
        float(10 ** rng.uniform(5.5, 7.2)),
        rng.choice([None, "odd"]),
        rng.choice([None, "2014-06-01Z"]),
    )
    values = {**where.values, "query": vectors(rng, 1)[0], "k": int(rng.choice([1, 10, 60])), "strategy": strategy}
    with conn.transaction():
        if rng.random() < 0.2:
            values["among"] = chosen(conn, rng, 100)
        found = conn.execute(SEARCH, values).fetchall()
        truth = conn.execute(TRUTH, values).fetchall()
        candidates = conn.execute(
            "select image_id, version from geosearch.candidates('busy', st_geogfromtext(%(near)s), %(radius)s,"
            " %(archive)s, %(since)s, among => %(among)s)",
            values,
        ).fetchall()
    similarity = {row[0]: row[1] for row in truth}
    assert len(found) == min(values["k"], len(truth)), values
    assert len({row[0] for row in found}) == len(found), values
    assert {row[0] for row in found} <= set(similarity), values
    assert sorted(candidates) == sorted((row[0], row[2]) for row in truth), values
    np.testing.assert_allclose([row[1] for row in found], [similarity[row[0]] for row in found], atol=1e-3)
    if not found:
        return 1.0
    best = np.sort(list(similarity.values()))[::-1][len(found) - 1]
    recall = float(np.mean([similarity[row[0]] >= best - 1e-3 for row in found]))
    assert recall == 1 or strategy != "exact", values
    return recall


def together(url: str, first: str, second: str, then: str) -> None:
    """Run `first`, begin `second` elsewhere while it is not committed, then `then`; both commit without a deadlock."""
    errors: list[psycopg.Error] = []

    def other() -> None:
        try:
            with connect(url) as conn:
                conn.execute(second)
        except psycopg.Error as error:
            errors.append(error)

    with connect(url) as conn:
        conn.execute(first)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.5)
        conn.execute(then)
    thread.join()
    assert errors == []


PAIRS = {
    "a vector changes while its image moves": (
        "select from geosearch.image where id = 1 for no key update",
        "update geosearch.space_busy set embedding = embedding + embedding where image_id = 1",
        "update geosearch.image set nadir = 'POINT(3 4)', footprint = null where id = 1",
    ),
    "an image moves while its vector changes": (
        "update geosearch.space_busy set embedding = embedding + embedding where image_id = 1",
        "update geosearch.image set nadir = 'POINT(3 4)', footprint = null where id = 1",
        "update geosearch.space_busy set embedding = embedding + embedding where image_id = 1",
    ),
    "a first vector comes while its image moves": (
        "update geosearch.image set nadir = 'POINT(3 4)', footprint = null where id = 1",
        "insert into geosearch.space_second (image_id, embedding) values (1, '[1,2,3]')",
        "select from geosearch.image where id = 1",
    ),
    "an image moves while its first vector comes": (
        "insert into geosearch.space_second (image_id, embedding) values (1, '[1,2,3]')",
        "update geosearch.image set nadir = 'POINT(3 4)', footprint = null where id = 1",
        "select from geosearch.image where id = 1",
    ),
    "two spaces are filled from one image, and each notes what it read": (
        "insert into geosearch.space_second (image_id, embedding) values (1, '[1,2,3]')",
        "insert into geosearch.space_third (image_id, embedding) values (1, '[1,2,3]');"
        "update geosearch.image set content_sha256 = sha256('x') where id = 1",
        "update geosearch.image set content_sha256 = sha256('y') where id = 1",
    ),
    "an image goes while its vector changes": (
        "update geosearch.space_busy set embedding = embedding + embedding where image_id = 1",
        "delete from geosearch.image where id = 1",
        "select from geosearch.image where id = 1",
    ),
    "cells are counted while the first of a class comes": (
        "insert into geosearch.space_second (image_id, embedding) values (1, '[1,2,3]')",
        "select geosearch.count_cells('second')",
        "select geosearch.count_cells('second')",
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_two_that_write_about_one_image_wait_and_do_not_lock_each_other_out(busy, pair):
    """Both see what the other did, whichever came first."""
    with connect(busy) as conn:
        for space in ("second", "third"):
            create_space(conn, space, 3)
    together(busy, *PAIRS[pair])
    with connect(busy) as conn:
        for space in ("busy", "second", "third"):
            wrong = conn.execute(
                f"select count(*) from geosearch.space_{space} s join geosearch.image i on i.id = s.image_id"
                " left join lateral geosearch.place_cap(coalesce(i.footprint, i.nadir)) p on true"
                " where s.x <> coalesce(p.x, 0) or s.cap <> coalesce(p.cap, pi()) or s.reach_m <> i.reach_m"
            ).fetchone()
            assert wrong == (0,)
        extents = "select bit_or(1 << (cell / 32768)) from geosearch.space_second"
        noted = conn.execute("select extents from geosearch.space where name = 'second'").fetchone()
        assert noted[0] == (conn.execute(extents).fetchone()[0] or 0)
