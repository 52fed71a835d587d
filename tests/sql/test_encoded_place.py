"""The place of an image for a model that reads places: its nadir, else the middle of its footprint, else none."""

from __future__ import annotations

import pytest
from shapely.geometry import MultiPolygon, Polygon

from geosearch.catalog.footprints import box
from geosearch.catalog.problems import FUTURE, IMPOSSIBLE_NADIR
from geosearch.geometry import distance_m

TILE = box(9, 44, 11, 46).wkt
NADIR = "POINT(30 10)"


def place(conn, nadir=None, footprint=None, problems=()):
    row = conn.execute(
        "select st_y(p::geometry), st_x(p::geometry)"
        " from geosearch.encoded_place(%s::geography, %s::geography, %s::text[]) p",
        [nadir, footprint, None if problems is None else list(problems)],
    ).fetchone()
    return None if row[0] is None else row


@pytest.mark.parametrize("problems", [(), (FUTURE,), None])
def test_the_nadir_comes_before_the_footprint(conn, problems):
    assert place(conn, NADIR, TILE, problems) == (10, 30)
    assert place(conn, NADIR, None, problems) == (10, 30)


def test_a_nadir_that_cannot_be_is_not_used(conn):
    lat, lon = place(conn, NADIR, TILE, [FUTURE, IMPOSSIBLE_NADIR])
    assert distance_m(lat, lon, 45, 10) < 2000
    assert place(conn, NADIR, None, [IMPOSSIBLE_NADIR]) is None


def test_without_anything_it_is_unknown(conn):
    assert place(conn) is None
    assert conn.execute("select geosearch.encoded_place(null, null)").fetchone() == (None,)


@pytest.mark.parametrize(
    ("west", "south", "east", "north", "lat", "lon", "within_m"),
    [
        (9, -1, 11, 1, 0, 10, 1),
        (178, -1, -178, 1, 0, 180, 1),  # two pieces, one on either side
        (-180, 80, 180, 90, 90, 0, 60_000),
        (-180, -90, 180, -80, -90, 0, 60_000),
    ],
)
def test_the_middle_is_right_across_the_antimeridian_and_at_the_poles(
    conn, west, south, east, north, lat, lon, within_m
):
    found = place(conn, None, box(west, south, east, north).wkt)
    assert distance_m(*found, lat, lon) < within_m


def test_the_point_that_closes_a_ring_does_not_count_twice(conn):
    square = MultiPolygon([Polygon([(-1, -1), (1, -1), (1, 1), (-1, 1)])]).wkt
    assert distance_m(*place(conn, None, square), 0, 0) < 1e-6


def test_corners_all_round_the_earth_have_no_middle(conn):
    whole = "MULTIPOLYGON(((0 0,90 0,180 0,-90 0,0 0)))"
    assert place(conn, None, whole) is None
