"""A space of 4 000 dimensions: sign codes are walked, whole vectors decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector
from search_truth import Where, candidates, check, cosines, plan, search

from geosearch.database.connection import connect
from geosearch.database.spaces import create_space

DIMENSION, COUNT = 4000, 1500


@dataclass(frozen=True)
class Codes:
    """A connection to a database with space `big`, and the NumPy copy of its vectors."""

    conn: psycopg.Connection
    ids: np.ndarray
    vectors: np.ndarray
    """(COUNT, DIMENSION) float64, the stored half-precision values."""
    mixing: np.ndarray
    """(factors, DIMENSION): what vectors of this space are made of."""

    def cosine_of(self, query: np.ndarray) -> dict[int, float]:
        return dict(zip(self.ids.tolist(), cosines(self.vectors, query).tolist(), strict=True))

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return drawn(rng, self.mixing, count)


def drawn(rng: np.random.Generator, mixing: np.ndarray, count: int) -> np.ndarray:
    """(count, DIMENSION) vectors as encoders make them: few factors, some noise, all to one side of the origin."""
    factors = rng.standard_normal((count, len(mixing))) @ mixing
    return np.asarray(factors + 0.4 * rng.standard_normal((count, DIMENSION)) + np.abs(mixing[0]) * 6)


@pytest.fixture(scope="module")
def codes(module_database_url: str) -> Iterator[Codes]:
    with connect(module_database_url, autocommit=True) as conn:
        rng = np.random.default_rng(40)
        mixing = rng.standard_normal((24, DIMENSION)) * np.linspace(1, 0.2, 24)[:, None]
        half = drawn(rng, mixing, COUNT).astype(np.float16)
        conn.execute("insert into geosearch.archive (name) values ('odd'), ('even')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m, captured_at)"
            " select a.id, g::text, st_makepoint(g * 7.13 - 360 * floor(g * 7.13 / 360) - 180, g %% 171 - 85), 0,"
            " timestamptz '2010-01-01Z' + g * interval '1 day' from generate_series(1, %s) g"
            " join geosearch.archive a on a.name = case g %% 2 when 0 then 'even' else 'odd' end order by g",
            [COUNT],
        )
        create_space(conn, "big", DIMENSION)
        ids = np.array([row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()])
        with conn.cursor().copy(
            "copy geosearch.space_big (image_id, embedding) from stdin with (format binary)"
        ) as copy:
            copy.set_types(["int8", "halfvec"])
            for image_id, vector in zip(ids, half, strict=True):
                copy.write_row((int(image_id), HalfVector(vector)))
        conn.execute(
            "update geosearch.space set centre = (select avg(l2_normalize(embedding)) from geosearch.space_big)"
        )
        conn.execute("update geosearch.space_big set image_id = image_id")  # its trigger makes the codes anew
        conn.execute("create index space_big_hnsw_idx on geosearch.space_big using hnsw (code bit_hamming_ops)")
        conn.execute("update geosearch.space set indexed_as = 'bit'")
        conn.execute("analyze geosearch.space_big")
        conn.execute("select geosearch.count_cells('big')")
        yield Codes(conn, ids, half.astype(np.float64), mixing)


def test_codes_are_the_signs_of_unit_vectors_less_the_centre(codes):
    wrong = codes.conn.execute(
        "select count(*) from geosearch.space_big t, geosearch.space s"
        " where t.code <> geosearch.sign_code(t.embedding, s.centre)"
    ).fetchone()
    assert wrong == (0,)
    unit = codes.vectors / np.linalg.norm(codes.vectors, axis=1, keepdims=True)
    expected = unit - unit.mean(axis=0) > 0
    rows = codes.conn.execute("select code::text from geosearch.space_big order by image_id").fetchall()
    stored = np.array([list(row[0]) for row in rows]) == "1"
    assert stored.shape == (COUNT, DIMENSION)
    # Half precision decides otherwise only where a value is next to nothing.
    assert (stored == expected).mean() > 0.995
    assert 0.3 < stored.mean() < 0.7  # less the centre, a sign says something
    plain = codes.conn.execute(
        "select geosearch.sign_code('[1,-2,0,3]'::halfvec, null)::text,"
        " geosearch.sign_code('[3,4]'::halfvec, '[0.7,0.7]')::text"
    ).fetchone()
    assert plain == ("1001", "01")


def test_the_walk_through_codes_finds_what_exact_search_finds(codes):
    rng = np.random.default_rng(41)
    wheres = [
        Where(),
        Where("POINT(20 30)", 6e6),
        Where(archive="odd"),
        Where("POINT(180 -60)", 9e6, until="2012-01-01Z"),
    ]
    asked = [(where, candidates(codes.conn, where, "big")) for where in wheres]
    recalls, walked = [], 0
    for query in codes.draw(rng, 12):
        cosine_of = codes.cosine_of(query)
        for where, allowed in asked:
            assert len(allowed) > 60
            assert check(search(codes.conn, where, query, 10, "exact", "big"), allowed, 10, cosine_of, where) == 1
            recalls.append(check(search(codes.conn, where, query, 10, "hnsw", "big"), allowed, 10, cosine_of, where))
        walked += plan(codes.conn, Where(), query, 10, "hnsw", "big")[0] == "hnsw"
    assert walked == 12
    assert np.mean(recalls) >= 0.95


@pytest.mark.parametrize("strategy", ["exact", "hnsw", "auto"])
def test_a_space_of_codes_is_never_short(codes, strategy):
    query = codes.draw(np.random.default_rng(42), 1)[0]
    cosine_of = codes.cosine_of(query)
    for where in (
        Where(),
        Where("POINT(0 -90)", 1e6),
        Where("POINT(-179 40)", 3e6, archive="even"),
        Where("POLYGON((0 0,60 0,60 60,0 60,0 0))", 0.0, since="2012-01-01Z"),
        Where("POINT(0 0)", 1.0),
        Where(among=[*codes.ids[:30].tolist(), -1]),
    ):
        allowed = candidates(codes.conn, where, "big")
        for k in (3, 200, COUNT):
            recall = check(search(codes.conn, where, query, k, strategy, "big"), allowed, k, cosine_of, where)
            assert recall == 1 or strategy == "hnsw"


def test_a_walk_by_codes_is_what_auto_takes_where_it_reads_less(codes):
    """Whole vectors lie apart from their rows here: reading each is what costs."""
    query = codes.draw(np.random.default_rng(43), 1)[0]
    with codes.conn.transaction(force_rollback=True):
        codes.conn.execute("update geosearch.cell_count set images = images * 1000")
        codes.conn.execute("update geosearch.space set counted = counted * 1000")
        took, estimated, counted, *_ = plan(codes.conn, Where(), query, 10, "auto", "big")
        assert (took, estimated, counted) == ("hnsw", COUNT * 1000, COUNT)
        allowed = candidates(codes.conn, Where(), "big")
        assert check(search(codes.conn, Where(), query, 10, "auto", "big"), allowed, 10, codes.cosine_of(query)) >= 0.9


def test_a_vector_that_changes_gets_its_code(codes):
    query = codes.draw(np.random.default_rng(44), 1)[0]
    image_id = int(codes.ids[17])
    with codes.conn.transaction(force_rollback=True):
        codes.conn.execute(
            "update geosearch.space_big set embedding = %s where image_id = %s",
            [HalfVector(query.astype(np.float16)), image_id],
        )
        for strategy in ("exact", "hnsw"):
            first = search(codes.conn, Where(), query, 1, strategy, "big")[0]
            assert first[1] == image_id and first[2] == pytest.approx(1, abs=1e-5)
        row = codes.conn.execute(
            "select code = geosearch.sign_code(embedding, (select centre from geosearch.space))"
            " from geosearch.space_big where image_id = %s",
            [image_id],
        ).fetchone()
        assert row == (True,)
