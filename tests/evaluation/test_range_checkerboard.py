"""The checkerboard against a brute-force search by great-circle angle."""

import math

import numpy as np
import pytest

from geosearch.errors import InputError
from geosearch.evaluation.checkerboard import board, fibonacci, labels
from geosearch.geometry import angle, unit_vectors


@pytest.mark.parametrize("count", [100, 101, 2000])
def test_the_lattice_as_written(count: int) -> None:
    lat, lon, i = fibonacci(count)
    half = count // 2
    assert len(lat) == 2 * half
    phi = (1 + math.sqrt(5)) / 2
    for row in (0, 1, half, 2 * half - 1):
        k = row - half
        assert i[row] == k
        assert lat[row] == pytest.approx(math.degrees(math.asin(2 * k / (2 * half + 1))))
        assert math.cos(math.radians(lon[row])) == pytest.approx(math.cos(2 * math.pi * k / phi))
        assert math.sin(math.radians(lon[row])) == pytest.approx(math.sin(2 * math.pi * k / phi))
    assert (np.abs(lon) <= 180).all()


def test_labels_are_those_of_the_nearest_place() -> None:
    rng = np.random.default_rng(3)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 500))), rng.uniform(-180, 180, 500)
    lat[:4], lon[:4] = [90, -90, 10, 10], [0, 0, 180, -180]
    lattice_lat, lattice_lon, i = fibonacci(200)
    away = angle(unit_vectors(lat, lon)[:, None], unit_vectors(lattice_lat, lattice_lon)[None])
    assert labels(lat, lon, 200).tolist() == (i[away.argmin(1)] % 16).tolist()


def test_a_lattice_place_has_its_own_class() -> None:
    lat, lon, i = fibonacci(300)
    assert labels(lat, lon, 300).tolist() == (i % 16).tolist()


def test_a_board_is_even_and_the_same_each_time() -> None:
    some = board(100, samples=2000)
    assert (len(some.split.train), len(some.split.test)) == (2000, 2000)
    assert np.bincount(some.label[some.split.test], minlength=16).min() > 60  # 125 expected of each class
    # Uniform on the sphere: a third of the square of each coordinate.
    points = unit_vectors(some.lat[some.split.train], some.lon[some.split.train])
    assert (points**2).mean(0) == pytest.approx([1 / 3] * 3, abs=0.03)
    again = board(100, samples=2000)
    assert (some.lat == again.lat).all()
    assert (some.label == again.label).all()


def test_no_lattice_of_one() -> None:
    with pytest.raises(InputError, match="two or more"):
        fibonacci(1)
