"""Fixtures that write sources."""

from __future__ import annotations

import csv
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql


@pytest.fixture(scope="session")
def postgis(server: str) -> Iterator[psycopg.Connection]:
    """A connection to a database that has PostGIS and nothing else, for tests that only measure."""
    name = f"gspostgis_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            with psycopg.connect(server, dbname=name, autocommit=True) as conn:
                conn.execute("create extension postgis")
                yield conn
        finally:
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Write rows under a header as CSV and return the path."""

    def write(header: Sequence[str], rows: Sequence[Sequence[Any]], name: str = "table.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        return path

    return write


@pytest.fixture
def write_tif(tmp_path: Path) -> Callable[..., Path]:
    """Write a GeoTIFF of random pixels and return its path."""
    import rasterio
    from rasterio.transform import Affine

    def write(
        name: str = "a.tif", crs: str | None = "EPSG:32633", transform: Any = None, pixels: Any = None, **options: Any
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (
            np.random.default_rng(1).integers(1, 255, (1, 64, 64), np.uint8) if pixels is None else np.asarray(pixels)
        )
        place = transform or Affine(10, 0, 500_000, 0, -10, 5_000_000)
        profile = {"driver": "GTiff", "count": data.shape[0], "height": data.shape[1], "width": data.shape[2]}
        with rasterio.open(path, "w", dtype=data.dtype, crs=crs, transform=place, **profile, **options) as raster:
            raster.write(data)
        return path

    return write
