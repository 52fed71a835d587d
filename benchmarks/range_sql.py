"""How long RANGE takes in SQL: `python benchmarks/range_sql.py [--places 10000,82000] [--queries 30]`.

Makes banks of random places, keys (256) and values (1 024), with an encoder of SatCLIP's shape (L = 10, random
weights), and asks them for places over the whole Earth by one connection, one statement each. The rival is the sum that
one writes by hand, over one row a place: both softmaxes' weights first, then
`sum(value * array_fill(weight)::vector)`; with the settings of the server and without parallel workers, over a table as
`create table` makes it and over one whose vectors lie inline. It is given the unit vector of the place, where geosearch
encodes it. Ways are timed in turn within each place. Times are wall-clock as the client sees them; where the server
runs on this machine, CPU time of its process is given as well (without that of parallel workers). Errors are relative
(L2), against NumPy in double precision. All that was made is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before NumPy is loaded: the server needs the cores

import numpy as np
import psycopg
from catalog import machine, server_seconds
from encode_place import SHAPES, install
from numpy.typing import NDArray
from pgvector import Vector
from pgvector.psycopg import register_vector

from geosearch.database.connection import connect
from geosearch.geometry import unit_vectors
from geosearch.range import reference
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.store import drop_bank, write_bank

KEYS, VALUES = 256, 1024
AIMS = {10_000: 30.0, 82_000: 250.0}
RATIO, ERROR = 4.0, 1e-5
OURS = "geosearch"
BY_HAND = """
with logit as materialized (
    select place, 12 * -(key <#> %(query)s) as sem, 40 * (x * %(x)s + y * %(y)s + z * %(z)s) as geo from {table}
), best as (
    select max(sem) as sem, max(geo) as geo from logit
), softmax as materialized (
    select place, exp(l.sem - b.sem) as sem, exp(l.geo - b.geo) as geo from logit l, best b
), total as (
    select sum(sem) as sem, sum(geo) as geo from softmax
)
select sum(r.value * array_fill((0.5 * s.sem / t.sem + 0.5 * s.geo / t.geo)::real, array[{values}])::vector)
from softmax s cross join total t join {table} r using (place)
"""
EMBED = "select geosearch.range_embedding('{bank}', st_makepoint(%(lon)s, %(lat)s)::geography"
WAYS = {
    OURS: f"{EMBED})",
    "RANGE": f"{EMBED}, beta => 1)",
    "HAVER": f"{EMBED}, beta => 0)",
    "topk, 100": f"{EMBED}, mode => 'topk')",
    "by hand": BY_HAND,
    "by hand, no workers": BY_HAND,
    "by hand, inline": BY_HAND,
    "by hand, inline, no workers": BY_HAND,
}
OPTIONS = {"RANGE": Retrieval(beta=1), "HAVER": Retrieval(beta=0), "topk, 100": Retrieval(mode="topk")}


def main() -> None:
    """Run the benchmark and print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="of the database; if not given, that of the settings")
    parser.add_argument("--places", default="10000,82000", help="sizes of banks, with commas")
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    runs = []
    with connect(given.url, autocommit=True) as conn:
        register_vector(conn)
        about = conn.execute(
            "select current_setting('server_version'), (select extversion from pg_extension where extname = 'vector'),"
            " current_setting('shared_buffers')"
        ).fetchone()
        assert about is not None
        load = f"{os.getloadavg()[0]:.1f}"
        print(
            f"{machine()}; PostgreSQL {about[0]}, pgvector {about[1]}, shared_buffers {about[2]}; load before: {load}"
        )
        for places in (int(size) for size in given.places.split(",")):
            run = {"places": places, "queries": given.queries, "machine": machine()}
            run.update(one_size(conn, places, given.queries))
            show(run)
            runs.append(run)
    if given.json:
        given.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def one_size(conn: psycopg.Connection[Any], places: int, queries: int) -> dict[str, Any]:
    """Make a bank and the rows of the rival, time all ways, remove both; return the figures."""
    rng = np.random.default_rng(places)
    name = f"benchmark_{uuid.uuid4().hex[:8]}"
    try:
        family, definition, sizes, nets, _ = SHAPES["SatCLIP, L = 10"]
        install(conn, name, family, definition, sizes, nets, rng)
        bank = random_bank(name, places, rng)
        started = time.perf_counter()
        write_bank(conn, bank)
        fill_s = time.perf_counter() - started
        rows_by_hand(conn, name, bank)
        return {"fill_s": fill_s, "ways": measure(conn, bank, queries, rng)}
    finally:
        conn.execute(f"drop table if exists public.{name}, public.{name}_inline")
        if conn.execute("select from geosearch.bank where name = %s", [name]).fetchone() is not None:
            drop_bank(conn, name)
        conn.execute("delete from geosearch.model where name = %s", [name])


def random_bank(name: str, places: int, rng: np.random.Generator) -> Bank:
    """Return a bank of random places over the Earth, with random keys and values; the encoder bears its name."""
    lat, lon = random_places(places, rng)
    keys = rng.standard_normal((places, KEYS), np.float32)
    return Bank.of(name, name, lat, lon, keys, rng.standard_normal((places, VALUES), np.float32) + np.float32(0.2))


def random_places(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lat, lon (count,) in degrees, spread evenly over the Earth."""
    return np.degrees(np.arcsin(rng.uniform(-1, 1, count))), rng.uniform(-180, 180, count)


def rows_by_hand(conn: psycopg.Connection[Any], name: str, bank: Bank) -> None:
    """Make the tables of the rival, one row a place, in its order: NAME, and NAME_inline with vectors in their rows."""
    at = bank.positions().tolist()
    for table in (name, f"{name}_inline"):
        conn.execute(
            f"create table public.{table} (place int primary key, x float8, y float8, z float8, key vector({KEYS}),"
            f" value vector({VALUES}))"
        )
        if table != name:
            conn.execute(f"alter table public.{table} alter key set storage plain, alter value set storage plain")
        with conn.cursor().copy(f"copy public.{table} from stdin (format binary)") as copy:
            copy.set_types(["int4", "float8", "float8", "float8", "vector", "vector"])
            for place in range(len(bank)):
                copy.write_row((place, *at[place], Vector(bank.keys[place]), Vector(bank.values[place])))
        conn.execute(f"vacuum analyze public.{table}")


def measure(
    conn: psycopg.Connection[Any], bank: Bank, queries: int, rng: np.random.Generator
) -> dict[str, dict[str, Any]]:
    """Ask all ways for every place in turn; return p50, p95, CPU (ms) and the greatest error of each."""
    lat, lon = random_places(queries, rng)
    asked = np.stack(
        [
            as_array(
                conn.execute(
                    "select geosearch.encode_place(%s, st_makepoint(%s, %s)::geography)", [bank.encoder, *place]
                ).fetchone()
            )
            for place in zip(lon.tolist(), lat.tolist(), strict=True)
        ]
    )
    right = {
        options: reference.embed(bank, lat, lon, options, asked).embedding[:, :VALUES]
        for options in {OPTIONS.get(way, Retrieval()) for way in WAYS}
    }
    found: dict[str, dict[str, Any]] = {way: {"ms": [], "cpu": [], "error": 0.0} for way in WAYS}
    for number in range(-2, queries):  # two to warm up
        place = number % queries
        x, y, z = unit_vectors(lat[place : place + 1], lon[place : place + 1])[0].tolist()
        given = {"lat": float(lat[place]), "lon": float(lon[place]), "x": x, "y": y, "z": z}
        for way, statement in WAYS.items():
            table = f"public.{bank.name}{'_inline' * ('inline' in way)}"
            text = statement.format(bank=bank.name, table=table, values=VALUES)
            conn.execute(f"set max_parallel_workers_per_gather = {0 if way.endswith('no workers') else 'default'}")
            begun, started = server_seconds(conn), time.perf_counter()
            row = conn.execute(text, {**given, "query": Vector(asked[place])}, binary=True).fetchone()
            took = time.perf_counter() - started
            ended = server_seconds(conn)
            truth = right[OPTIONS.get(way, Retrieval())][place]
            error = float(np.linalg.norm(as_array(row)[:VALUES] - truth) / np.linalg.norm(truth))
            if number >= 0:
                found[way]["ms"].append(1000 * took)
                found[way]["error"] = max(found[way]["error"], error)
                if begun is not None and ended is not None:
                    found[way]["cpu"].append(1000 * (ended - begun))
    conn.execute("reset max_parallel_workers_per_gather")
    return {
        way: {
            "p50": float(np.median(seen["ms"])),
            "p95": float(np.percentile(seen["ms"], 95)),
            "cpu": float(np.mean(seen["cpu"])) if seen["cpu"] else None,
            "error": seen["error"],
        }
        for way, seen in found.items()
    }


def as_array(row: tuple[Any, ...] | None) -> NDArray[np.float64]:
    """Return the vector of a row as float64."""
    assert row is not None
    return np.asarray(row[0].to_numpy() if isinstance(row[0], Vector) else row[0], np.float64)


def show(run: dict[str, Any]) -> None:
    """Print the table of one size, the ratios, and whether the aims are met."""
    places, ways = run["places"], run["ways"]
    print(f"\n{places:,} places × ({KEYS} + {VALUES}), {run['queries']} asked; written in {run['fill_s']:.1f} s")
    print(f"{'':<28}{'p50 ms':>9}{'p95 ms':>9}{'CPU ms':>9}{'error':>10}")
    for way, seen in ways.items():
        cpu = "" if seen["cpu"] is None else f"{seen['cpu']:.1f}"
        label = f"{OURS}, RANGE+" if way == OURS else way if way.startswith("by hand") else f"{OURS}, {way}"
        print(f"{label:<28}{seen['p50']:>9.1f}{seen['p95']:>9.1f}{cpu:>9}{seen['error']:>10.1e}")
    ours = ways[OURS]
    ratios = {way: seen["p50"] / ours["p50"] for way, seen in ways.items() if way.startswith("by hand")}
    print("; ".join(f"{way} takes {ratio:.1f} times as long" for way, ratio in ratios.items()))
    aims = [(f"error at most {ERROR:g}", ours["error"] <= ERROR)]
    if places in AIMS:
        aims.append((f"at most {AIMS[places]:g} ms", ours["p50"] <= AIMS[places]))
        aims.append((f"by hand at least {RATIO:g} times as long", min(ratios.values()) >= RATIO))
    print("; ".join(f"{aim}: {'met' if met else 'MISSED'}" for aim, met in aims), flush=True)


if __name__ == "__main__":
    main()
