"""An archive of random and adversarial places with vectors, and the searches that are asked of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from pgvector import HalfVector
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

DIMENSION = 8


@dataclass(frozen=True)
class World:
    """A connection to a database with one archive of awkward places, and the NumPy copy of its vectors."""

    conn: psycopg.Connection
    url: str
    """Of the same database, for connections of a test's own."""
    ids: np.ndarray
    """(n,) image ids, ascending."""
    vectors: np.ndarray
    """(n, DIMENSION) float64, the stored half-precision values."""


def awkward_places(rng: np.random.Generator) -> list[tuple[str | None, str | None, float]]:
    """(nadir, footprint, reach_m) as WKT: random places, and those on which geography goes wrong."""
    rows: list[tuple[str | None, str | None, float]] = []

    def point(lat: float, lon: float, reach: float = 0.0) -> None:
        rows.append((f"POINT({lon:.12g} {lat:.12g})", None, reach))

    def box(west: float, south: float, east: float, north: float, nadir: str | None = None) -> None:
        ring = f"{west} {south},{east} {south},{east} {north},{west} {north},{west} {south}"
        rows.append((nadir, f"MULTIPOLYGON((({ring})))", 0.0))

    for z, lon in zip(rng.uniform(-1, 1, 500), rng.uniform(-180, 180, 500), strict=True):
        point(float(np.degrees(np.arcsin(z))), float(lon), float(rng.choice([0, 0, 1, 1e3, 2.5e6])))
    for lat in (-90, -89.9999999, -60, -1e-9, 0, 1e-9, 45, 89.9999999, 90):
        for lon in (-180, -179.9999999, -90, 0, 1e-9, 90, 179.9999999, 180):
            point(lat, lon)
            point(lat, lon, 2.5e6)
    for _ in range(300):
        size = float(10 ** rng.uniform(-4, 1.3))
        west, south = float(rng.uniform(-180, 180 - size)), float(rng.uniform(-90, 90 - size))
        box(west, south, west + size, south + size)
    for south in (-80, -5, 60):  # across 180, cut there as the catalogue cuts them; the nadir is elsewhere
        halves = (
            f"(({170} {south},180 {south},180 {south + 10},170 {south + 10},170 {south}))",
            f"((-180 {south},-175 {south},-175 {south + 10},-180 {south + 10},-180 {south}))",
        )
        rows.append(("POINT(0 0)", f"MULTIPOLYGON({','.join(halves)})", 0.0))
    for sign in (-1, 1):  # over a pole
        ring = ",".join(f"{lon} {sign * 80}" for lon in (*range(-180, 180, 30), -180))
        rows.append((None, f"MULTIPOLYGON((({ring})))", 0.0))
    rows += [(None, None, 0.0), (None, None, 2.5e6), (None, None, 1e3)]  # without any place
    return rows


def moments(rng: np.random.Generator, count: int) -> list[datetime | None]:
    """When each was taken: some at the same midnight, some never dated."""
    start = datetime(2001, 1, 1, tzinfo=UTC)
    days = rng.integers(0, 4000, count)
    return [None if i % 3 == 0 else start + timedelta(days=int(day)) for i, day in enumerate(days)]


@pytest.fixture(scope="module")
def world(server: str, template: str) -> Iterator[World]:
    """A database of its own for the whole module: nothing in these modules changes it."""
    from geosearch.database.connection import connect
    from geosearch.database.spaces import create_space

    name = f"gsworld_{uuid.uuid4().hex[:12]}"
    identifiers = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {name} owner geosearch template {template}").format(**identifiers))
    try:
        url = make_conninfo(server, dbname=name, user="geosearch", password="geosearch")
        with connect(url, autocommit=True) as conn:
            rng = np.random.default_rng(20)
            places = awkward_places(rng)
            for archive in ("odd", "even"):
                conn.execute("insert into geosearch.archive (name) values (%s)", [archive])
            create_space(conn, "toy", DIMENSION)
            with conn.cursor() as cursor:
                cursor.executemany(
                    "insert into geosearch.image (archive_id, name, nadir, footprint, reach_m, captured_at, properties)"
                    " select a.id, %s, st_geogfromtext(%s), st_geogfromtext(%s), %s, %s, %s"
                    " from geosearch.archive a where a.name = %s",
                    [
                        (f"p{i:05}", *place, moment, Jsonb({"camera": f"D{i % 7}"}), ("even", "odd")[i % 2])
                        for i, (place, moment) in enumerate(zip(places, moments(rng, len(places)), strict=True))
                    ],
                )
            ids = np.array([row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()])
            vectors = rng.standard_normal((len(ids), DIMENSION)) * 10 ** rng.uniform(-1, 1, (len(ids), 1))
            vectors[5:25] = vectors[5]  # equal similarities
            half = vectors.astype(np.float16)
            with conn.cursor().copy(
                "copy geosearch.space_toy (image_id, embedding) from stdin with (format binary)"
            ) as copy:
                copy.set_types(["int8", "halfvec"])
                for image_id, vector in zip(ids, half, strict=True):
                    copy.write_row((int(image_id), HalfVector(vector)))
            conn.execute("analyze geosearch.image, geosearch.space_toy")
            counted = conn.execute("select geosearch.count_cells('toy')").fetchone()
            assert counted == (len(ids),)
            yield World(conn, url, ids, half.astype(np.float64))
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {name} with (force)").format(**identifiers))
