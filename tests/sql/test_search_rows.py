"""Which images a search returns: those of a brute-force comparison of distances, row for row."""

from __future__ import annotations

import numpy as np
import pytest

QUERY = "[1,2,3,4,5,6,7,8]"
NEARS = 600
RADII = (0, 1e-3, 1, 1e3, 2.5e6, 10_001_966, 20_003_931, 20_003_932, 3e7, 1e300)

BRUTE = (
    "select i.id from geosearch.image i join geosearch.space_toy s on s.image_id = i.id"
    " where st_distance(coalesce(i.footprint, i.nadir), %(near)s::geography) <= %(radius)s + i.reach_m"
)
SEARCH = (
    "select image_id from geosearch.search('toy', %(query)s, st_geogfromtext(%(near)s), %(radius)s::float8, 1000000)"
)


def cases(rng: np.random.Generator) -> list[tuple[str, float]]:
    """Circles: random ones, and those at the poles, at 180 degrees, of radius 0 and of more than half the Earth."""
    found = []
    for z, lon in zip(rng.uniform(-1, 1, NEARS), rng.uniform(-180, 180, NEARS), strict=True):
        radius = float(10 ** rng.uniform(-3, 7.4))
        found.append((f"POINT({lon:.12g} {np.degrees(np.arcsin(z)):.12g})", radius))
    for lat in (-90, -89.9999999, -60, 0, 1e-9, 45, 89.9999999, 90):
        for lon in (-180, -179.9999999, 0, 90, 180):
            found += [(f"POINT({lon} {lat})", float(radius)) for radius in RADII]
    for shape in (
        "LINESTRING(170 10,-170 -10)",
        "LINESTRING(0 85,180 85)",
        "POLYGON((-100 30,-90 30,-90 40,-100 40,-100 30))",
        "MULTIPOINT(0 0,179 60,-120 -45)",
    ):
        found += [(shape, float(radius)) for radius in (0, 1e5, 2.5e6, 1e7)]
    return found


def test_the_rows_of_a_search_are_those_of_st_distance_without_an_index(world):
    rng = np.random.default_rng(7)
    hits, full = 0, 0
    world.conn.execute("set enable_indexscan = off; set enable_bitmapscan = off")
    try:
        truth = {
            case: {row[0] for row in world.conn.execute(BRUTE, {"near": case[0], "radius": case[1]}).fetchall()}
            for case in cases(rng)
        }
    finally:
        world.conn.execute("reset enable_indexscan; reset enable_bitmapscan")
    for (near, radius), expected in truth.items():
        found = world.conn.execute(SEARCH, {"query": QUERY, "near": near, "radius": radius}).fetchall()
        assert len(found) == len({row[0] for row in found})
        assert {row[0] for row in found} == expected, (near, radius)
        hits += bool(expected)
        full += len(expected) == len(world.ids) - 3  # all but those without a place
    # The test has teeth only where some circles hold something, some nothing and some everything.
    assert 100 < hits < len(truth)
    assert full > 50


def test_a_radius_that_equals_a_distance_takes_the_image(world):
    """At the border itself: the radius is exactly the distance, and one unit in the last place less."""
    rows = world.conn.execute(
        "select i.id, st_distance(coalesce(i.footprint, i.nadir), st_makepoint(12, 34)::geography) as d"
        " from geosearch.image i where i.reach_m = 0 and coalesce(i.footprint, i.nadir) is not null order by i.id"
    ).fetchall()
    borders = [(i, d) for i, d in rows if d is not None][::3]
    assert len(borders) > 100
    for image_id, distance in borders:
        for radius, inside in ((distance, True), (float(np.nextafter(distance, 0)), False)):
            found = world.conn.execute(SEARCH, {"query": QUERY, "near": "POINT(12 34)", "radius": radius}).fetchall()
            assert ((image_id,) in found) is inside, (image_id, distance, radius)


@pytest.mark.parametrize("pole", [-90, 90])
def test_radius_0_at_a_pole_finds_every_image_at_that_pole(world, pole):
    """PostGIS's own ST_DWithin loses rows here when it uses its index."""
    names = world.conn.execute(
        "select count(*) from geosearch.image where st_y(nadir::geometry) = %s and reach_m = 0", [pole]
    ).fetchone()
    assert names[0] == 8
    for lon in (-180, -90, 0, 1e-9, 77, 180):
        found = world.conn.execute(SEARCH, {"query": QUERY, "near": f"POINT({lon} {pole})", "radius": 0.0}).fetchall()
        assert len(found) >= 8 + 1, lon  # and the footprint over the pole


def test_without_near_every_image_is_a_candidate_also_one_without_a_place(world):
    rows = world.conn.execute(
        "select image_id, distance_m, geom is null from geosearch.search('toy', %s, k => 100000)", [QUERY]
    ).fetchall()
    assert {row[0] for row in rows} == set(world.ids.tolist())
    assert {row[1] for row in rows} == {None}
    assert sum(row[2] for row in rows) == 3


def test_an_archive_narrows_a_search_with_and_without_a_place(world):
    for near in (None, "POINT(0 0)"):
        rows = world.conn.execute(
            "select a.name from geosearch.search('toy', %s, st_geogfromtext(%s), 2e7, 100000, 'odd') f"
            " join geosearch.image i on i.id = f.image_id join geosearch.archive a on a.id = i.archive_id",
            [QUERY, near],
        ).fetchall()
        assert len(rows) > 300
        assert {row[0] for row in rows} == {"odd"}


def test_columns_say_where_the_image_lies(world):
    """distance_m and geom are those of the footprint where there is one, of the nadir elsewhere."""
    rows = world.conn.execute(
        "select f.distance_m, st_distance(coalesce(i.footprint, i.nadir), 'POINT(-150 5)'::geography), f.name, i.name,"
        " st_equals(f.geom, coalesce(i.footprint::geometry, i.nadir::geometry)), st_srid(f.geom)"
        " from geosearch.search('toy', %s, 'POINT(-150 5)'::geography, 9e6, 50) f"
        " join geosearch.image i on i.id = f.image_id",
        [QUERY],
    ).fetchall()
    assert len(rows) == 50
    for distance, expected, name, expected_name, same, srid in rows:
        assert (distance, name, same, srid) == (expected, expected_name, True, 4326)


def test_the_answer_does_not_depend_on_the_callers_search_path_or_planner(world):
    """Whatever the session has set, and with parallel workers forced."""
    before = world.conn.execute(SEARCH, {"query": QUERY, "near": "POINT(10 45)", "radius": 5e6}).fetchall()
    schema = world.conn.execute("select n.nspname from pg_type t join pg_namespace n on n.oid = t.typnamespace"
                                " where t.typname = 'geography'").fetchone()[0]  # fmt: skip
    settings = (
        "set local search_path = pg_catalog; set local jit = on; set local jit_above_cost = 0;"
        "set local debug_parallel_query = on;"
    )
    if world.conn.info.server_version < 160000:
        settings = settings.replace("debug_parallel_query", "force_parallel_mode")
    with world.conn.transaction(force_rollback=True):
        world.conn.execute(settings)
        statement = SEARCH.replace("st_geogfromtext", f"{schema}.st_geogfromtext")
        after = world.conn.execute(statement, {"query": QUERY, "near": "POINT(10 45)", "radius": 5e6}).fetchall()
    assert before == after
    assert len(before) > 20


def test_vectors_go_with_the_archive_of_their_images(world):
    with world.conn.transaction(force_rollback=True):
        world.conn.execute("delete from geosearch.archive where name = 'odd'")
        rows = world.conn.execute("select image_id from geosearch.search('toy', %s, k => 100000)", [QUERY]).fetchall()
        assert len(rows) == (len(world.ids) + 1) // 2
