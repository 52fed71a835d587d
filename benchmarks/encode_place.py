"""How long a location encoder takes in SQL: `python benchmarks/encode_place.py [--places 300]`.

Installs three encoders of the published shapes with random weights, since time does not depend on what they are,
encodes places over the whole Earth by one connection, one statement each (prepared, as a client asks), then all of them
in one statement, and removes the encoders. The first place of a connection is given apart: it plans. Times are
wall-clock as the client sees them, with the way there and back; where the server runs on this machine, CPU time of its
process is given as well, which depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import itertools
import time
import uuid
from typing import Any

import numpy as np
import psycopg
from catalog import machine, server_seconds
from numpy.typing import NDArray
from pgvector import Vector
from psycopg.types.json import Jsonb

from geosearch.database.connection import connect

SINES = {"features": "spherical harmonics", "activation": "sine", "first_w0": 30.0, "w0": 1.0}
FOURIER = {"features": "fourier", "projection": "equal earth", "activation": "relu"}
# family, definition, inputs and units of the dense layers, nets, aim in ms
SHAPES: dict[str, tuple[str, dict[str, Any], list[int], int, int]] = {
    "SatCLIP, L = 10": ("satclip", {**SINES, "degree": 10}, [100, 512, 512, 256], 1, 5),
    "SatCLIP, L = 40": ("satclip", {**SINES, "degree": 40}, [1600, 512, 512, 256], 1, 10),
    "GeoCLIP": ("geoclip", FOURIER, [512, 1024, 1024, 1024, 512], 3, 25),
}
ONE = "select geosearch.encode_place(%s, st_makepoint(%s, %s)::geography)"
MANY = (
    "select count(geosearch.encode_place(%s, st_makepoint(lon, lat)::geography))"
    " from unnest(%s::float8[], %s::float8[]) p (lon, lat)"
)


def main() -> None:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="Of the database; if not given, that of the settings.")
    parser.add_argument("--places", type=int, default=300)
    given = parser.parse_args()
    rng = np.random.default_rng(1)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, given.places))), rng.uniform(-180, 180, given.places)
    with connect(given.url, autocommit=True) as conn:
        version = conn.execute(
            "select current_setting('server_version'), (select extversion from pg_extension where extname = 'vector')"
        ).fetchone()
        assert version is not None
        print(f"{machine()}; PostgreSQL {version[0]}, pgvector {version[1]}; {given.places} places")
        print(f"{'encoder':<18}{'first':>9}{'p50':>9}{'p95':>9}{'CPU':>9}{'in bulk':>9}{'aim':>6}   ms a place")
        for title, shape in SHAPES.items():
            name = f"benchmark-{uuid.uuid4().hex[:8]}"
            try:
                install(conn, name, *shape[:4], rng)
                first, each, cpu, bulk = measure(given.url, name, lat, lon)
                p50, p95 = np.percentile(each, [50, 95])
                figures = "".join(f"{value:>9.2f}" for value in (first, p50, p95, cpu, bulk))
                print(f"{title:<18}{figures}{shape[4]:>6}", flush=True)
            finally:
                conn.execute("delete from geosearch.model where name = %s", [name])


def install(
    conn: psycopg.Connection[Any],
    name: str,
    family: str,
    definition: dict[str, Any],
    sizes: list[int],
    nets: int,
    rng: np.random.Generator,
) -> None:
    """Take an encoder of random weights into the database."""
    row = conn.execute(
        "select geosearch.install_location_model(%s, %s, %s, %s, repeat('0', 64))",
        [name, family, sizes[-1], Jsonb(definition)],
    ).fetchone()
    assert row is not None
    layers = list(itertools.pairwise(sizes))
    if family == "geoclip":
        layers = [(2, sizes[0] // 2), *layers]
    command = "copy geosearch.location_weight (model_id, net, layer, unit, bias, weights) from stdin (format binary)"
    with conn.cursor().copy(command) as copy:
        copy.set_types(["int4", "int2", "int2", "int2", "float8", "vector"])
        for net, (layer, (inputs, units)) in itertools.product(range(nets), enumerate(layers)):
            bound = 1 / np.sqrt(inputs)
            for unit, weights in enumerate(rng.uniform(-bound, bound, (units, inputs)).astype(np.float32)):
                copy.write_row((row[0], net, layer, unit, 0.0, Vector(weights)))
    conn.execute("select geosearch.check_location_model(%s)", [name])


def measure(
    url: str | None, name: str, lat: NDArray[np.float64], lon: NDArray[np.float64]
) -> tuple[float, list[float], float, float]:
    """Return milliseconds: a connection's first place, each after ten more, their CPU, and one of all at once."""
    each: list[float] = []
    with connect(url, autocommit=True) as conn:
        for place in zip(lon.tolist(), lat.tolist(), strict=True):
            if len(each) == 11:
                begun = server_seconds(conn)
            start = time.perf_counter()
            conn.execute(ONE, [name, *place], prepare=True).fetchone()
            each.append(1000 * (time.perf_counter() - start))
        ended = server_seconds(conn)
        cpu = float("nan") if begun is None or ended is None else 1000 * (ended - begun) / len(each[11:])
        start = time.perf_counter()
        conn.execute(MANY, [name, lon.tolist(), lat.tolist()]).fetchone()
        bulk = 1000 * (time.perf_counter() - start) / len(lat)
    return each[0], each[11:], cpu, bulk


if __name__ == "__main__":
    main()
