"""Footprints of photographs from four corners."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from catalog_helpers import areas, distances

from geosearch.catalog.corners import corners
from geosearch.catalog.footprints import centres
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, angle, destination, unit_vectors


def quads_round(lat: np.ndarray, lon: np.ndarray, km: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convex quadrilaterals round places, corners clockwise."""
    bearing = rng.uniform(0, 360, (len(lat), 1)) + np.array([0, 90, 180, 270]) + rng.uniform(-30, 30, (len(lat), 4))
    away = km[:, None] * 1000 * rng.uniform(0.8, 1, (len(lat), 4))
    y, x = destination(np.repeat(lat[:, None], 4, 1), np.repeat(lon[:, None], 4, 1), bearing, away)
    return np.stack([y, x], axis=-1)


def spherical_area(quads: np.ndarray) -> np.ndarray:
    """Sum of the spherical excesses of two triangles (l'Huilier, by the solid angle's formula)."""
    v = unit_vectors(quads[..., 0], quads[..., 1])
    total = np.zeros(len(v))
    for a, b, c in ((0, 1, 2), (0, 2, 3)):
        p, q, r = v[:, a], v[:, b], v[:, c]
        triple = np.abs(np.einsum("ni,ni->n", p, np.cross(q, r)))
        scalar = 1 + (p * q).sum(1) + (q * r).sum(1) + (r * p).sum(1)
        total += 2 * np.arctan2(triple, scalar)
    return total * EARTH_RADIUS_M**2


@pytest.mark.parametrize("where", ["anywhere", "at 180", "at the poles"])
def test_area_and_inside_are_those_of_the_sphere(postgis: psycopg.Connection, where: str) -> None:
    rng = np.random.default_rng(3)
    n = 40 if where == "at the poles" else 400  # those at the poles take the slow way
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    if where == "at 180":
        lon = (180 + rng.uniform(-4, 4, n) + 180) % 360 - 180
        lat = np.clip(lat, -80, 80)
    if where == "at the poles":
        lat = np.sign(lat) * rng.uniform(86, 90, n)
    quads = quads_round(lat, lon, rng.uniform(50, 900, n), rng)
    shapes, crossed = corners(quads)
    assert not crossed.any()
    assert areas(postgis, shapes) == pytest.approx(spherical_area(quads), rel=1e-4)
    assert (distances(postgis, shapes, lat, lon) == 0).all()
    for shape in shapes:
        west, south, east, north = shape.bounds
        assert west >= -180 and east <= 180 and south >= -90 and north <= 90


def test_a_plain_quadrilateral_is_stored_as_it_came() -> None:
    shapes, _ = corners(np.array([[(10, 20), (11, 20), (11, 22), (10, 22)]], float))
    assert shapes[0].wkt == "MULTIPOLYGON (((20 10, 20 11, 22 11, 22 10, 20 10)))"


@pytest.mark.parametrize("lon", [20, 179.5, -180])
def test_a_bow_tie_is_told_and_kept_as_two_triangles(postgis: psycopg.Connection, lon: float) -> None:
    x = (np.array([lon, lon + 1, lon, lon + 1]) + 180) % 360 - 180
    shapes, crossed = corners(np.column_stack([[0, 1, 1, 0], x])[None].astype(float))
    assert crossed[0]
    # Two of the four triangles of a square degree.
    assert areas(postgis, shapes)[0] == pytest.approx((EARTH_RADIUS_M * np.pi / 180) ** 2 / 2, rel=1e-3)


@pytest.mark.parametrize(
    "quad",
    [
        [(1, 1)] * 4,
        [(0, 0), (0, 1), (0, 2), (0, 3)],
        [(0, 0), (0, 0), (1, 1), (1, 1)],
        [(0, 0), (0, 90), (0, 180), (0, -90)],
    ],
)
def test_corners_without_an_area_give_nothing(quad: list) -> None:
    shapes, crossed = corners(np.array([quad], float))
    assert shapes[0] is None
    assert not crossed[0]


def test_no_rows_and_wrong_shapes() -> None:
    shapes, crossed = corners(np.zeros((0, 4, 2)))
    assert len(shapes) == len(crossed) == 0
    with pytest.raises(InputError, match="shape"):
        corners(np.zeros((3, 5, 2)))


def test_centres_across_180() -> None:
    shapes, _ = corners(np.array([[(10, 179), (12, 179), (12, -179), (10, -179)]], float))
    lat, lon = centres(shapes)
    assert angle(unit_vectors(lat, lon), unit_vectors([11], [180]))[0] < np.radians(0.01)
