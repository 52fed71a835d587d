"""Which tiles a photograph shows: by hand, against PostGIS, across the antimeridian."""

import json

import pytest

from geosearch.catalog.ingest import add
from geosearch.demo import archive, truth


def square(lon, lat, side=1.0):
    ring = [[lon, lat], [lon + side, lat], [lon + side, lat + side], [lon, lat + side], [lon, lat]]
    return {"type": "Polygon", "coordinates": [ring]}


def test_overlap_is_an_area_and_not_a_shared_border():
    areas = truth.overlaps_m2(square(10, 0), [square(10.5, 0.5), square(11, 0), square(10, 1), square(30, 0)])
    # A quarter of a square of one degree.
    assert areas[0] == pytest.approx((0.5 * 111_195) ** 2, rel=1e-3)
    assert areas[1] < truth.LEAST_M2
    assert areas[3] == 0


def test_pieces_cut_at_the_antimeridian_are_one_footprint():
    east, west = square(179, -17)["coordinates"], square(-180, -17)["coordinates"]
    split = {"type": "MultiPolygon", "coordinates": [east, west]}
    whole = truth.overlaps_m2(square(179.5, -16.75, 0.5), [split])[0]
    half = truth.overlaps_m2(square(179.5, -16.75, 0.5), [{"type": "Polygon", "coordinates": east}])[0]
    assert whole == pytest.approx(half, rel=1e-6)
    across = {
        "type": "Polygon",
        "coordinates": [[[179.5, -17], [-179.5, -17], [-179.5, -16], [179.5, -16], [179.5, -17]]],
    }
    areas = truth.overlaps_m2(across, [split, {"type": "Polygon", "coordinates": east}])
    assert areas[1] == pytest.approx(areas[0] / 2, rel=1e-6)


def test_the_truth_is_that_of_postgis(conn, tiles, tile_folder, planned):
    counts = add(conn, tile_folder / archive.INDEX, "tiles", "vector")
    assert (counts.added, counts.rejected, counts.flagged) == (len(tiles), 0, 0)
    shapes = {n: {"type": "Polygon", "coordinates": [r]} for n, r in zip(planned.name, planned.footprint, strict=True)}
    found = truth.relevant(conn, "tiles", shapes)
    assert any(found.values())
    for name, shape in shapes.items():
        rows = conn.execute(
            "select id from geosearch.image"
            " where st_area(st_intersection(footprint, st_geomfromgeojson(%s)::geography)) > 1e4",
            [json.dumps(shape)],
        ).fetchall()
        assert found[name] == {row[0] for row in rows}
