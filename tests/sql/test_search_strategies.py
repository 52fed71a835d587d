"""Every strategy on awkward places: never short, never wrong, never late to fall back, and nothing left behind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from search_truth import Where, candidates, check, cosines, plan, search, text
from toy_world import DIMENSION, World

from geosearch.database.connection import connect

STRATEGIES = ("exact", "hnsw", "auto")
INDEX = "space_toy_hnsw_idx"
INFLATE = (
    "update geosearch.cell_count set images = images * 10000000;update geosearch.space set counted = counted * 10000000"
)


@pytest.fixture(scope="module")
def indexed(world) -> Iterator[World]:
    """The toy world with an approximate index, as `geosearch space index` makes and records it."""
    world.conn.execute(f"create index {INDEX} on geosearch.space_toy using hnsw (embedding halfvec_cosine_ops)")
    world.conn.execute("update geosearch.space set indexed_as = 'halfvec' where name = 'toy'")
    yield world


def circles(rng: np.random.Generator, world: World) -> list[Where]:
    """Circles at poles, at 180 degrees, over nothing, anywhere, and polygons; each with filters, or none."""
    areas = [
        "POLYGON((-100 30,-60 30,-60 60,-100 60,-100 30))",
        "POLYGON((0 0,60 0,60 60,0 60,0 0),(20 20,40 20,40 40,20 20))",
    ]
    areas.append(
        "MULTIPOLYGON(((170 -20,180 -20,180 20,170 20,170 -20)),((-180 -20,-170 -20,-170 20,-180 20,-180 -20)))"
    )
    places: list[tuple[str | None, float]] = [(None, 0.0), (None, 2.5e6)]
    places += [
        (f"POINT({lon} {lat})", radius)
        for lat in (-90, -89.9999999, -30, 0, 90)
        for lon in (-180, 179.9999999, 0)
        for radius in (0.0, 5e5, 2.5e6, 2.1e7)
    ]
    places += [(area, radius) for area in areas for radius in (0.0, 0.5, 1e6)]
    for z, lon in zip(rng.uniform(-1, 1, 60), rng.uniform(-180, 180, 60), strict=True):
        places.append((f"POINT({lon:.9f} {np.degrees(np.arcsin(z)):.9f})", float(10 ** rng.uniform(5, 7.3))))
    filters: list[dict[str, object]] = [
        {},
        {"archive": "odd"},
        {},
        {},
        {"since": "2003-05-01Z"},
        {"until": "2009-01-01Z"},
        {"archive": "even", "since": "2002-01-01Z", "until": "2006-01-01Z"},
        {"among": [int(i) for i in rng.choice(world.ids, 80)] + [-1, None]},
        {"among": []},
    ]
    return [Where(near, radius, **filters[i % len(filters)]) for i, (near, radius) in enumerate(places)]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def asked(indexed) -> list[tuple[Where, list[int]]]:
    """Where to search, and who is a candidate there by brute force."""
    found = [(where, candidates(indexed.conn, where)) for where in circles(np.random.default_rng(11), indexed)]
    sizes = [len(ids) for _, ids in found]
    assert sizes.count(0) > 10 and sum(size > 100 for size in sizes) > 20  # there is something to miss
    return found


def cosine_of(world: World, query: np.ndarray) -> dict[int, float]:
    return dict(zip(world.ids.tolist(), cosines(world.vectors, query).tolist(), strict=True))


def walks(conn: psycopg.Connection) -> int:
    """How often this transaction walked through the approximate index."""
    return conn.execute("select pg_stat_get_xact_numscans(%s::text::regclass)", [f"geosearch.{INDEX}"]).fetchone()[0]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("k", [1, 10, 150, 100_000])
def test_every_strategy_returns_min_of_k_and_candidates_and_only_those(indexed, asked, strategy, k):
    rng = np.random.default_rng(k)
    recalls = []
    for i, (where, allowed) in enumerate(asked):
        query = rng.standard_normal(DIMENSION) * 10 ** rng.uniform(-1, 1)
        if i % 5 == 0:
            query = indexed.vectors[5]  # twenty images are equally like it
        rows = search(indexed.conn, where, query, k, strategy)
        recalls.append(check(rows, allowed, k, cosine_of(indexed, query), (where, strategy)))
    if strategy == "hnsw":
        assert np.mean(recalls) >= 0.95
    else:  # auto has no reason to walk through an index of so few
        assert min(recalls) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_vectors_come_in_the_order_of_ids(indexed, strategy):
    for where in (Where(), Where("POINT(0 0)", 2.1e7), Where(archive="odd")):
        allowed = candidates(indexed.conn, where)
        equal = [int(i) for i in indexed.ids[5:25] if i in allowed]
        found = [row[1] for row in search(indexed.conn, where, indexed.vectors[5], len(equal), strategy)]
        assert len(equal) > 5
        assert found == equal


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_plan_agrees_with_brute_force(indexed, asked, strategy):
    for where, allowed in asked:
        took, estimated, counted, requested, returned, exhausted = plan(
            indexed.conn, where, np.ones(DIMENSION), 30, strategy
        )
        assert (counted, requested, returned) == (len(allowed), 30, min(30, len(allowed))), where
        assert exhausted is (len(allowed) <= 30)
        assert estimated >= 0
        if strategy == "exact" or where.among is not None or len(allowed) < 10 * 30 + 200:
            # Ids are looked up by key; a walk that met less than it should is not the answer.
            assert took == "exact", where
        elif strategy == "hnsw":
            assert took == "hnsw", where


def test_hnsw_walks_through_the_index_and_exact_never_does(indexed):
    """Where nothing but the graph could serve the walk; in so small a space cells serve it as well."""
    for keep_cells in (True, False):
        with indexed.conn.transaction(force_rollback=True):
            if not keep_cells:
                indexed.conn.execute("drop index geosearch.space_toy_cell_idx")
            before = walks(indexed.conn)
            for where in (Where("POINT(10 45)", 5e6), Where(), Where(archive="odd"), Where(among=[1, 2, 3])):
                search(indexed.conn, where, np.ones(DIMENSION), 10, "exact")
            assert walks(indexed.conn) == before
            search(indexed.conn, Where("POINT(10 45)", 5e6), np.ones(DIMENSION), 10, "hnsw")
            assert keep_cells or walks(indexed.conn) == before + 1


def test_auto_takes_the_walk_where_counts_say_that_it_is_cheaper(indexed, asked):
    """With counts ten million times too high, the answers are still right, and short ones are made good."""
    taken, made_good = set(), 0
    with indexed.conn.transaction(force_rollback=True):
        indexed.conn.execute(INFLATE)
        # Else the planner, who knows how few there are, may serve the walk by cells.
        indexed.conn.execute("drop index geosearch.space_toy_cell_idx")
        for i, ((where, allowed), k) in enumerate(itertools.product(asked[::2], (2, 4, 8))):
            query = np.random.default_rng(i).standard_normal(DIMENSION)
            before = walks(indexed.conn)
            rows = search(indexed.conn, where, query, k)
            walked = walks(indexed.conn) > before
            check(rows, allowed, k, cosine_of(indexed, query), where)
            took, estimated, counted, _, returned, _ = plan(indexed.conn, where, query, k)
            assert (counted, returned) == (len(allowed), min(k, len(allowed)))
            taken.add(took)
            if where.near is None and where.among is None:
                assert took == "hnsw" and estimated > 1e6, where
            if len(allowed) < k:
                assert took == "exact", where
                made_good += walked
    assert taken == {"exact", "hnsw"}
    assert made_good >= 5


def test_auto_without_counts_or_without_an_index_is_exact(indexed):
    for statement in (
        "delete from geosearch.cell_count; update geosearch.space set counted = null",
        "update geosearch.space set indexed_as = null",
        f"{INFLATE}; update geosearch.space set indexed_as = null",
    ):
        with indexed.conn.transaction(force_rollback=True):
            indexed.conn.execute(statement)
            for where in (Where(), Where("POINT(10 45)", 5e6), Where("POINT(-20 -60)", 1.0, archive="odd")):
                allowed = candidates(indexed.conn, where)
                took, _, counted, *_ = plan(indexed.conn, where, np.ones(DIMENSION), 10)
                assert (took, counted) == ("exact", len(allowed))


SETTINGS = "select name, setting from pg_settings where name not like 'transaction%' order by name"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_setting_leaks_out_of_a_search(indexed, strategy):
    """Neither after it, nor within the same transaction, nor after an error in the midst of it."""
    conn = indexed.conn
    conn.execute("set hnsw.ef_search = 37; set enable_seqscan = on; set work_mem = '5MB'")
    try:
        before = conn.execute(SETTINGS).fetchall()
        assert ("hnsw.ef_search", "37") in before
        with conn.transaction():
            search(conn, Where("POINT(10 45)", 5e6), np.ones(DIMENSION), 10, strategy)
            assert conn.execute(SETTINGS).fetchall() == before
            # The form of the index is wrong, so that the walk fails when its settings are made already.
            with pytest.raises(psycopg.errors.UndefinedColumn), conn.transaction():
                conn.execute("update geosearch.space set indexed_as = 'bit' where name = 'toy'")
                conn.execute(INFLATE)
                search(conn, Where(), np.ones(DIMENSION), 10, "hnsw")
            assert conn.execute(SETTINGS).fetchall() == before
            search(conn, Where(), np.ones(DIMENSION), 10, strategy)
            assert conn.execute(SETTINGS).fetchall() == before
        assert conn.execute(SETTINGS).fetchall() == before
    finally:
        conn.execute("reset hnsw.ef_search; reset enable_seqscan; reset work_mem")


HOSTILE = """
set enable_indexscan = off; set enable_bitmapscan = off; set enable_sort = off; set enable_hashjoin = off;
set enable_nestloop = off; set enable_material = off; set enable_memoize = off; set enable_indexonlyscan = off;
set plan_cache_mode = force_generic_plan; set extra_float_digits = -15; set work_mem = '64kB';
set hnsw.max_scan_tuples = 1; set hnsw.ef_search = 1; set hnsw.iterative_scan = off; set hnsw.scan_mem_multiplier = 1;
set max_parallel_workers_per_gather = 4; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0; set random_page_cost = 1000; set seq_page_cost = 0; set cpu_operator_cost = 1000;
set cpu_tuple_cost = 0; set from_collapse_limit = 1; set join_collapse_limit = 1;
set geqo_threshold = 2; set transform_null_equals = on; set quote_all_identifiers = on;
set plpgsql.extra_errors = 'all'; set default_transaction_isolation = serializable; set timezone = 'Asia/Kathmandu';
set datestyle = 'German'; set intervalstyle = 'sql_standard'; set cursor_tuple_fraction = 0.0001;
set standard_conforming_strings = on; set bytea_output = 'escape'; set xmloption = 'document';
"""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_hostile_session_changes_no_answer(indexed, asked, strategy):
    """Whatever may be set without rights, and objects of the session's own under the names that functions use."""
    plain = [search(indexed.conn, where, np.arange(1.0, 9), 20, strategy) for where, _ in asked[::2]]
    with connect(indexed.url, autocommit=True) as conn:
        parallel = "debug_parallel_query" if conn.info.server_version >= 160000 else "force_parallel_mode"
        conn.execute(HOSTILE + f"set {parallel} = on")
        # A temporary table comes first in a search_path that does not name pg_temp.
        conn.execute("create temporary table image (id bigint); create temporary table space (name text)")
        conn.execute("create temporary table cell_count (cell int); create temporary table space_toy (image_id bigint)")
        schema = conn.execute(
            "select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace"
            " where e.extname = 'postgis'"
        ).fetchone()[0]
        conn.execute(f"set search_path = pg_temp, {schema}, pg_catalog")
        for (where, allowed), expected in zip(asked[::2], plain, strict=True):
            rows = search(conn, where, np.arange(1.0, 9), 20, strategy)
            if strategy == "hnsw":  # its settings forbade the index, so it may only have found better ones
                check(rows, allowed, 20, cosine_of(indexed, np.arange(1.0, 9)), where)
            else:
                assert rows == expected, where


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", ["auto", "force_generic_plan", "force_custom_plan"])
def test_prepared_statements_answer_as_others(indexed, asked, strategy, mode):
    """The sixth execution may take a generic plan; the kinds of search alternate, so that none suits the next."""
    with connect(indexed.url, autocommit=True) as conn:
        conn.execute(f"set plan_cache_mode = {mode}")
        conn.execute(
            "prepare p (vector, geography, float8, int, text, text, timestamptz, timestamptz, bigint[]) as"
            " select rank, image_id, similarity from geosearch.search('toy', $1, $2, $3, $4, $5, $6, $7, $8, $9)"
        )
        for where, _ in asked[::14]:
            for k in (3, 700):
                values = [text(np.ones(8)), where.near, where.radius, k, where.archive, strategy, where.since]
                rows = (
                    psycopg.ClientCursor(conn)
                    .execute(
                        "execute p (%s, st_geogfromtext(%s), %s, %s, %s, %s, %s, %s, %s)",
                        [*values, where.until, where.among],
                    )
                    .fetchall()
                )
                assert rows == search(indexed.conn, where, np.ones(8), k, strategy), (where, k)
        assert (
            conn.execute("select generic_plans + custom_plans from pg_prepared_statements where name = 'p'").fetchone()[
                0
            ]
            >= 7
        )


def test_the_walk_is_ordered_exactly(indexed):
    """Relaxed order comes out nearly sorted; the answers are sorted, each time the same."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        query = rng.standard_normal(DIMENSION)
        rows = search(indexed.conn, Where("POINT(100 10)", 6e6), query, 60, "hnsw")
        assert all(a[2] >= b[2] for a, b in itertools.pairwise(rows))
        assert rows == search(indexed.conn, Where("POINT(100 10)", 6e6), query, 60, "hnsw")


def test_an_index_that_is_gone_or_broken_costs_time_and_no_answer(indexed):
    """indexed_as is a note: what it says of may have been dropped since."""
    with indexed.conn.transaction(force_rollback=True):
        expected = [search(indexed.conn, Where(near, 4e6), np.ones(8), 25, "exact") for near in ("POINT(0 0)", None)]
        indexed.conn.execute(f"drop index geosearch.{INDEX}")
        for strategy in STRATEGIES:
            found = [search(indexed.conn, Where(near, 4e6), np.ones(8), 25, strategy) for near in ("POINT(0 0)", None)]
            assert found == expected


def test_a_walk_that_stops_before_it_has_enough_is_made_good(indexed):
    """Without more than one round, as if the walk had met its limits: too few are met, though there are enough."""
    made_good = 0
    with indexed.conn.transaction(force_rollback=True):
        indexed.conn.execute("alter function geosearch.search_best set hnsw.iterative_scan = 'off'")
        indexed.conn.execute("drop index geosearch.space_toy_cell_idx")  # only the graph can serve the walk
        for lon in range(-180, 180, 20):
            where = Where(f"POINT({lon} 10)", 1.5e6)
            allowed = candidates(indexed.conn, where)
            query = np.random.default_rng(lon + 180).standard_normal(DIMENSION)
            k = max(1, len(allowed) - 2)
            recall = check(search(indexed.conn, where, query, k, "hnsw"), allowed, k, cosine_of(indexed, query), where)
            if plan(indexed.conn, where, query, k, "hnsw")[0] == "exact":
                made_good += 1
                assert recall == 1, where
    assert made_good > 5
