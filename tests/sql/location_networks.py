"""Random location encoders with the published shapes, how SQL gets them, and the same arithmetic in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector
from psycopg.types.json import Jsonb
from scipy.special import sph_harm_y

from geosearch.encoders.network import Layer, PlaceNetwork

SHA256 = "0" * 64
# (lat, lon): the poles, both sides of the date line, the smallest numbers that there are, and anywhere.
PLACES = [
    (90.0, 0.0), (-90.0, 0.0), (90.0, 180.0), (-90.0, -123.4), (89.99999999999999, 1e-20), (-89.9999, 77.0), (0.0, 0.0),
    (0.0, 180.0), (0.0, -180.0), (45.0, 180.0), (45.0, -180.0), (5e-324, 5e-324), (-1e-300, 1e-300), (1e-60, -1e-60),
    (47.37, 8.54), (-33.87, 151.21), (40.7128, -74.006), (64.1, -21.9), (-54.8, -68.3), (1.35, 103.8),
]  # fmt: skip


def harmonics(lat: float, lon: float, degree: int) -> NDArray[np.float64]:
    """Real harmonics (degree²,) from SciPy's complex ones, without the Condon–Shortley sign, as SatCLIP has them."""
    colatitude, phi = math.radians(lat + 90), math.radians(lon + 180)
    found = []
    for order in range(degree):
        for m in range(-order, order + 1):
            value = (-1) ** m * sph_harm_y(order, abs(m), colatitude, phi)
            found.append(value.real if m == 0 else math.sqrt(2) * (value.real if m > 0 else value.imag))
    return np.array(found)


def projected(lat: float, lon: float) -> NDArray[np.float64]:
    """Equal Earth (2,) scaled as GeoCLIP does, from its polynomial as printed."""
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    theta = math.asin(math.sqrt(3) / 2 * math.sin(math.radians(lat)))
    below = 3 * (9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1)
    x = 2 * math.sqrt(3) * math.radians(lon) * math.cos(theta) / below
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return np.array([x, y]) * 66.50336 / 180


def reference(network: PlaceNetwork, lat: float, lon: float) -> NDArray[np.float64]:
    """The vector (dimension,) of length 1, all in float64."""
    total = np.zeros(network.dimension)
    for net in network.nets:
        layers = [(layer.weights.astype(float), layer.bias.astype(float)) for layer in net]
        if network.family == "satclip":
            x = harmonics(lat, lon, network.definition["degree"])
        else:
            turns = layers.pop(0)[0] @ projected(lat, lon)
            x = np.concatenate([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)])
        for k, (weights, bias) in enumerate(layers):
            x = weights @ x + bias
            if k < len(layers) - 1:
                w0 = network.definition.get("first_w0" if k == 0 else "w0")
                x = np.maximum(x, 0) if w0 is None else np.sin(w0 * x)
        total += x
    return total / np.linalg.norm(total)


def satclip(degree: int, width: int = 512, dimension: int = 256, hidden: int = 2, seed: int = 1) -> PlaceNetwork:
    """A SIREN as it is initialised: ±1/inputs in the first layer, ±sqrt(6/inputs)/w0 in the others."""
    rng = np.random.default_rng(seed)
    sizes = [degree**2, *[width] * hidden, dimension]
    bounds = [1 / sizes[0], *(math.sqrt(6 / n) for n in sizes[1:-1])]
    net = [_layer(rng, n, units, bound) for n, units, bound in zip(sizes, sizes[1:], bounds, strict=False)]
    definition = {
        "features": "spherical harmonics", "degree": degree, "activation": "sine", "first_w0": 30.0, "w0": 1.0
    }  # fmt: skip
    return PlaceNetwork("satclip", dimension, definition, [net])


def geoclip(waves: int = 256, width: int = 1024, dimension: int = 512, seed: int = 2) -> PlaceNetwork:
    """Three capsules of frequencies N(0, σ²), σ = 1, 16, 256, and layers as torch initialises them, ±1/sqrt(inputs)."""
    rng = np.random.default_rng(seed)
    sizes = [2 * waves, width, width, width, dimension]
    nets = []
    for sigma in (1, 16, 256):
        frequencies = (rng.standard_normal((waves, 2)) * sigma).astype(np.float32)
        dense = [_layer(rng, n, units, 1 / math.sqrt(n)) for n, units in itertools.pairwise(sizes)]
        nets.append([Layer(frequencies, np.zeros(waves, np.float32)), *dense])
    definition = {"features": "fourier", "projection": "equal earth", "activation": "relu"}
    return PlaceNetwork("geoclip", dimension, definition, nets)


def name_model(conn: psycopg.Connection[Any], name: str, network: PlaceNetwork, sha256: str = SHA256) -> int:
    """The first step of an installation: the id of the model."""
    row = conn.execute(
        "select geosearch.install_location_model(%s, %s, %s, %s, %s)",
        [name, network.family, network.dimension, Jsonb(network.definition), sha256],
    ).fetchone()
    assert row is not None
    return int(row[0])


def put(conn: psycopg.Connection[Any], name: str, network: PlaceNetwork, sha256: str = SHA256) -> int:
    """Name the model and copy its weights; the id of the model."""
    model_id = name_model(conn, name, network, sha256)
    command = "copy geosearch.location_weight (model_id, net, layer, unit, bias, weights) from stdin (format binary)"
    with conn.cursor().copy(command) as copy:
        copy.set_types(["int4", "int2", "int2", "int2", "float8", "vector"])
        for n, net in enumerate(network.nets):
            for k, layer in enumerate(net):
                for unit, (bias, row) in enumerate(zip(layer.bias, layer.weights, strict=True)):
                    copy.write_row((model_id, n, k, unit, float(bias), Vector(row)))
    return model_id


def numbers(network: PlaceNetwork) -> int:
    """How many weights and biases there are."""
    return sum(layer.weights.size + layer.bias.size for net in network.nets for layer in net)


def _layer(rng: np.random.Generator, inputs: int, units: int, bound: float) -> Layer:
    weights = rng.uniform(-bound, bound, (units, inputs)).astype(np.float32)
    return Layer(weights, rng.uniform(-bound, bound, units).astype(np.float32))
