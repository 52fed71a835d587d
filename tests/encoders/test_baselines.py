"""Encoders without weights: the paper's temperature probe, to three figures, and what must hold of features."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geosearch.encoders import baselines, registry
from geosearch.encoders.places import PlaceEncoder
from geosearch.errors import ModelError, UnknownNameError, WeightsError
from geosearch.item import Item, Place

KINDS = [*baselines.kinds(), "harmonics-1", "harmonics-40"]
PERIODIC = ["unit-vector", "wrap", "harmonics-1", "harmonics-10", "harmonics-40"]


def encoder(kind: str) -> PlaceEncoder:
    loaded = registry.load(f"coordinates:{kind}", "cpu")
    assert isinstance(loaded, PlaceEncoder)
    return loaded


@pytest.mark.parametrize(
    ("kind", "score"),
    [("direct", 0.381), ("unit-vector", 0.362), ("wrap", 0.861), ("theory", 0.849),
     ("harmonics-5", 0.906), ("harmonics-10", 0.936), ("harmonics-20", 0.931)],
)  # fmt: skip
def test_temperature_probe_of_the_paper(kind: str, score: float, shared_data: Path) -> None:
    """R² of mean temperature at 3 076 stations: the first four are the table of arXiv 2502.19781."""
    from sklearn.linear_model import RidgeCV
    from sklearn.preprocessing import MinMaxScaler
    from torch import Generator
    from torch.utils.data import random_split

    with (shared_data / "stations" / "air_temperature.csv").open(encoding="utf-8") as file:
        table = np.array([[float(row[key]) for key in ("Lat", "Lon", "meanT")] for row in csv.DictReader(file)])
    rows: Any = range(len(table))
    train, test = (list(part.indices) for part in random_split(rows, [0.8, 0.2], Generator().manual_seed(42)))
    assert train[:5] == [278, 993, 458, 2969, 2158]
    features = encoder(kind).encode_places(table[:, 0], table[:, 1], normalise=False)
    scaler = MinMaxScaler().fit(features[train])
    probe = RidgeCV(alphas=(0.1, 1.0, 10.0), cv=3).fit(scaler.transform(features[train]), table[train, 2])
    assert round(probe.score(scaler.transform(features[test]), table[test, 2]), 3) == score


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_finite_and_of_the_length_stated(kind: str) -> None:
    lat, lon = (a.ravel() for a in np.meshgrid([-90, -89.9, -3, 0, 45, 90], [-180, -1, 0, 0.1, 180.0]))
    found = encoder(kind).encode_places(lat, lon, normalise=False)
    assert found.shape == (30, encoder(kind).info.dimension)
    assert np.isfinite(found).all()
    swapped = encoder(kind).encode_places([20.0], [10.0]), encoder(kind).encode_places([10.0], [20.0])
    assert kind == "harmonics-1" or not np.allclose(*swapped)


@pytest.mark.parametrize("kind", PERIODIC)
def test_no_seam_at_the_antimeridian(kind: str) -> None:
    lat = np.linspace(-90, 90, 19)
    east, west = (encoder(kind).encode_places(lat, np.full(19, lon)) for lon in (180.0, -180.0))
    np.testing.assert_allclose(east, west, rtol=0, atol=1e-12)


def test_simple_features_at_known_places() -> None:
    """Latitude first in ours, longitude first in the features, as the published code has them."""
    np.testing.assert_allclose(baselines.direct(np.array([90.0]), np.array([-180.0])), [[-math.pi, math.pi / 2]])
    points = baselines.unit_vector(np.array([0.0, 0.0, 90.0]), np.array([0.0, 90.0, 12.0]))
    np.testing.assert_allclose(points, np.eye(3), atol=1e-15)
    turned = baselines.wrap(np.array([30.0]), np.array([60.0]))
    np.testing.assert_allclose(turned, [[0.5, math.sqrt(0.75), math.sqrt(0.75), 0.5]])


def test_grid_cells_are_those_of_the_formula() -> None:
    """Space2Vec, eq. 5, written out for one place and two lengths."""
    lat, lon = 12.5, -70.0
    expected = []
    for length in (1000.0, 10000.0):
        for x, y in ((1, 0), (-0.5, math.sqrt(3) / 2), (-0.5, -math.sqrt(3) / 2)):
            angle = (x * lon + y * lat) / length
            expected += [math.sin(angle), math.cos(angle)]
    found = baselines.theory(np.array([lat]), np.array([lon]), baselines.scales(1000.0, 10000.0, 2))
    np.testing.assert_allclose(found, [expected], atol=1e-15)


@pytest.mark.parametrize(("kind", "count"), [("c", 3), ("c+", 6), ("m", 5), ("m+", 8)])
def test_sphere2vec_is_that_of_the_formula(kind: str, count: int) -> None:
    """Eq. 4, 10, 8 and 9 of arXiv 2201.10489 at one length s: shrunken angles p, l beside the whole ones."""
    lat, lon, s = 2.0, 1.0, 4.0
    p, q, sin, cos = lat / s, lon / s, math.sin, math.cos
    products = {
        "c": [cos(p) * cos(q), cos(p) * sin(q)],
        "m": [cos(p) * cos(lon), cos(lat) * cos(q), cos(p) * sin(lon), cos(lat) * sin(q)],
    }[kind[0]]
    first = [sin(p), cos(p), sin(q), cos(q)] if kind.endswith("+") else [sin(p)]
    found = baselines.sphere2vec(np.array([lat]), np.array([lon]), np.array([s]), kind)
    assert found.shape == (1, 2 * count)
    np.testing.assert_allclose(found[0], np.repeat(first + products, 2))


def test_scales_are_geometric() -> None:
    np.testing.assert_allclose(baselines.scales(1.0, 1000.0, 4), [1, 10, 100, 1000])


def test_as_an_encoder_of_items() -> None:
    unit = encoder("harmonics-10").encode([Item(place=Place(46.0, 8.0)), Item(place=Place(-90.0, 0.0))])
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    exact = encoder("harmonics-10").encode_places([46, -90], [8, 0])
    np.testing.assert_array_equal(unit, exact.astype(np.float32))
    assert encoder("wrap").encode([]).shape == (0, 4)
    with pytest.raises(ModelError, match="does not read text"):
        encoder("wrap").encode([Item(text="a desert", place=Place(0, 0))])


def test_a_vector_without_a_direction() -> None:
    with pytest.raises(ModelError, match=r"place 1, 0\.0, 0\.0, is zero"):
        encoder("direct").encode_places([1, 0], [1, 0])
    np.testing.assert_array_equal(encoder("direct").encode_places(0, 0, normalise=False), [[0, 0]])


def test_identity_and_what_they_lack() -> None:
    info = registry.describe("coordinates:theory")
    assert info.reads == {"place"}
    assert info.preprocessing["scales"] == [1000.0, 10000.0, 32]
    assert info.weights_sha256 != registry.describe("coordinates:theory-fine").weights_sha256
    with pytest.raises(ModelError, match="has no weights"):
        encoder("theory").network()
    assert registry.load(f"coordinates:theory@{info.weights_sha256[:10]}", "cpu").info.dimension == 192
    with pytest.raises(WeightsError, match="its digest is"):
        registry.load("coordinates:theory@0123456789", "cpu")


@pytest.mark.parametrize("kind", ["", "harmonics", "harmonics-0", "harmonics-41", "harmonics-010", "sphere2vec-x"])
def test_unknown_kinds(kind: str) -> None:
    with pytest.raises(UnknownNameError, match="unit-vector"):
        registry.describe(f"coordinates:{kind}")
