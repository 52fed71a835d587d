"""Random and adversarial places, and what a test knows of a database that holds them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg

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
