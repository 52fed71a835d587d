"""Filters, alone and together, against the same conditions written by hand; many searches at once; candidates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from search_truth import ARGUMENTS, Where, candidates, search, text
from toy_world import DIMENSION, World

QUERY = np.arange(1.0, DIMENSION + 1)
ALL = 100_000


def found(world: World, where: Where, strategy: str = "auto") -> list[int]:
    ids = [row[1] for row in search(world.conn, where, QUERY, ALL, strategy)]
    assert len(ids) == len(set(ids))
    return sorted(ids)


def by_hand(world: World, condition: str, values: dict[str, object] | None = None) -> list[int]:
    statement = f"select i.id from geosearch.image i where {condition} order by i.id"
    return [row[0] for row in world.conn.execute(statement, values).fetchall()]


def test_dates_are_half_open_and_an_image_without_one_is_within_none(world):
    moments = world.conn.execute(
        "select distinct captured_at from geosearch.image where captured_at is not null order by 1"
    ).fetchall()
    first, middle, last = moments[0][0], moments[len(moments) // 2][0], moments[-1][0]
    tick = timedelta(microseconds=1)
    for since in (None, first, middle, middle + tick, last, last + tick):
        for until in (None, first, first + tick, middle, middle + tick, last, last + tick):
            if since is not None and until is not None and since >= until:
                continue
            values = {"since": since, "until": until}
            expected = by_hand(
                world,
                "(%(since)s::timestamptz is null or captured_at >= %(since)s)"
                " and (%(until)s::timestamptz is null or captured_at < %(until)s)",
                values,
            )
            assert found(world, Where(**values)) == expected, values
    dated = found(world, Where(since="-infinity", until="infinity"))
    assert dated == by_hand(world, "captured_at is not null")
    assert 0 < len(dated) < len(world.ids)
    assert found(world, Where(since=first, until=first + tick)) != []  # the first moment is in, the last one not
    assert found(world, Where(since=last + tick)) == []


def test_a_date_is_a_moment_whatever_the_time_zone(world):
    at = world.conn.execute("select max(captured_at) from geosearch.image").fetchone()[0].astimezone(UTC)
    last = found(world, Where(since=at))
    assert last != []
    with world.conn.transaction(force_rollback=True):
        world.conn.execute("set local timezone = 'America/Anchorage'")
        assert found(world, Where(since=at)) == last
        assert found(world, Where(since=f"{at:%Y-%m-%d %H:%M:%S}")) == []  # read where the session is: hours later


@pytest.mark.parametrize("near", [None, "POINT(0 0)", "POLYGON((-170 -80,170 -80,170 80,-170 80,-170 -80))"])
def test_among_takes_ids_as_a_set(world, near):
    where = Where(near, 6e6)
    everyone = candidates(world.conn, where)
    rng = np.random.default_rng(6)
    chosen = [int(i) for i in rng.choice(world.ids, 300, replace=False)]
    expected = sorted(set(chosen) & set(everyone))
    assert len(expected) > 10
    for among in (chosen, chosen * 3, [*chosen, -5, 2**62], [None, *chosen, None], chosen[::-1]):
        assert found(world, Where(near, 6e6, among=among)) == expected  # type: ignore[arg-type]
    for nobody in ([], [None], [-1, 0, 2**63 - 1], [-(2**63)]):
        assert found(world, Where(near, 6e6, among=nobody)) == []  # type: ignore[arg-type]
    assert found(world, Where(near, 6e6, "odd", "2003-01-01Z", "2008-01-01Z", chosen)) == sorted(
        candidates(world.conn, Where(near, 6e6, "odd", "2003-01-01Z", "2008-01-01Z", chosen))
    )


def test_an_array_of_two_dimensions_is_the_same_ids(world):
    rows = world.conn.execute(
        "select image_id from geosearch.search('toy', %s, among => array[array[%s, %s], array[%s, %s]]::bigint[])",
        [text(QUERY), *world.ids[:4].tolist()],
    ).fetchall()
    assert sorted(row[0] for row in rows) == world.ids[:4].tolist()


def test_any_condition_on_properties_by_the_documented_pattern(world):
    """`among` takes the ids of whatever condition; the answer is never short of those."""
    for near in (None, "POINT(20 10)"):
        expected = set(by_hand(world, "properties->>'camera' = 'D5'")) & set(candidates(world.conn, Where(near, 9e6)))
        for k in (1, 20, ALL):
            rows = world.conn.execute(
                "select image_id from geosearch.search('toy', %s, st_geogfromtext(%s), 9e6, %s,"
                " among => array(select id from geosearch.image where properties->>'camera' = 'D5'))",
                [text(QUERY), near, k],
            ).fetchall()
            assert len(rows) == min(k, len(expected))
            assert {row[0] for row in rows} <= expected
        assert len(expected) > 20


AREAS = [
    "POLYGON((-100 30,-60 30,-60 60,-100 60,-100 30))",
    "POLYGON((0 0,60 0,60 60,0 60,0 0),(20 20,40 20,40 40,20 40,20 20))",
    "POLYGON((0 0,60 0,60 60,0 60,0 0),(1 1,59 1,59 59,1 59,1 1))",  # nearly all of it is a hole
    "MULTIPOLYGON(((170 -20,180 -20,180 20,170 20,170 -20)),((-180 -20,-170 -20,-170 20,-180 20,-180 -20)))",
    "MULTIPOLYGON(((0 70,20 70,20 80,0 80,0 70)),((100 -40,140 -40,140 -10,100 -40)),((-60 5,-59 5,-59 6,-60 5)))",
    "POLYGON((-180 75,-90 75,0 75,90 75,-180 75))",  # over the pole
    "POLYGON((-180 -60,-120 -60,-60 -60,0 -60,60 -60,120 -60,-180 -60))",
    "POLYGON((10 45,10.001 45,10.001 45.001,10 45.001,10 45))",
    "POLYGON((-90 -60,90 -60,90 60,-90 60,-90 -60))",  # nearly half of the Earth
    "GEOMETRYCOLLECTION(POLYGON((10 10,30 10,30 30,10 30,10 10)),POINT(-60 -60))",
    "LINESTRING(-170 50,170 -50)",
    "MULTIPOINT(0 0,90 0,0 90)",
]  # fmt: skip


@pytest.mark.parametrize("area", AREAS)
def test_an_area_takes_what_meets_it_and_what_lies_within_the_radius_of_it(world, area):
    for radius in (0.0, 1e-3, 0.5, 1.0, 1.5, 1e4, 1e6, 5e6, 1.9e7, 2.1e7):
        for where in (Where(area, radius), Where(area, radius, archive="even", until="2007-01-01Z")):
            assert found(world, where) == sorted(candidates(world.conn, where)), where


def test_radius_0_is_intersection(world):
    """Of the images without a reach: ST_Intersects of geographies, written by hand, says the same."""
    hits = 0
    for area in AREAS[:2] + AREAS[4:8]:
        intersects = "reach_m = 0 and st_intersects(coalesce(footprint, nadir), st_geogfromtext(%(area)s))"
        meets = set(by_hand(world, intersects, {"area": area}))
        without_reach = set(by_hand(world, "reach_m = 0"))
        mine = set(found(world, Where(area, 0.0))) & without_reach
        # ST_Intersects lets 10 micrometres pass for touching.
        assert mine <= meets
        for image_id in meets - mine:
            apart = world.conn.execute(
                "select st_distance(coalesce(footprint, nadir), st_geogfromtext(%s)) from geosearch.image"
                " where id = %s",
                [area, image_id],
            ).fetchone()[0]
            # or an area nearly opposite on the Earth, which PostGIS takes for one around it
            assert apart <= 1e-5, (area, image_id)
        hits += len(mine)
    assert hits > 100


def test_filters_together_are_each_of_them(world):
    rng = np.random.default_rng(8)
    sizes = []
    for _ in range(60):
        lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1))), rng.uniform(-180, 180)
        start = datetime(2001, 1, 1, tzinfo=UTC) + timedelta(days=int(rng.integers(0, 3000)))
        where = Where(
            rng.choice([None, f"POINT({lon:.6f} {lat:.6f})", AREAS[int(rng.integers(len(AREAS)))]]),
            float(10 ** rng.uniform(5, 7.2)),
            rng.choice([None, "odd", "even"]),
            rng.choice([None, start]),
            rng.choice([None, start + timedelta(days=1500)]),
            [int(i) for i in rng.choice(world.ids, 400)] if rng.random() < 0.3 else None,
        )
        expected = sorted(candidates(world.conn, where))
        assert found(world, where) == expected, where
        sizes.append(len(expected))
    assert sum(size > 0 for size in sizes) > 30


def test_candidates_are_those_of_brute_force_with_the_versions_of_their_vectors(world):
    version_of = dict(world.conn.execute("select image_id, version from geosearch.space_toy").fetchall())
    assert len(set(version_of.values())) == len(world.ids)
    for where in (
        Where(),
        Where("POINT(180 0)", 3e6),
        Where("POINT(0 -90)", 0.0),
        Where(AREAS[1], 0.0, "odd"),
        Where("POINT(0 0)", 2.1e7, since="2004-01-01Z"),
        Where("POINT(0 0)", 1e7, among=world.ids[::3].tolist()),
        Where(among=[*world.ids[:5].tolist(), *world.ids[:5].tolist(), None]),
        Where("POINT(-140 -50)", 1.0, among=[]),
    ):
        rows = world.conn.execute(
            f"select image_id, version from geosearch.candidates('toy', {ARGUMENTS})", where.values
        ).fetchall()
        assert sorted(rows) == sorted((i, version_of[i]) for i in candidates(world.conn, where)), where


def test_search_many_is_the_searches_one_by_one(world):
    rng = np.random.default_rng(9)
    queries = [text(query) for query in rng.standard_normal((7, DIMENSION))]
    queries[3] = queries[1]
    for where in (Where(), Where("POINT(100 20)", 4e6, "odd"), Where("POINT(0 -90)", 0.0), Where(among=[-1])):
        for k in (1, 25):
            many = world.conn.execute(
                f"select * from geosearch.search_many('toy', %(queries)s::text[]::vector[], {ARGUMENTS}, k => %(k)s)",
                {**where.values, "queries": queries, "k": k},
            ).fetchall()
            single = [
                (number, *row)
                for number, query in enumerate(queries, 1)
                for row in world.conn.execute(
                    f"select * from geosearch.search('toy', %(query)s, {ARGUMENTS}, k => %(k)s)",
                    {**where.values, "query": query, "k": k},
                ).fetchall()
            ]
            assert many == single


def test_search_many_numbers_queries_from_1_whatever_their_array_does(world):
    rows = world.conn.execute(
        "select distinct query from geosearch.search_many('toy', ('[5:6]={\"[1,0,0,0,0,0,0,0]\",\"[0,1,0,0,0,0,0,0]\"}'"
        "::text::vector[]), k => 2)"
    ).fetchall()
    assert sorted(rows) == [(1,), (2,)]
    assert world.conn.execute("select * from geosearch.search_many('toy', '{}')").fetchall() == []


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ("null", "queries is no list of vectors"),
        ("array[array['[1,2]'], array['[3,4]']]::vector[]", "queries is no list of vectors"),
        ("array[null]::vector[]", "the query vector is null"),
        ("array['[1,0,0,0,0,0,0,0]', '[1,2]']::vector[]", "space toy holds vectors of 8 dimensions, the query has 2"),
        ("array['[0,0,0,0,0,0,0,0]']::vector[]", "zero and has no direction"),
    ],
)
def test_search_many_refuses_what_is_no_list_of_queries(world, queries, message):
    with pytest.raises(psycopg.Error, match=message):
        world.conn.execute(f"select * from geosearch.search_many('toy', {queries})")
