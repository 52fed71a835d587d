"""Middles of footprints: by symmetry, by integration, across the antimeridian, over a pole."""

import numpy as np
import pytest

from geosearch.geometry import lat_lon, unit_vectors
from geosearch.search.shape import middle, rings


def polygon(*corners):
    return {"type": "Polygon", "coordinates": [[*map(list, corners), list(corners[0])]]}


def test_the_middle_of_a_point():
    assert middle({"type": "Point", "coordinates": [10.5, -3]}) == (-3, 10.5)
    assert middle({"type": "Point", "coordinates": []}) is None
    assert middle({"type": "MultiPolygon", "coordinates": []}) is None


def test_two_pieces_at_the_antimeridian_have_one_middle():
    east = [[[179, -17], [180, -17], [180, -16], [179, -16], [179, -17]]]
    west = [[[-180, -17], [-179, -17], [-179, -16], [-180, -16], [-180, -17]]]
    lat, lon = middle({"type": "MultiPolygon", "coordinates": [east, west]})
    assert lat == pytest.approx(-16.5, abs=0.01)
    assert abs(lon) == pytest.approx(180, abs=1e-9)


def test_a_cap_over_the_pole():
    lat, _ = middle(polygon(*((lon, 70) for lon in range(-180, 180, 5))))
    assert lat == pytest.approx(90, abs=1e-9)


def test_neither_direction_nor_density_of_a_ring_matters():
    corners = [(5, 10), (25, 12), (22, 30), (4, 28)]
    expected = middle(polygon(*corners))
    assert middle(polygon(*corners[::-1])) == pytest.approx(expected, abs=1e-9)
    v = unit_vectors(*np.array(corners, float).T[::-1])
    # The first side drawn with fifty points of the same great circle.
    steps = np.linspace(0, 1, 50)[1:-1, None]
    lat, lon = lat_lon(v[0] * (1 - steps) + v[1] * steps)
    dense = [corners[0], *zip(lon, lat, strict=True), *corners[1:]]
    assert middle(polygon(*dense)) == pytest.approx(expected, abs=1e-9)


def test_the_middle_is_that_of_the_area():
    # Against a sum over random places of the sphere inside a spherical quadrilateral.
    corners = [(-20, -10), (40, 5), (30, 50), (-10, 40)]
    v = unit_vectors(*np.array(corners, float).T[::-1])
    points = np.random.default_rng(0).normal(size=(400_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    inside = np.all([points @ np.cross(a, b) > 0 for a, b in zip(v, np.roll(v, -1, 0), strict=True)], axis=0)
    lat, lon = lat_lon(points[inside].mean(0))
    assert middle(polygon(*corners)) == pytest.approx((lat, lon), abs=0.2)


def test_a_line_that_claims_to_be_an_area_has_a_middle():
    assert middle(polygon((0, 0), (10, 0))) == pytest.approx((0, 5), abs=1e-9)


def test_rings_have_two_numbers_a_corner():
    (ring,) = rings({"type": "Polygon", "coordinates": [[[0, 0, 99], [1, 0, 99], [1, 1, 99], [0, 0, 99]]]})
    assert ring.shape == (4, 2)
