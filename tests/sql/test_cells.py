"""Cells, circles of cells, and caps: against NumPy on the sphere and PostGIS on the spheroid."""

from __future__ import annotations

import numpy as np
import pytest

EARTH_M = 6371008.77
EXTENTS_M = (1.0000001, 100_001, 400_001, 1_200_001, 2_501_000)  # the least extent of classes 1 … 5
CAP = "select x, y, z, cap, core from geosearch.place_cap(st_geogfromtext(%s))"


def directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) unit vectors, even over the sphere."""
    found = rng.standard_normal((count, 3))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles between unit vectors, exact also where they are small or nearly pi."""
    return np.asarray(2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def points(rng: np.random.Generator) -> np.ndarray:
    """(n, 3) unit vectors: random, at the poles, at 180 degrees from both sides, and beside the edges of rows."""
    edges = np.radians(np.arange(-88, 90, 2))  # on the edge itself, two libraries' sines need not agree
    latitudes = np.concatenate([rng.uniform(-1.57, 1.57, 300), edges - 1e-12, edges + 1e-12])
    seam = np.stack([-np.cos(latitudes), rng.choice([0.0, -0.0, 1e-17, -1e-17], len(latitudes)), np.sin(latitudes)], 1)
    axes = [[0, 0, 1], [0, 0, -1], [1, 0, 0], [0, 1, 0], [0, -1, 0], [-1, 0.0, 0], [-1, -0.0, 0]]
    around = directions(rng, 500) * [1e-5, 1e-5, 1]
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    return np.concatenate([directions(rng, 6000), seam, np.array(axes, float), around])


def cells(at: np.ndarray) -> np.ndarray:
    """(n,) numbers of cells of class 0: rows of two degrees, each of round(180 cos latitude) parts."""
    latitude = np.degrees(np.arcsin(np.clip(at[:, 2], -1, 1)))
    row = np.minimum(89, np.floor((latitude + 90) / 2).astype(int))
    parts = np.rint(180 * np.cos(np.radians(2 * row - 89))).astype(int)
    part = np.floor((np.degrees(np.arctan2(at[:, 1], at[:, 0])) + 180) / 360 * parts).astype(int)
    return np.asarray(row * 256 + np.minimum(parts - 1, part))


def test_a_cell_is_the_row_and_part_of_its_place_with_the_class_of_its_extent(world):
    rng = np.random.default_rng(1)
    at = points(rng)
    edges = np.array([e for least in EXTENTS_M for e in (np.nextafter(least, 0), least)])
    extents = np.concatenate([rng.choice(edges, len(at) - 6), [0, 1, 6e6, np.nextafter(6e6, 7e6), 1e9, np.inf]])
    rows = world.conn.execute(
        "select geosearch.cell(t.x, t.y, t.z, t.e) from unnest(%s::float8[], %s::float8[], %s::float8[], %s::float8[])"
        " with ordinality t (x, y, z, e, n) order by n",
        [at[:, 0].tolist(), at[:, 1].tolist(), at[:, 2].tolist(), extents.tolist()],
    ).fetchall()
    classes = np.searchsorted(EXTENTS_M, extents, side="right")
    expected = np.where(extents > 6e6, 6 * 32768, classes * 32768 + cells(at))
    assert [row[0] for row in rows] == expected.tolist()
    assert set(classes) == set(range(6))


def test_cells_have_nearly_one_area_and_the_classes_are_as_wide_as_they_say(world):
    """And no number of a row runs into the next row's, nor a class into the next."""
    rows = np.arange(90)
    parts = np.rint(180 * np.cos(np.radians(2 * rows - 89)))
    areas = (np.sin(np.radians(2 * rows - 88)) - np.sin(np.radians(2 * rows - 90))) / parts
    assert parts.max() <= 256 and 89 * 256 + 256 <= 32768
    assert areas.max() < 1.3 * areas.min()
    widest = [world.conn.execute("select geosearch.class_extent(%s)", [c]).fetchone()[0] for c in range(8)]
    assert widest == [*EXTENTS_M, 6e6, None, None]


def circles(rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """(centre, angle): at poles and 180 degrees and anywhere, from a metre to more than the whole Earth."""
    special = np.array([[0, 0, 1], [0, 0, -1], [-1, 0, 0], [-1, 1e-9, 0], [-1, -1e-9, 0], [1, 0, 0], [0, 1, 0]])
    near_pole = np.array([[1e-7, 0, 1], [-1e-3, 1e-9, -1], [-0.02, 0, 1]])
    near_pole /= np.linalg.norm(near_pole, axis=1, keepdims=True)
    centres = np.concatenate([special, near_pole, directions(rng, 25)])
    fixed = (1.6e-7, 1e-4, 0.02, 0.39, 1.5, 1.5707963267948966, 1.6, 2.5, 3.1, 3.1415926, 3.2, 4.5)
    return [(c, float(a)) for c in centres for a in (*fixed, *10 ** rng.uniform(-6.5, 0.6, 4))]


def within(cell: np.ndarray, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
    """Which of the ascending numbers lie in one of the disjoint ranges."""
    mark = np.zeros(len(cell) + 1, int)
    np.add.at(mark, np.searchsorted(cell, lo, "left"), 1)
    np.add.at(mark, np.searchsorted(cell, hi, "right"), -1)
    return np.cumsum(mark)[:-1] > 0


def test_ranges_hold_every_point_of_a_circle_once_and_inside_ones_nothing_else(world):
    """No point within far_rad is missed, none is met twice, and who is in an inside range lies within near_rad."""
    rng = np.random.default_rng(2)
    at = points(rng)
    # Corners of all cells: only if these lie within does the whole cell. Just inside each, so that they belong to it.
    rows = np.arange(90)
    parts = np.rint(180 * np.cos(np.radians(2 * rows - 89))).astype(int)
    corners = np.array([
        (lat, (part + side) * 360 / n - 180)
        for row, n in zip(rows.tolist(), parts.tolist(), strict=True)
        for lat in (2 * row - 90 + 1e-9, 2 * row - 88 - 1e-9)
        for part in range(n)
        for side in (1e-9, 0.5, 1 - 1e-9)
    ])  # fmt: skip
    lat, lon = np.radians(corners).T
    at = np.concatenate([at, np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)])
    cell = cells(at)
    order = np.argsort(cell)
    at, cell = at[order], cell[order]
    class_ = 3
    inside_total = border_total = 0
    for centre, far in circles(rng):
        near = float(rng.choice([far * 0.99, far - 0.1, -0.05, 0.0]))
        found = world.conn.execute(
            "select * from geosearch.cell_ranges(%s, %s, %s, %s, %s, %s)", [*map(float, centre), near, far, class_]
        ).fetchone()
        inside_lo, inside_hi, border_lo, border_hi = (np.array(value or [], int) - class_ * 32768 for value in found)
        lo, hi = np.concatenate([inside_lo, border_lo]), np.concatenate([inside_hi, border_hi])
        what = (centre, near, far)
        by_lo = np.argsort(lo)
        assert (lo <= hi).all() and (lo // 256 == hi // 256).all(), what
        assert (lo >= 0).all() and (hi % 256 < parts[hi // 256]).all(), what
        assert (lo[by_lo][1:] > hi[by_lo][:-1]).all(), what
        angle = angles(at, centre)

        inside, border = within(cell, inside_lo, inside_hi), within(cell, border_lo, border_hi)
        assert (angle[inside] <= near + 1.2e-7).all(), what  # 11 cm: a centre at a pole is taken a hair beside it
        assert (inside | border)[angle <= far - 1.2e-7].all(), what
        inside_total += inside.sum()
        border_total += border.sum()
    assert inside_total > 1e6 and border_total > 1e6  # neither half of the test is empty


def ring(*corners: tuple[float, float]) -> str:
    return "((" + ",".join(f"{lon:.9f} {lat:.9f}" for lon, lat in (*corners, corners[0])) + "))"


def places(rng: np.random.Generator) -> list[str]:
    """Polygons of every size and form: random, in parts across 180 degrees, over poles, belts, nearly everything."""
    found = ["POINT(7 46)", "POINT(-180 0)", "POINT(33 90)", "MULTIPOINT(0 0,10 0,10 10)", "LINESTRING(170 60,-170 61)"]
    for _ in range(60):  # star-shaped about a random point
        lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1))), rng.uniform(-180, 180)
        size, corners = 10 ** rng.uniform(-4, 1.4), int(rng.integers(3, 12))
        turn = np.sort(rng.uniform(0, 360, corners)) + np.arange(corners) * 1e-3
        radius = size * rng.uniform(0.3, 1, corners)
        lats = np.clip(lat + radius * np.sin(np.radians(turn)), -90, 90)
        lons = lon + radius * np.cos(np.radians(turn)) / max(0.05, np.cos(np.radians(lat)))
        if lons.min() < -180 or lons.max() > 180:
            continue
        found.append("POLYGON" + ring(*zip(lons, lats, strict=True)))
    for south, height in ((-80.0, 10.0), (-5.0, 3.0), (60.0, 25.0)):
        halves = (
            ring((170, south), (180, south), (180, south + height), (170, south + height)),
            ring((-180, south), (-175, south), (-175, south + height), (-180, south + height)),
        )
        found.append(f"MULTIPOLYGON({','.join(halves)})")
    found += [  # over a pole, the widest nearly a hemisphere
        "POLYGON" + ring(*((float(lon), float(latitude)) for lon in range(-180, 180, 15)))
        for latitude in (80, -80, 30, -5, 1)
    ]
    hole = "(0 2,8 2,8 8,2 8,0 2)"
    found.append(f"POLYGON((-10 -10,10 -10,10 10,-10 10,-10 -10),{hole})")  # its middle lies in the hole
    found.append("POLYGON((-90 -60,90 -60,90 60,-90 60,-90 -60))")
    found.append("POLYGON((-120 -70,120 -70,120 70,-120 70,-120 -70))")
    belt = [ring((w, -10), (w + 60, -10), (w + 60, 10), (w, 10)) for w in range(-180, 180, 60)]
    found.append(f"MULTIPOLYGON({','.join(belt)})")  # all round the Earth: no direction is its middle
    found.append(
        f"MULTIPOLYGON({ring((0, 0), (1, 0), (1, 1), (0, 1))},{ring((179, -1), (180, -1), (180, 0), (179, 0))})"
    )
    found.append(
        f"MULTIPOLYGON({ring((0, 85), (1, 85), (1, 86), (0, 86))},{ring((0, -86), (1, -86), (1, -85), (0, -85))})"
    )
    found.append("POLYGON" + ring((0, 0), (10, 0), (10, 1), (1, 1), (1, 9), (10, 9), (10, 10), (0, 10)))  # a C
    return found


def test_a_cap_is_a_point_of_the_place_and_an_angle_that_holds_all_of_it(world):
    """Its edges are densified along great circles, its area sampled; distances are PostGIS's."""
    rng = np.random.default_rng(3)
    bounded = 0
    for place in places(rng):
        x, y, z, cap, core = world.conn.execute(CAP, [place]).fetchone()
        assert np.hypot(np.hypot(x, y), z) == pytest.approx(1, abs=1e-14), place
        away = world.conn.execute(
            "select st_distance(st_makepoint(degrees(atan2(%s::float8, %s::float8)),"
            " degrees(asin(%s::float8)))::geography, st_geogfromtext(%s))",
            [y, x, z, place],
        ).fetchone()[0]
        assert away < 0.3, place  # the asine of a float8 near a pole knows no better
        assert 0 <= core <= cap and (core == 0 or "POLYGON" in place), place
        if "POINT" in place and "MULTI" not in place:
            assert cap == 0
            continue
        # Corners, edges every 50 km along the great circle, and points within.
        border = world.conn.execute(
            "select st_x(d.geom), st_y(d.geom)"
            " from st_dumppoints(st_segmentize(st_geogfromtext(%s), 50000)::geometry) d",
            [place],
        ).fetchall()
        lon, lat = np.radians(np.array(border)).T
        at = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)
        widest = angles(at, np.array([x, y, z])).max()
        assert widest <= cap, (place, widest, cap)
        if cap < 3:
            bounded += 1
            assert cap < 1.57 and cap <= angles(at, np.array([x, y, z])).max() + 1e-6, place
            world_points = directions(rng, 300)
            lons = np.degrees(np.arctan2(world_points[:, 1], world_points[:, 0]))
            lats = np.degrees(np.arcsin(world_points[:, 2]))
            beyond = angles(world_points, np.array([x, y, z])) > cap
            inside = world.conn.execute(
                "select st_distance(st_makepoint(t.lon, t.lat)::geography, st_geogfromtext(%s)) = 0"
                " from unnest(%s::float8[], %s::float8[]) with ordinality t (lon, lat, n) order by n",
                [place, lons.tolist(), lats.tolist()],
            ).fetchall()
            assert not (beyond & np.array([row[0] for row in inside])).any(), place
    assert bounded > 50


def test_a_cap_and_its_reach_bound_the_distances_that_searches_compare(world):
    """What the searches build on: within the cap's angle on the sphere, 0.9943 to 1.0057 of it on the spheroid."""
    rng = np.random.default_rng(4)
    at = directions(rng, 300)
    for place in places(rng)[::3]:
        x, y, z, cap, core = world.conn.execute(CAP, [place]).fetchone()
        lons, lats = np.degrees(np.arctan2(at[:, 1], at[:, 0])), np.degrees(np.arcsin(at[:, 2]))
        rows = world.conn.execute(
            "select st_distance(st_makepoint(t.lon, t.lat)::geography, st_geogfromtext(%s))"
            " from unnest(%s::float8[], %s::float8[]) with ordinality t (lon, lat, n) order by n",
            [place, lons.tolist(), lats.tolist()],
        ).fetchall()
        distance = np.array([row[0] for row in rows])
        angle = angles(at, np.array([x, y, z]))
        assert (distance <= angle * EARTH_M * 1.0057 + 1).all(), place
        assert (distance <= np.maximum(0, angle - core) * EARTH_M * 1.0057 + 1).all(), place
        assert (distance >= (angle - cap) * EARTH_M * 0.9943 - 1).all(), place


def test_all_within_the_core_of_a_place_belongs_to_it(world):
    """Also of areas with holes, cut at 180 degrees, over a pole; by PostGIS without its tree, which errs opposite."""
    rng = np.random.default_rng(5)
    filled = 0
    for place in places(rng):
        *centre, _, core = world.conn.execute(CAP, [place]).fetchone()
        if core == 0:
            continue
        filled += 1
        aside = np.cross(centre, directions(rng, 80))
        aside /= np.linalg.norm(aside, axis=1, keepdims=True)
        turn = core * np.sqrt(rng.uniform(0, 1, 80))
        turn[:40] = core
        at = np.cos(turn)[:, None] * centre + np.sin(turn)[:, None] * aside
        rows = world.conn.execute(
            "select _st_distanceuncached(st_makepoint(t.lon, t.lat)::geography, st_geogfromtext(%s))"
            " from unnest(%s::float8[], %s::float8[]) t (lon, lat)",
            [
                place,
                np.degrees(np.arctan2(at[:, 1], at[:, 0])).tolist(),
                np.degrees(np.arcsin(np.clip(at[:, 2], -1, 1))).tolist(),
            ],
        ).fetchall()
        assert max(row[0] for row in rows) == 0, place
    assert filled > 40
