"""Tiles: where they lie, what they show, and that a run that stopped goes on."""

import json
from itertools import pairwise

import numpy as np
import pytest
import shapely
from PIL import Image

from geosearch.bluemarble import raster
from geosearch.demo import archive
from geosearch.errors import InputError
from geosearch.geometry import distance_m


@pytest.mark.parametrize("count", [40, 150, 4000])
def test_about_as_many_tiles_as_asked_each_with_its_own_name(count):
    tiles = archive.plan_tiles(count)
    assert len(tiles) == pytest.approx(count, rel=0.15)
    assert len(set(tiles.name)) == len(tiles)


def test_four_thousand_tiles_leave_no_gap_on_land():
    tiles = archive.plan_tiles(4000)
    rng = np.random.default_rng(1)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-0.8, 0.9, 3000))), rng.uniform(-180, 180, 3000)
    dry = raster.load().surface(lat, lon) == raster.LAND
    nearest = distance_m(lat[dry][:, None], lon[dry][:, None], tiles.lat, tiles.lon).min(1)
    # A corner of a tile lies 212 km from its middle.
    assert np.quantile(nearest, 0.99) < 160_000


@pytest.mark.parametrize("count", [0, -1, 50_001])
def test_impossible_counts_are_refused(count):
    with pytest.raises(InputError, match="1 … 50000"):
        archive.plan_tiles(count)


def test_tiles_show_the_ground_beneath_them(tiles, tile_folder):
    earth = raster.load()
    for i in range(0, len(tiles), 15):
        with Image.open(tile_folder / f"{tiles.name[i]}.jpg") as picture:
            assert picture.size == (archive.TILE_PIXELS, archive.TILE_PIXELS)
            middle = np.asarray(picture)[47:49, 47:49].reshape(-1, 3).mean(0)
        expected = earth.sample(tiles.lat[i : i + 1], tiles.lon[i : i + 1])[0]
        assert np.abs(middle - expected).max() < 30


def test_the_index_has_every_tile_with_its_file_and_its_sides_of_300_km(tiles, tile_folder):
    index = json.loads((tile_folder / archive.INDEX).read_text("utf-8"))
    assert [feature["properties"]["name"] for feature in index["features"]] == tiles.name
    for feature in index["features"]:
        assert (tile_folder / feature["properties"]["location"]).is_file()
        ring = feature["geometry"]["coordinates"][0]
        assert len(ring) == 5
        assert ring[0] == ring[-1]
        for (x0, y0), (x1, y1) in pairwise(ring):
            assert float(distance_m(y0, x0, y1, x1)) == pytest.approx(300_000, rel=1e-3)
    # Anticlockwise, as GeoJSON wants it, where no tile crosses the antimeridian.
    assert shapely.LinearRing(index["features"][len(tiles) // 2]["geometry"]["coordinates"][0]).is_ccw


def test_a_run_that_stopped_goes_on_and_leaves_what_is_there(tiles, tile_folder, tmp_path):
    class StopError(Exception):
        pass

    def stop(done, of):
        raise StopError

    with pytest.raises(StopError):
        archive.write_tiles(tmp_path, tiles, stop)
    first = sorted(tmp_path.glob("*.jpg"))
    assert 0 < len(first) < len(tiles)
    times = {path: path.stat().st_mtime_ns for path in first}
    archive.write_tiles(tmp_path, tiles)
    assert {path: path.stat().st_mtime_ns for path in first} == times
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in tile_folder.iterdir() if path.suffix != ".npz"}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    def half(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        archive.write_whole(tmp_path / "tile.jpg", half)
    assert list(tmp_path.iterdir()) == []
