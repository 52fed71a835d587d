"""Banks for tests, filled by COPY, and what RANGE answers: the paper's formulas in NumPy and double precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg.types.json import Jsonb

BLOCK = 2000
HARMONICS = {"features": "spherical harmonics", "degree": 3, "activation": "sine", "first_w0": 3.0, "w0": 1.0}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arrays:
    """A bank: lat, lon (n,) degrees; keys (n, dk) of unit length and values (n, dv), both float32."""

    lat: Floats
    lon: Floats
    keys: NDArray[np.float32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.lat)


def random_arrays(places: int, key_dimension: int, value_dimension: int, seed: int = 0) -> Arrays:
    """Places all over the Earth, with random keys and values."""
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, places)))
    keys = rng.standard_normal((places, key_dimension))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    values = rng.standard_normal((places, value_dimension)) * 3 + 1
    return Arrays(lat, rng.uniform(-180, 180, places), keys.astype(np.float32), values.astype(np.float32))


def units(lat: Any, lon: Any) -> Floats:
    """(n, 3) unit vectors of places in degrees."""
    phi, theta = np.radians(np.atleast_1d(lat)), np.radians(np.atleast_1d(lon))
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=1)


def install_encoder(conn: psycopg.Connection[Any], name: str, dimension: int, seed: int = 1) -> None:
    """A small location encoder with random weights: harmonics of degree 3 and two layers."""
    rng = np.random.default_rng(seed)
    model = conn.execute(
        "select geosearch.install_location_model(%s, 'satclip', %s, %s, repeat('0', 64))",
        [name, dimension, Jsonb(HARMONICS)],
    ).fetchone()
    assert model is not None
    register_vector(conn)
    with conn.cursor() as cursor:
        for layer, (outputs, inputs) in enumerate(((16, 9), (dimension, 16))):
            cursor.executemany(
                "insert into geosearch.location_weight (model_id, net, layer, unit, bias, weights)"
                " values (%s, 0, %s, %s, %s, %s)",
                [
                    (model[0], layer, unit, float(rng.normal()), Vector(rng.standard_normal(inputs)))
                    for unit in range(outputs)
                ],
            )
    conn.execute("select geosearch.check_location_model(%s)", [name])


def fill(conn: psycopg.Connection[Any], name: str, arrays: Arrays) -> None:
    """Write the rows of a bank that create_bank made."""
    register_vector(conn)

    def copy(statement: str, types: list[str], rows: Iterable[tuple[Any, ...]]) -> None:
        with conn.cursor().copy(f"copy geosearch.{statement} from stdin with (format binary)") as out:
            out.set_types(types)
            for row in rows:
                out.write_row(row)

    at = units(arrays.lat, arrays.lon).tolist()
    copy(
        f"bank_{name} (place, block, x, y, z, key)",
        ["int4", "int4", "float8", "float8", "float8", "vector"],
        ((n, n // BLOCK, *at[n], Vector(arrays.keys[n])) for n in range(len(arrays))),
    )
    copy(
        f"bank_{name}_values (block, component, values)",
        ["int4", "int4", "vector"],
        (
            (first // BLOCK, component, Vector(column))
            for first in range(0, len(arrays), BLOCK)
            for component, column in enumerate(arrays.values[first : first + BLOCK].T)
        ),
    )


def make_bank(conn: psycopg.Connection[Any], name: str, arrays: Arrays, encoder: str = "toy", **facts: Any) -> None:
    """create_bank, rows, finish_bank."""
    more = "".join(f", {fact} => %({fact})s" for fact in facts)
    conn.execute(
        f"select geosearch.create_bank(%(name)s, %(encoder)s, %(dk)s, %(dv)s{more})",
        {"name": name, "encoder": encoder, "dk": arrays.keys.shape[1], "dv": arrays.values.shape[1], **facts},
    )
    fill(conn, name, arrays)
    assert conn.execute("select geosearch.finish_bank(%s)", [name]).fetchone() == (len(arrays),)


def as_array(vector: Any) -> Floats:
    """A vector that psycopg returned, as float64."""
    return np.asarray(vector.to_numpy() if isinstance(vector, Vector) else vector, np.float64)


def encode(conn: psycopg.Connection[Any], encoder: str, lat: float, lon: float) -> Floats:
    """The unit vector that the database's encoder makes of a place."""
    row = conn.execute(
        "select geosearch.encode_place(%s, st_makepoint(%s, %s)::geography)", [encoder, lon, lat]
    ).fetchone()
    assert row is not None
    return as_array(row[0])


@dataclass(frozen=True)
class Answer:
    """What range_account answers: h (dv,), the mass of both softmaxes, and how many places count."""

    expected: Floats
    mass_sem: float
    mass_geo: float
    places: int


def truth(
    arrays: Arrays,
    query: Floats,
    lat: float,
    lon: float,
    beta: float = 0.5,
    tau_sem: float | None = None,
    tau_geo: float = 40.0,
    min_cos: float | None = None,
    mode: str = "soft",
    k: int = 100,
) -> Answer:
    """h = beta softmax(tau_sem K q) V + (1 - beta) softmax(tau_geo X x) V; modes keep the k greatest of each."""
    tau = tau_sem if tau_sem is not None else 15.0 if beta == 1 else 12.0
    weights = np.zeros(len(arrays))
    mass = [1.0, 1.0]
    counted: set[int] = set()
    cosines = [arrays.keys.astype(np.float64) @ query, units(arrays.lat, arrays.lon) @ units(lat, lon)[0]]
    for softmax, (share, factor) in enumerate(((beta, tau), (1 - beta, tau_geo))):
        if share == 0:
            continue
        allowed = np.arange(len(arrays))
        if softmax == 1 and min_cos is not None:
            allowed = np.flatnonzero(cosines[1] >= min_cos)
        logits = factor * cosines[softmax][allowed]
        soft = np.exp(logits - logits.max())
        soft /= soft.sum()
        keep = {"soft": len(allowed), "top1": 1}.get(mode, k)
        best = np.lexsort((allowed, -soft))[:keep]
        mass[softmax] = soft[best].sum()
        kept = soft[best] / mass[softmax] if mode in ("soft", "topk") else np.full(len(best), 1 / len(best))
        weights[allowed[best]] += share * kept
        counted |= set(allowed[best].tolist())
    return Answer(weights @ arrays.values.astype(np.float64), mass[0], mass[1], len(counted))


def ask(conn: psycopg.Connection[Any], bank: str, lat: float, lon: float, **options: Any) -> tuple[Floats, Answer]:
    """range_account of a place: the whole embedding, and its parts; the h of dv numbers is for the caller to cut."""
    named = "".join(f", {name} => %({name})s" for name in options)
    row = conn.execute(
        "select embedding, mass_sem, mass_geo, places from geosearch.range_account("
        f"%(bank)s, st_makepoint(%(lon)s, %(lat)s)::geography{named})",
        {"bank": bank, "lat": lat, "lon": lon, **options},
        binary=True,
    ).fetchone()
    assert row is not None
    return as_array(row[0]), Answer(as_array(row[0]), *row[1:])


def error(found: Floats, right: Floats) -> float:
    """Relative error, L2."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))
