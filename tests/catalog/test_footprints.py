"""Footprints from boxes and polygons, measured by PostGIS against formulae of the sphere."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
import shapely
from catalog_helpers import areas, distances
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Polygon

from geosearch.catalog.footprints import PIECE_DEG, box, boxes, polygon
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M

WORLD = (-180.0, -90.0, 180.0, 90.0)
CAP = (-180.0, 60.0, 180.0, 90.0)
WIDE = (-120.0, 10.0, 120.0, 50.0)  # 240°
BELT = (0.0, 60.0, 60.0, 62.0)  # 60° × 2° at 60 N
FIXTURES = [
    WORLD,
    CAP,
    WIDE,
    BELT,
    (170.0, -10.0, -170.0, 10.0),
    (-180.0, -90.0, 180.0, -70.0),
    (100.0, 0.0, 340.0, 9.0),
]


def exact_area(west: float, south: float, east: float, north: float) -> float:
    """R² Δλ (sin φ₂ − sin φ₁)."""
    width = np.radians(east - west if east > west else east - west + 360)
    return float(EARTH_RADIUS_M**2 * width * (np.sin(np.radians(north)) - np.sin(np.radians(south))))


@pytest.mark.parametrize("sides", FIXTURES)
def test_the_area_of_a_box_is_that_of_the_sphere(postgis: psycopg.Connection, sides: tuple[float, ...]) -> None:
    assert areas(postgis, [box(*sides)])[0] == pytest.approx(exact_area(*sides), rel=2e-4)


def test_without_cutting_and_densifying_the_fixtures_go_wrong(postgis: psycopg.Connection) -> None:
    """Else these fixtures would prove nothing."""
    naive = areas(postgis, [MultiPolygon([shapely.box(*sides)]) for sides in (CAP, WIDE, BELT)])
    exact = [exact_area(*sides) for sides in (CAP, WIDE, BELT)]
    assert (np.abs(naive / exact - 1) > 0.1).all()
    with pytest.raises(psycopg.Error):
        areas(postgis, [MultiPolygon([shapely.box(*WORLD)])])


@pytest.mark.parametrize(
    ("sides", "lat", "lon", "inside"),
    [
        (WORLD, 0, 0, True), (WORLD, 89.9, 10, True), (WORLD, -45, 180, True), (WORLD, -90, 0, True),
        (CAP, 90, 0, True), (CAP, 61, 123, True), (CAP, 59, 123, False),
        (WIDE, 30, 0, True), (WIDE, 30, 119, True), (WIDE, 30, -119, True), (WIDE, 30, 180, False),
        (WIDE, 55, 0, False),
        (BELT, 60.5, 30, True), (BELT, 61.9, 30, True), (BELT, 63, 30, False), (BELT, 59.5, 30, False),
    ],
)  # fmt: skip
def test_points_lie_inside_and_outside_as_the_box_says(
    postgis: psycopg.Connection, sides: tuple[float, ...], lat: float, lon: float, inside: bool
) -> None:
    assert bool(distances(postgis, [box(*sides)], [lat], [lon])[0] == 0) is inside


def test_random_boxes_hold_the_points_that_they_hold(postgis: psycopg.Connection) -> None:
    rng = np.random.default_rng(7)
    n = 400
    south = rng.uniform(-90, 88, n)
    north = np.minimum(90, south + rng.uniform(0.5, 60, n))
    west, width = rng.uniform(-180, 180, n), rng.uniform(0.5, 359, n)
    east = (west + width + 180) % 360 - 180
    shapes = [box(*sides) for sides in zip(west, south, east, north, strict=True)]
    # Well inside: a tenth of the sides away from them, more than an edge of 1° bends.
    lat = south + (north - south) * rng.uniform(0.1, 0.9, n)
    lon = (west + width * rng.uniform(0.1, 0.9, n) + 180) % 360 - 180
    assert (distances(postgis, shapes, lat, lon) == 0).all()
    beyond = (west + width + (360 - width) * rng.uniform(0.1, 0.9, n) + 180) % 360 - 180
    assert (distances(postgis, shapes, lat, beyond) > 0).all()
    exact = [exact_area(*sides) for sides in zip(west, south, east, north, strict=True)]
    assert areas(postgis, shapes) == pytest.approx(np.array(exact), rel=1e-3)


@settings(deadline=None)
@given(west=st.floats(-360, 0), width=st.floats(0.01, 360), south=st.floats(-90, 89.9), height=st.floats(0.01, 180))
def test_pieces_are_small_dense_and_within_the_world(west: float, width: float, south: float, height: float) -> None:
    north = min(90.0, south + height)
    made = box(west, south, west + width, north)
    for piece in made.geoms:
        low_x, low_y, high_x, high_y = piece.bounds
        assert -180 <= low_x < high_x <= 180
        assert south <= low_y < high_y <= north
        assert max(high_x - low_x, high_y - low_y) <= PIECE_DEG + 1e-9
        xy = shapely.get_coordinates(piece)
        longest = np.abs(np.diff(xy, axis=0)).max(axis=1)
        at_pole = (np.abs(xy[:-1, 1]) == 90) & (np.abs(xy[1:, 1]) == 90)
        assert (longest[~at_pole] <= 1 + 1e-9).all()
    flat = sum(piece.area for piece in made.geoms)
    assert flat == pytest.approx(width * (north - south), rel=1e-6)


def test_boxes_of_a_table_are_the_same_as_one_by_one() -> None:
    sides = np.array([*FIXTURES, (1, 2, 3, 4), (5, 5, 5, 6), (0, 0, 10, 91), (np.nan, 0, 1, 1)], float)
    made, refused = boxes(*sides.T)
    assert sorted(refused) == [8, 9, 10]
    for row, shape in zip(sides[:8], made[:8], strict=True):
        assert shape.normalize().equals_exact(box(*row).normalize(), 1e-12)


@pytest.mark.parametrize("sides", [(0, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 91), (-400, 0, 1, 1), (0, np.inf, 1, 1)])
def test_a_box_that_is_none_is_refused(sides: tuple[float, ...]) -> None:
    with pytest.raises(InputError):
        box(*sides)


@pytest.mark.parametrize(
    "ring",
    [
        [(170, 60), (-170, 60), (-170, 70), (170, 70)],  # west > east
        [(170, 60), (170, 70), (-170, 70), (-170, 60)],  # the same, clockwise
        [(170, 60), (190, 60), (190, 70), (170, 70)],  # running on
        [(-190, 60), (-170, 60), (-170, 70), (-190, 70)],
    ],
)
def test_a_polygon_across_180_is_the_box_however_it_is_written(postgis: psycopg.Connection, ring: list) -> None:
    made = polygon(Polygon(ring))
    assert not made.self_crossing
    assert len(made.geometry.geoms) == 2
    assert made.geometry.is_valid
    assert made.geometry.equals(MultiPolygon([shapely.box(170, 60, 180, 70), shapely.box(-180, 60, -170, 70)]))
    assert areas(postgis, [made.geometry])[0] == pytest.approx(exact_area(170, 60, -170, 70), rel=2e-4)


@pytest.mark.parametrize("pole", [1, -1])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_ring_round_a_pole_is_its_cap(postgis: psycopg.Connection, pole: int, turn: int) -> None:
    ring = [(lon, 70 * pole) for lon in (-150, -60, 30, 120)][::turn]
    made = polygon(Polygon(ring))
    assert not made.self_crossing
    sides = (-180, 70, 180, 90) if pole > 0 else (-180, -90, 180, -70)
    assert areas(postgis, [made.geometry])[0] == pytest.approx(exact_area(*sides), rel=2e-4)
    assert distances(postgis, [made.geometry] * 2, [90 * pole, 60 * pole], [0, 50]).tolist() == pytest.approx(
        [0, 1.11e6], rel=0.01
    )


def test_a_wide_polygon_running_on_keeps_its_width(postgis: psycopg.Connection) -> None:
    ring = [(100, 0), (220, 0), (340, 0), (340, 10), (220, 10), (100, 10)]
    made = polygon(Polygon(ring)).geometry
    assert areas(postgis, [made])[0] == pytest.approx(exact_area(100, 0, -20, 10), rel=2e-4)


@pytest.mark.parametrize("sides", [(-180, -90, 180, 90), (-180, 0, 180, 90), (-180, -90, 180, 49), (0, -90, 180, 90)])
def test_outlines_of_half_the_earth_and_more_hold_what_lies_in_them(
    postgis: psycopg.Connection, sides: tuple[float, ...]
) -> None:
    """Cut into eighths of the globe they did not: PostGIS took hundreds of 2 000 places wrongly."""
    made = polygon(shapely.box(*sides), crossing=False).geometry
    rng = np.random.default_rng(7)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 2000))), rng.uniform(-180, 180, 2000)
    inside = (lon > sides[0]) & (lon < sides[2]) & (lat > sides[1]) & (lat < sides[3])
    # One shape for all rows, as in a search: PostGIS then looks by a tree that it keeps.
    rows = postgis.execute(
        "select st_distance(st_makepoint(p.lon, p.lat)::geography, s.shape) = 0"
        " from (select st_geomfromwkb(%s, 4326)::geography shape offset 0) s,"
        " unnest(%s::float8[], %s::float8[]) with ordinality p (lat, lon, n) order by p.n",
        [shapely.to_wkb(made), lat.tolist(), lon.tolist()],
    ).fetchall()
    assert (np.array(rows)[:, 0] == inside).all()


def test_a_wide_rectangle_is_literal_when_told_so() -> None:
    ring = Polygon([(-120, 0), (120, 0), (120, 10), (-120, 10)])
    assert polygon(ring, crossing=False).geometry.area == pytest.approx(2400)
    assert polygon(ring).geometry.area == pytest.approx(1200)


@pytest.mark.parametrize(
    "ring",
    [
        [(-176.56850078123693, -34.58), (169.72369311480566, -49.07), (-178.71977509524697, -53.29)],
        [(-179.80600660866787, -57.7), (179.62408108673048, -38.6), (179.2778087800396, -45.2)],
    ],
)
def test_a_triangle_across_180_does_not_cross_itself(ring: list) -> None:
    """Unrolled, its ends differ by rounding."""
    for turned in (ring, ring[1:] + ring[:1], ring[::-1]):
        assert not polygon(Polygon(turned)).self_crossing


def test_self_crossing_is_told_and_mended() -> None:
    made = polygon(Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]))
    assert made.self_crossing
    assert made.geometry.is_valid
    assert made.geometry.area == pytest.approx(2)
    over = polygon(Polygon([(179, 0), (-179, 2), (-179, 0), (179, 2)]))
    assert over.self_crossing


def test_holes_stay() -> None:
    ring = Polygon([(170, 0), (-170, 0), (-170, 20), (170, 20)], [[(175, 5), (178, 5), (178, 9), (175, 9)]])
    assert polygon(ring).geometry.area == pytest.approx(400 - 12)


def test_a_line_folded_back_has_no_footprint() -> None:
    assert polygon(Polygon([(0, 0), (1, 1), (2, 2)])).geometry is None
    assert polygon(Polygon()).geometry is None


@pytest.mark.parametrize("ring", [[(0, 0), (1, 91), (2, 0)], [(0, 0), (361, 1), (2, 0)], [(0, 0), (np.inf, 1), (2, 0)]])
def test_a_polygon_off_the_earth_is_refused(ring: list) -> None:
    with pytest.raises(InputError):
        polygon(Polygon(ring))


@settings(deadline=None)
@given(lon=st.floats(-180, 180), lat=st.floats(-80, 80), size=st.floats(0.1, 8), seed=st.integers(0, 1000))
def test_any_small_outline_keeps_its_flat_area_and_becomes_valid(
    lon: float, lat: float, size: float, seed: int
) -> None:
    angles = np.sort(np.random.default_rng(seed).uniform(0, 2 * np.pi, 7))
    flat = np.column_stack([lon + size * np.cos(angles), lat + size * np.sin(angles)])
    jumped = flat.copy()
    jumped[:, 0] = (flat[:, 0] + 180) % 360 - 180
    expected = Polygon(flat).area
    for ring in (flat, jumped, jumped[::-1]):
        made = polygon(Polygon(ring)).geometry
        west, south, east, north = made.bounds
        assert west >= -180 and east <= 180 and south >= -90 and north <= 90
        assert made.is_valid
        assert made.area == pytest.approx(expected, rel=1e-5, abs=1e-6)
