"""Spherical harmonics and Equal Earth against independent references, published numbers and what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from geosearch.encoders.harmonics import fill_harmonics, spherical_harmonics
from geosearch.encoders.projections import equal_earth
from geosearch.errors import InputError

RNG = np.random.default_rng(4)
LAT = np.concatenate([[90, -90, 0, 0, 89.999999, -89.999999, 1e-300], RNG.uniform(-90, 90, 40)])
LON = np.concatenate([[0, 77, 180, -180, 10, -10, 1e-300], RNG.uniform(-180, 180, 40)])


def reference(lat: np.ndarray, lon: np.ndarray, degree: int) -> np.ndarray:
    """Real harmonics from scipy's complex ones, whose Condon–Shortley sign is taken out."""
    theta, phi, columns = np.radians(lat + 90), np.radians(lon + 180), []
    for order in range(degree):
        for m in range(-order, order + 1):
            value = sph_harm_y(order, abs(m), theta, phi) * (-1) ** m
            columns.append(value.real if m == 0 else np.sqrt(2) * (value.real if m > 0 else value.imag))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("degree", [1, 2, 10, 40])
def test_as_scipy_has_them(degree: int) -> None:
    found = spherical_harmonics(LAT, LON, degree)
    assert found.shape == (len(LAT), degree**2)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, reference(LAT, LON, degree), rtol=0, atol=1e-12)


def test_the_published_closed_forms() -> None:
    """The first ones as SatCLIP's generated file prints them; its Y_l0 are π times as long as orthonormal ones."""
    lat, lon = np.array([23.0, -61.5]), np.array([-140.0, 12.25])
    theta, phi = np.radians(lat + 90), np.radians(lon + 180)
    sine, cosine = np.sin(theta), np.cos(theta)
    published = [
        np.full(2, 0.886226925452758) / np.pi,
        0.48860251190292 * sine * np.sin(phi),
        1.53499006191973 * cosine / np.pi,
        0.48860251190292 * sine * np.cos(phi),
        0.18209140509868 * (3 - 3 * cosine**2) * np.sin(2 * phi),
        1.09254843059208 * sine * np.sin(phi) * cosine,
        (2.97249547320451 * cosine**2 - 0.990831824401503) / np.pi,
        1.09254843059208 * sine * np.cos(phi) * cosine,
        0.18209140509868 * (3 - 3 * cosine**2) * np.cos(2 * phi),
    ]
    np.testing.assert_allclose(spherical_harmonics(lat, lon, 3), np.stack(published, axis=1), rtol=1e-12)


def test_orthonormal_by_quadrature() -> None:
    """Gauss–Legendre nodes in sin(lat) and equal steps of lon integrate products of degrees below 40 exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    steps = np.linspace(-180, 180, 80, endpoint=False)
    lat, lon = (a.ravel() for a in np.meshgrid(np.degrees(np.arcsin(nodes)), steps, indexing="ij"))
    area = np.repeat(weights, 80) * 2 * np.pi / 80
    values = spherical_harmonics(lat, lon, 40)
    np.testing.assert_allclose(values.T @ (values * area[:, None]), np.eye(1600), rtol=0, atol=1e-12)


def test_addition_theorem_at_every_place_poles_included() -> None:
    values = spherical_harmonics(LAT, LON, 40)
    assert np.isfinite(values).all()
    for order in range(40):
        squares = (values[:, order**2 : (order + 1) ** 2] ** 2).sum(axis=1)
        np.testing.assert_allclose(squares, (2 * order + 1) / (4 * np.pi), rtol=1e-11)


def test_the_antimeridian_and_the_poles_have_no_seam() -> None:
    lat = np.linspace(-90, 90, 37)
    east, west = (spherical_harmonics(lat, np.full(37, lon), 40) for lon in (180.0, -180.0))
    np.testing.assert_allclose(east, west, rtol=0, atol=1e-12)
    for pole in (-90.0, 90.0):
        around = spherical_harmonics(np.full(9, pole), np.linspace(-180, 180, 9), 40)
        np.testing.assert_allclose(around, np.broadcast_to(around[0], around.shape), rtol=0, atol=1e-12)


def test_many_places_are_as_each_alone() -> None:
    lat, lon = RNG.uniform(-90, 90, 1100), RNG.uniform(-180, 180, 1100)
    together = spherical_harmonics(lat, lon, 7)
    for row in (0, 511, 512, 1023, 1024, 1099):
        np.testing.assert_array_equal(together[row], spherical_harmonics(lat[row], lon[row], 7)[0])


def test_torch_computes_the_same() -> None:
    rows = torch.empty(1600, len(LAT), dtype=torch.float64)
    fill_harmonics(torch, torch.from_numpy(np.radians(LAT)), torch.from_numpy(np.radians(LON + 180)), 40, rows)
    np.testing.assert_allclose(rows.numpy().T, spherical_harmonics(LAT, LON, 40), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("lat", "lon", "words"),
    [
        ([0, 91], [0, 0], "place 1 of 2: latitude 91.0"),
        ([0, 0, 0], [0, 0, 181], "place 2 of 3: longitude 181.0"),
        ([float("nan")], [0], "place 0 of 1: latitude nan"),
        ([0, 0], [0], "not two lists of one length"),
        ([[0.0]], [[0.0]], "not two lists of one length"),
    ],
)
def test_places_not_on_earth(lat: list[float], lon: list[float], words: str) -> None:
    for function in (equal_earth, lambda a, o: spherical_harmonics(a, o, 3)):
        with pytest.raises(InputError, match=words):
            function(lat, lon)


@pytest.mark.parametrize("degree", [0, -1, 41])
def test_degrees_that_do_not_exist(degree: int) -> None:
    with pytest.raises(InputError, match="not within 1 … 40"):
        spherical_harmonics(0, 0, degree)


def test_equal_earth_of_three_places() -> None:
    """What GeoCLIP's own code gives for them, to eight digits."""
    found = equal_earth([0, 90, 40.7128], [180, 0, -74.006])
    expected = [[0.99999993, 0], [0, 0.48671694], [-0.36276159, 0.29079120]]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_equal_earth_keeps_areas() -> None:
    """Equal areas on the sphere are equal areas on the map: the determinant over cos(lat) is one number everywhere."""
    lat, lon, step = RNG.uniform(-89, 89, 50), RNG.uniform(-179, 179, 50), 1e-4
    north = (equal_earth(lat + step, lon) - equal_earth(lat - step, lon)) / (2 * step)
    east = (equal_earth(lat, lon + step) - equal_earth(lat, lon - step)) / (2 * step)
    areas = (east[:, 0] * north[:, 1] - east[:, 1] * north[:, 0]) / np.cos(np.radians(lat))
    np.testing.assert_allclose(areas, areas.mean(), rtol=1e-6)
