"""A small archive with a space of four numbers, so that every answer can be told by hand."""

from __future__ import annotations

import pytest
from pgvector import HalfVector

from geosearch.database.archives import ensure_archive
from geosearch.database.spaces import create_space
from geosearch.search.client import Client

# name, archive, place (WKT), vector
IMAGES = [
    ("north", "atlas", "polygon((9 44, 11 44, 11 46, 9 46, 9 44))", [1, 0, 0, 0]),
    ("south", "atlas", "polygon((-61 -4, -59 -4, -59 -2, -61 -2, -61 -4))", [0.8, 0.6, 0, 0]),
    ("dateline", "atlas", "multipolygon(((179 -17, 180 -17, 180 -16, 179 -16, 179 -17)),"
     "((-180 -17, -179 -17, -179 -16, -180 -16, -180 -17)))", [0.6, 0.8, 0, 0]),
    ("photo", "crew", "point(12 45)", [0, 1, 0, 0]),
    ("north", "crew", "point(-100 30)", [0, 0, 1, 0]),
    ("nowhere", "crew", None, [0, 0, 0.6, 0.8]),
]  # fmt: skip


@pytest.fixture
def filled(conn):
    """The connection of a database that holds IMAGES in space `four`; returns (connection, ids by archive/name)."""
    create_space(conn, "four", 4)
    ids = {}
    for name, archive, place, vector in IMAGES:
        is_photo = place is None or place.startswith("point")
        row = conn.execute(
            "insert into geosearch.image (archive_id, name, uri, nadir, footprint, reach_m) values (%s, %s, %s,"
            " st_geogfromtext(%s), st_multi(st_geomfromtext(%s, 4326))::geography, %s) returning id",
            [
                ensure_archive(conn, archive),
                name,
                f"/gone/{name}.jpg",
                place if is_photo else None,
                None if is_photo else place,
                2.5e6 if is_photo else 0,
            ],
        ).fetchone()
        ids[f"{archive}/{name}"] = row[0]
        conn.execute(
            "insert into geosearch.space_four (image_id, embedding) values (%s, %s)", [row[0], HalfVector(vector)]
        )
    conn.commit()
    return conn, ids


@pytest.fixture
def client(filled, database_url):
    """A client of that database."""
    from geosearch.database.connection import connect

    with Client(connect(database_url, autocommit=True)) as opened:
        yield opened
