"""Files: published banks, samples of places, and files of places to be embedded."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_bank import random_bank, random_places

from geosearch.errors import InputError
from geosearch.geometry import unit_vectors
from geosearch.range.build import thinned
from geosearch.range.npz import read_npz
from geosearch.range.places_file import open_places
from geosearch.range.sample import sample_size, systematic


def published(path: Path, **changed: Any) -> Path:
    """Write a bank in the layout of the paper's code: longitude first."""
    bank = random_bank(8, 4, 5)
    arrays = {
        "locs": np.stack([bank.lon, bank.lat], 1),
        "image_embeddings": bank.values,
        "satclip_embeddings": bank.keys * 2,
    }
    np.savez(path, **{name: array for name, array in {**arrays, **changed}.items() if array is not None})
    return path


def test_a_published_file_has_longitude_first(tmp_path: Path) -> None:
    found = read_npz(published(tmp_path / "bank.npz"), "mini-location", "paper", key_model="SatCLIP")
    truth = random_bank(8, 4, 5)
    np.testing.assert_array_equal((found.lat, found.lon), (truth.lat, truth.lon))
    np.testing.assert_allclose(found.keys, truth.keys, rtol=1e-6)
    np.testing.assert_array_equal(found.values, truth.values)
    assert (found.name, found.encoder, found.key_model, found.source) == (
        "paper",
        "mini-location",
        "SatCLIP",
        "bank.npz",
    )


def test_swapped_columns_are_refused_with_the_row(tmp_path: Path) -> None:
    swapped = np.array([[10.0, 20], [48, 100], [-33, 151]] + [[1, 2]] * 5)
    with pytest.raises(InputError, match=r"row 1 of locs is longitude 48\.0, latitude 100\.0.*swap the columns"):
        read_npz(published(tmp_path / "a.npz", locs=swapped), "e")
    beyond = np.array([[170.0, 20], [120, 91]] + [[1, 2]] * 6)
    with pytest.raises(InputError, match=r"row 1 of locs is longitude 120\.0, latitude 91\.0") as error:
        read_npz(published(tmp_path / "b.npz", locs=beyond), "e")
    assert "swap the columns" not in str(error.value)


def test_what_is_no_bank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="satclip_embeddings holds Python objects, which are never loaded"):
        read_npz(published(tmp_path / "o.npz", satclip_embeddings=np.array([{}] * 8, object)), "e")
    with pytest.raises(InputError, match="has no array image_embeddings; it has locs"):
        read_npz(published(tmp_path / "m.npz", image_embeddings=None), "e")
    with pytest.raises(InputError, match=r"m2\.npz: 8 latitudes, but 7 values"):
        read_npz(published(tmp_path / "m2.npz", image_embeddings=np.ones((7, 5))), "e")
    bad = np.ones((8, 5))
    bad[6, 2] = np.nan
    with pytest.raises(InputError, match="row 6: its value holds NaN"):
        read_npz(published(tmp_path / "n.npz", image_embeddings=bad), "e")
    whole = published(tmp_path / "w.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="is it whole"):
        read_npz(tmp_path / "cut.npz", "e")
    (tmp_path / "text.npz").write_text("no bank")
    with pytest.raises(InputError, match="is no npz file"):
        read_npz(tmp_path / "text.npz", "e")
    with pytest.raises(InputError, match="cannot be read"):
        read_npz(tmp_path / "gone.npz", "e")


def entry(shape: str) -> bytes:
    """The head of an npy file that says this of its shape, and nothing after it."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "locs is no array of numpy"),
        (entry("(1000000000000, 2)"), "cannot be read as npz"),
        (entry("(" * 99), "cannot be read as npz"),
        (entry("__import__('os').abort()"), "cannot be read as npz"),
    ],
    ids=["no array", "16 terabytes", "open brackets", "code"],
)
def test_entries_that_lie_are_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = published(tmp_path / "a.npz", locs=None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("locs.npy", content)
    with pytest.raises(InputError, match=words):
        read_npz(path, "e")


@pytest.mark.parametrize("kind", [complex, "M8[s]", str])
def test_places_that_are_no_numbers_are_refused(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"locs are numbers, not"):
        read_npz(published(tmp_path / "a.npz", locs=np.ones((8, 2), int).astype(kind)), "e")


def test_a_sample_is_exact_stratified_and_seeded() -> None:
    lat, lon = random_places(np.random.default_rng(0), 20_000)
    rows = systematic(lat, lon, 2000, seed=1)
    assert len(np.unique(rows)) == 2000
    np.testing.assert_array_equal(rows, systematic(lat, lon, 2000, seed=1))
    assert len(np.intersect1d(rows, systematic(lat, lon, 2000, seed=2))) < 500
    # In each of 24 parts of the sphere a tenth: a plain random sample would stray by some 9 of 83.
    octant = (unit_vectors(lat, lon) > 0) @ [1, 2, 4] * 3 + np.abs(unit_vectors(lat, lon)).argmax(1)
    taken = np.bincount(octant[rows], minlength=24)
    assert np.abs(taken - np.bincount(octant, minlength=24) / 10).max() < 12
    assert np.std(taken - np.bincount(octant, minlength=24) / 10) < 4


def test_sizes_of_samples() -> None:
    assert [sample_size(n, f) for n, f in ((100, 0.1), (7, 0.5), (3, 0.001), (9, 1))] == [10, 4, 1, 9]
    for fraction in (0.0, 1.1, -1.0, float("nan")):
        with pytest.raises(InputError, match="a fraction of the places"):
            sample_size(10, fraction)
    bank = random_bank(100)
    some = thinned(bank, 0.25, 3)
    assert len(some) == 25
    assert some.properties == {"fraction": 0.25, "seed": 3, "candidates": 100}
    assert thinned(bank, 1.0) is bank


CSV = "\ufeffName;Latitude;Lng\nhere;10.5;20\n;95;20\nthere;;1\nodd;abc;1\nshort;1\nlast;-90;180\n"


def test_csv_keeps_every_row_and_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "places.csv"
    path.write_text(CSV, "utf-8")
    with open_places(path, block=4) as file:
        blocks = list(file.blocks)
    assert file.schema.names == ["Name", "Latitude", "Lng"]
    assert [len(block.lat) for block in blocks] == [4, 2]
    rows = [row for block in blocks for row in block.columns.to_pylist()]
    assert [row["Name"] for row in rows] == ["here", "", "there", "odd", None, "last"]
    np.testing.assert_array_equal(blocks[0].lat, [10.5, 0, 0, 0])
    assert blocks[0].problems == {
        1: "latitude 95 is not within -90 … 90; are latitude and longitude swapped?",
        2: "no latitude",
        3: "Latitude: 'abc' is not a number",
    }
    assert blocks[1].problems == {0: "line 6: 2 values where the header has 3"}
    assert (blocks[1].lat[1], blocks[1].lon[1]) == (-90, 180)


def test_parquet_keeps_types_and_nulls(tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([7, 8, 9], pa.int32()), "y": [1.0, None, float("nan")], "x": [2, 3, 4]})
    pq.write_table(table, tmp_path / "p.parquet")
    with open_places(tmp_path / "p.parquet") as file:
        assert file.rows == 3
        block = next(file.blocks)
    assert block.problems == {1: "no latitude", 2: "no latitude"}
    assert block.columns.schema.field("id").type == pa.int32()
    with open_places(tmp_path / "p.parquet", lat="x", lon="y") as named:
        assert next(named.blocks).lat.tolist() == [2, 0, 0]


def test_a_layer_of_points_in_another_system_of_reference(tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "properties": {"n": i}, "geometry": geometry}
        for i, geometry in enumerate(
            [
                {"type": "Point", "coordinates": [1113194.9079327357, 1118889.9748579597]},  # 10 E, 10 N
                {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
            ]
        )
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}}
    path = tmp_path / "points.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    with open_places(path) as file:
        block = next(file.blocks)
    assert file.schema.names == ["n"]
    np.testing.assert_allclose((block.lat[0], block.lon[0]), (10, 10), atol=1e-9)
    assert block.problems == {1: "the feature is no point but a LineString; take its centroid"}


def layer(path: Path, name: str, shapes: list[object], **options: object) -> Path:
    import pyogrio
    import shapely

    geometry = None if options.get("geometry_type") is None and not shapes else shapely.to_wkb(np.array(shapes))
    n = len(shapes) or 2
    kind = options.pop("geometry_type", None)
    pyogrio.raw.write(
        path, geometry, [np.arange(n)], ["n"], layer=name, geometry_type=kind, crs="EPSG:4326" if kind else None,
        append=path.exists(),
    )  # fmt: skip
    return path


def test_multipoints_of_one_point_are_points(tmp_path: Path) -> None:
    import shapely

    shapes = [
        shapely.MultiPoint([(8, 47)]),
        shapely.MultiPoint([(8, 47), (9, 47)]),
        None,
        shapely.MultiPoint([(3, 95)]),
    ]
    with open_places(layer(tmp_path / "m.gpkg", "m", shapes, geometry_type="MultiPoint")) as file:
        block = next(file.blocks)
    assert (block.lat[0], block.lon[0]) == (47, 8)
    assert block.problems == {
        1: "the feature is no point but a MultiPoint; take its centroid",
        2: "the feature has no geometry",
        3: "latitude 95 is not within -90 … 90; are latitude and longitude swapped?",
    }


def test_which_layer_is_read_is_never_guessed(tmp_path: Path) -> None:
    import shapely

    path = layer(tmp_path / "two.gpkg", "first", [shapely.Point(8, 47)], geometry_type="Point")
    layer(path, "second", [shapely.Point(1, 2)] * 3, geometry_type="Point")
    with pytest.raises(InputError, match="several layers: first, second; choose one: --layer first"):
        open_places(path)
    with pytest.raises(InputError, match="no layer 'third' with a geometry; it has first, second"):
        open_places(path, layer="third")
    with open_places(path, layer="second") as file:
        assert (file.rows, next(file.blocks).lat.tolist()) == (3, [2, 2, 2])
    with pytest.raises(InputError, match="places of a layer are its points, not columns; leave out --lat and --lon"):
        open_places(path, lat="n", lon="n", layer="second")
    (tmp_path / "p.csv").write_text("lat,lon\n1,2\n")
    with pytest.raises(InputError, match="has no layers; leave out --layer"):
        open_places(tmp_path / "p.csv", layer="second")


def test_a_table_without_geometry_is_no_layer_of_points(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no geometry; export it as CSV"):
        open_places(layer(tmp_path / "plain.gpkg", "plain", []))


def test_columns_that_look_swapped_are_said_to(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lat,lon\n147,8.5\n-95.5,40\n147,100\n8,47\n")
    with open_places(tmp_path / "p.csv") as file:
        problems = next(file.blocks).problems
    assert problems[0] == "latitude 147 is not within -90 … 90; are latitude and longitude swapped?"
    assert problems[2] == "latitude 147 is not within -90 … 90"
    assert list(problems) == [0, 1, 2]


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    def write(text: str) -> Path:
        path = tmp_path / "p.csv"
        path.write_text(text)
        return path

    with pytest.raises(InputError, match=r"no column for the latitude .*it has a, lon.*--lat COLUMN --lon COLUMN"):
        open_places(write("a,lon\n1,2\n"))
    with pytest.raises(InputError, match="has no column 'b'; it has a, lon"):
        open_places(write("a,lon\n1,2\n"), lat="b", lon="lon")
    with pytest.raises(InputError, match="both column 'a'"):
        open_places(write("a,lon\n1,2\n"), lat="a", lon="a")
    with pytest.raises(InputError, match="name both columns"):
        open_places(write("a,lon\n1,2\n"), lat="a")
    with pytest.raises(InputError, match="has a column 'embedding'"):
        open_places(write("lat,lon,embedding\n1,2,3\n"))
    with pytest.raises(InputError, match="is empty"):
        open_places(write(""))
    pq.write_table(pa.table({"lat": ["1"], "lon": [2.0]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'lat' is string; degrees are numbers"):
        open_places(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="cannot be read"):
        open_places(tmp_path / "gone.csv")
    for names in (["lat", "lat", "lon"], ["lat", "a", "lon", "a"]):
        columns = [pa.array([1.0])] * len(names)
        pq.write_table(pa.Table.from_arrays(columns, names=names), tmp_path / "twice.parquet")
        with pytest.raises(InputError, match=r"two columns named (lat|a); rename one"):
            open_places(tmp_path / "twice.parquet")


def test_columns_without_a_name_get_one_that_is_free(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("lat,lon,,column_3,\n1,2,x,y,z\n")
    with open_places(tmp_path / "p.csv") as file:
        assert next(file.blocks).columns.to_pydict() == {
            "lat": ["1"], "lon": ["2"], "column_4": ["x"], "column_3": ["y"], "column_5": ["z"]
        }  # fmt: skip
