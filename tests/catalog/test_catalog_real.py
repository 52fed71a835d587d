"""Real archives: 17 763 photographs from the ISS, EuroSAT chips, Sentinel-2 patches, STAC items across ±180."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import psycopg
import pytest
import shapely

from geosearch.catalog.ingest import add
from geosearch.geometry import distance_m

# Photographs whose nadir lies within 2 500 km: (lat, lon), on the sphere, on the spheroid; and by footprint, spheroid.
REGIONS = {
    "Alps": (45, 10, 2394, 2392, 2439),
    "Texas": (30, -95, 6145, 6145, 6472),
    "Toshka Lakes": (23, 30, 2164, 2165, 2281),
    "Amazon": (-3, -60, 682, 688, 801),
    "Napa": (38, -122, 3569, 3553, 3597),
    "Gobi": (40, 105, 727, 723, 793),
}


def test_the_photographs_of_the_space_station(conn: psycopg.Connection, shared_data: Path) -> None:
    source = shared_data / "iss_photos" / "footprints.csv"
    first = add(conn, source, "iss")
    assert (first.reader, first.added, first.rejected, first.flagged) == ("iss", 17_763, 0, 10)
    again = add(conn, source, "iss")
    assert (again.unchanged, again.added, again.updated, again.rejected, again.flagged) == (17_763, 0, 0, 0, 10)

    kinds = conn.execute("select problems, count(*) from geosearch.image group by 1 order by 2").fetchall()
    assert kinds == [(["impossible nadir"], 10), ([], 17_753)]

    for name, (lat, lon, sphere, spheroid, footprint) in REGIONS.items():
        counts = conn.execute(
            """
            select count(*) filter (where st_dwithin(nadir, q, 2500000, false)),
                   count(*) filter (where st_dwithin(nadir, q, 2500000)),
                   count(*) filter (where st_dwithin(footprint, q, 2500000))
            from geosearch.image, lateral (select st_makepoint(%s, %s)::geography as q) as place
            """,
            [lon, lat],
        ).fetchone()
        assert counts == (sphere, spheroid, footprint), name

    # The table's own areas, computed by others: the 1st, 50th and 99th percentile of the ratio.
    ratio = conn.execute(
        "select percentile_cont(array[0.01, 0.5, 0.99]) within group"
        " (order by st_area(footprint) / 1e6 / (properties->>'sq_km_area')::float8) from geosearch.image"
    ).fetchone()
    assert ratio is not None
    assert ratio[0] == pytest.approx([0.993, 0.9976, 1.002], abs=5e-4)


def test_photographs_find_their_files(conn: psycopg.Connection, shared_data: Path) -> None:
    folder = shared_data / "iss_photos"
    add(conn, folder / "photos.csv", "photos", files=folder)
    found = conn.execute(
        "select count(*), count(content_sha256) from geosearch.image where uri like '%%.jpg'"
    ).fetchone()
    assert found == (8, 8)


@pytest.mark.parametrize(
    ("folder", "table", "file", "count", "point"),
    [
        # This table gives the middle of pixel (32, 32), half a pixel off the chip's own, rounded to 4 decimals.
        ("eurosat", "centres.csv", "file", 60, (32.5, 32.5)),
        ("ssl4eo", "index.csv", "fn", 8, (128, 128)),
    ],
)
def test_centres_of_rasters_are_those_of_their_tables(
    conn: psycopg.Connection,
    shared_data: Path,
    folder: str,
    table: str,
    file: str,
    count: int,
    point: tuple[float, float],
) -> None:
    counts = add(conn, shared_data / folder, folder)
    assert (counts.reader, counts.added, counts.rejected, counts.flagged) == ("geotiff", count, 0, 0)
    with (shared_data / folder / table).open() as rows:
        centres = {row[file]: (float(row["lat"]), float(row["lon"])) for row in csv.DictReader(rows)}
    shapes = conn.execute("select name, st_asbinary(footprint), properties from geosearch.image").fetchall()
    assert len(shapes) == count
    for name, wkb, properties in shapes:
        shape = shapely.from_wkb(bytes(wkb))
        east, south = _pixel_steps(shape, properties["width"], properties["height"])
        middle = np.array([shape.centroid.x, shape.centroid.y])
        found = middle + (point[0] - properties["width"] / 2) * east + (point[1] - properties["height"] / 2) * south
        assert found[::-1] == pytest.approx(centres[name], abs=1e-4), name
    conn.commit()
    assert add(conn, shared_data / folder, folder).unchanged == count


def _pixel_steps(shape: shapely.MultiPolygon, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Degrees (x, y) of one pixel to the east and to the south of a nearly rectangular footprint."""
    xy = shapely.get_coordinates(shape)
    north_west = xy[np.argmax(xy[:, 1] - xy[:, 0])]
    north_east = xy[np.argmax(xy[:, 1] + xy[:, 0])]
    south_west = xy[np.argmin(xy[:, 1] + xy[:, 0])]
    return (north_east - north_west) / width, (south_west - north_west) / height


def test_stac_items_resolve_to_the_chips(conn: psycopg.Connection, shared_data: Path) -> None:
    chips = shared_data / "eurosat"
    add(conn, chips, "tif")
    counts = add(conn, chips / "stac", "stac", files=chips, asset="raster")
    assert (counts.reader, counts.added, counts.rejected, counts.flagged) == ("stac", 60, 0, 0)
    pairs = conn.execute(
        """
        select count(*), max(st_distance(st_centroid(a.footprint), st_centroid(b.footprint)))
        from geosearch.image a join geosearch.image b on a.uri = b.uri and a.content_sha256 = b.content_sha256
        where a.archive_id < b.archive_id
        """
    ).fetchone()
    assert pairs is not None
    assert pairs[0] == 60
    assert pairs[1] < 15  # metres; a pixel is 10


def test_items_across_180_are_found_from_both_sides(conn: psycopg.Connection, shared_data: Path) -> None:
    counts = add(conn, shared_data / "stac", "stac")
    assert (counts.reader, counts.added, counts.rejected) == ("stac", 4, 0)
    near = "select name from geosearch.image where st_dwithin(footprint, st_makepoint(%s, %s)::geography, %s)"
    across = {"S2A_T01LAC_20200717T221944_L1C": -16, "S2A_T01WCP_20230625T234624_L2A": 66.2}
    for name, lat in across.items():
        for lon in (179.9, -179.9, 180, -180):
            assert conn.execute(near, [lon, lat, 0]).fetchall() == [(name,)], (name, lon)
        assert conn.execute(near, [0, lat, 1_000_000]).fetchall() == []
    touching = "S2B_OPER_MSI_L2A_TL_S2RP_20230315T224658_A018417_T01VCG"
    for lon in (-179.5, 179.99):
        assert conn.execute(near, [lon, 60.2, 20_000]).fetchall() == [(touching,)]
    # A Sentinel-2 tile is 110 km on a side.
    areas = dict(conn.execute("select name, st_area(footprint) / 1e6 from geosearch.image").fetchall())
    assert all(areas[name] == pytest.approx(110**2, rel=0.02) for name in across)


def test_countries_keep_their_shapes(conn: psycopg.Connection, shared_data: Path) -> None:
    counts = add(conn, shared_data / "boundaries" / "countries_110m.geojson", "countries")
    assert (counts.reader, counts.added, counts.rejected) == ("vector", 177, 0)
    inside = conn.execute(
        "select name from geosearch.image where st_intersects(footprint, st_makepoint(%s, %s)::geography)", [0, -90]
    ).fetchall()
    assert inside == [("Antarctica",)]
    total = conn.execute("select sum(st_area(footprint)) / 1e12 from geosearch.image").fetchone()
    assert total is not None
    assert total[0] == pytest.approx(147, rel=0.02)  # land of the Earth, lakes included, in million km²


def test_real_places(conn: psycopg.Connection, shared_data: Path) -> None:
    counts = add(conn, shared_data / "coordinates" / "coordinates_100K.csv", "places", columns={"name": "@line"})
    assert (counts.added, counts.rejected) == (100_000, 0)
    rows = np.loadtxt(shared_data / "coordinates" / "coordinates_100K.csv", delimiter=",", skiprows=1)
    near = int((distance_m(rows[:, 0], rows[:, 1], 46, 8) <= 500_000).sum())
    found = conn.execute(
        "select count(*) from geosearch.image where st_dwithin(nadir, st_makepoint(8, 46)::geography, 500000, false)"
    ).fetchone()
    assert found is not None
    assert abs(found[0] - near) <= 1
