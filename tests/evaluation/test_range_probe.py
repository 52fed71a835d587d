"""Linear probes: the published temperature rows, the splits, the tables that are read."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from geosearch.errors import InputError
from geosearch.evaluation import extra
from geosearch.evaluation.probe import blocked_split, cells, nearest_place, probe, random_split
from geosearch.evaluation.probe_table import Table, read_table
from geosearch.evaluation.ways import encoder_way
from geosearch.geometry import angle, unit_vectors


@pytest.fixture(scope="module")
def stations(shared_data: Path) -> Table:
    return read_table(shared_data / "stations" / "air_temperature.csv", "Lat", "Lon", "meanT")


def test_the_published_split() -> None:
    split = random_split(3076)
    assert (len(split.train), len(split.test)) == (2461, 615)
    assert split.train[:5].tolist() == [278, 993, 458, 2969, 2158]
    assert sorted([*split.train, *split.test]) == list(range(3076))


@pytest.mark.parametrize(("encoding", "published"), [("direct", 0.381), ("unit vector", 0.362), ("wrap", 0.861)])
def test_published_rows_of_temperature(stations: Table, encoding: str, published: float) -> None:
    phi, lam = np.radians(stations.lat), np.radians(stations.lon)
    features = {
        "direct": np.c_[stations.lat, stations.lon],
        "unit vector": unit_vectors(stations.lat, stations.lon),
        "wrap": np.c_[np.sin(phi), np.cos(phi), np.sin(lam), np.cos(lam)],
    }[encoding]
    score = probe(features, stations.target, random_split(len(stations)))
    assert round(score.value, 3) == published
    assert (score.train, score.test, score.unseen) == (2461, 615, 0)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("coordinates:direct", 0.381),
        ("coordinates:unit-vector", 0.362),
        ("coordinates:wrap", 0.861),
        ("coordinates:theory", 0.849),
    ],
)
def test_published_rows_of_the_registrys_encoders(stations: Table, name: str, published: float) -> None:
    features = encoder_way(name).encode(stations.lat, stations.lon)
    assert round(probe(features, stations.target, random_split(len(stations))).value, 3) == published


def test_a_blocked_split_has_no_cell_on_both_sides() -> None:
    rng = np.random.default_rng(5)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 5000))), rng.uniform(-180, 180, 5000)
    seen: list[int] = []
    for fold in range(5):
        split = blocked_split(lat, lon, fold)
        squares = np.stack([np.floor(lat / 10), np.floor(lon / 10)], 1)
        train = {tuple(s) for s in squares[split.train].tolist()}
        assert train.isdisjoint(tuple(s) for s in squares[split.test].tolist())
        assert 0.1 < len(split.test) / 5000 < 0.3
        seen += split.test.tolist()
    assert sorted(seen) == list(range(5000))  # each row is judged once


def test_the_same_ground_is_left_out_whatever_the_table() -> None:
    rng = np.random.default_rng(6)
    lat, lon = rng.uniform(-90, 90, 3000), rng.uniform(-180, 180, 3000)
    out = set(cells(lat, lon)[blocked_split(lat, lon).test].tolist())
    some = rng.permutation(3000)[:900]
    assert set(cells(lat[some], lon[some])[blocked_split(lat[some], lon[some]).test].tolist()) <= out


def test_cells_at_the_edges() -> None:
    assert cells([90, 89.9, -90], [180, -180, -180]).tolist() == [17 * 36, 17 * 36, 0]


def test_a_probe_finds_a_straight_line_and_no_more() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1000, 4))
    split = random_split(1000)
    assert probe(x, x @ [1, -2, 3, 0.5], split).value > 0.999
    assert probe(x, rng.normal(size=1000), split).value < 0.05


def test_classes_and_those_that_were_never_seen() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(500, 3))
    label = np.where(x[:, 0] > 0, "east", "west").astype("<U8")
    split = random_split(500)
    label[split.test[:5]] = "nowhere"
    score = probe(x, label, split, classes=True)
    assert score.unseen == 5
    assert 0.9 < score.value <= 0.95


def test_the_nearest_place_is_nearest_on_the_sphere() -> None:
    rng = np.random.default_rng(9)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, 400))), rng.uniform(-180, 180, 400)
    split, points = random_split(400), unit_vectors(lat, lon)
    away = angle(points[split.test][:, None], points[split.train][None])
    target = np.arange(400).astype(str)
    right = target.copy()
    right[split.test] = target[split.train[away.argmin(1)]]
    assert nearest_place(lat, lon, right, split, classes=True).value == 1.0
    smooth = points @ [1.0, 2.0, 3.0]
    guess, truth = smooth[split.train[away.argmin(1)]], smooth[split.test]
    r2 = 1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    assert nearest_place(lat, lon, smooth, split).value == pytest.approx(r2)


def test_rows_without_numbers_are_counted_and_named(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    good = "".join(f"{i % 90},{i},{i / 10}\n" for i in range(20))
    file.write_text("\ufefflat,lon,y\n" + good + "x,1,1\n5,,1\n95,1,1\n5,400,1\n5,5,nan\n5,5\n5,350,1\n", "utf-8")
    table = read_table(file, "lat", "lon", "y")
    assert len(table) == 21
    assert table.lon[-1] == -10
    assert list(table.left_out.values()) == [[27], [22], [23], [24], [25], [26]]
    assert table.remarks()[0] == "1 row left out, 2 values where the header has 3: line 27"


def test_no_row_is_read_wrongly_or_swallowed(tmp_path: Path) -> None:
    """A decimal comma shifts a row's values, a quote that is never closed takes the rows after it."""
    file = tmp_path / "table.csv"
    file.write_bytes(b'lat, lon,y,n\n1,5,2,3,x\n4,5,6,M\xfcnchen\n7,8,9,ok\n1_0,2,3,x\n1,2,3,"open\n10,11,12,last\n')
    table = read_table(file, "lat", "lon", "y")
    assert table.target.tolist() == [9, 12]
    assert sorted(row for rows in table.left_out.values() for row in rows) == [2, 3, 5, 6]
    file.write_text("lat;lon;y\n1;2;3\n")
    assert len(read_table(file, "lat", "lon", "y")) == 1


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    for content, words in (
        ("lat,lon,y\n1,2,3\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        (b"lat,lon,y,lat\n1,2,3,4\n", "two columns named lat"),
        (b"", "is empty"),
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_table(file, "lat", "lon", "y")
    with pytest.raises(InputError, match="latitude and longitude are both column 'lat'"):
        read_table(file, "lat", "lat", "y")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "gone.csv", "lat", "lon", "y")
    twice = pyarrow.Table.from_arrays([pyarrow.array([1.0])] * 4, names=["lat", "lon", "y", "lat"])
    pyarrow.parquet.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(InputError, match="has two columns 'lat'; rename one"):
        read_table(tmp_path / "t.parquet", "lat", "lon", "y")


def test_parquet_and_the_logarithm(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    columns = {"y": [10, 20, None, 30], "x": [1, 2, 3, 4], "people": [0.0, 9.0, 5.0, -2.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    table = read_table(file, "y", "x", "people", log1p=True)
    assert table.target.tolist() == pytest.approx([0, np.log(10)])
    assert table.left_out == {"no number in 'y'": [3], "log(1 + y) needs 'people' above −1": [4]}
    assert "row 3" in table.remarks()[0]


def test_classes_are_read_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("lat,lon,land\n1,1, Peru\n2,2,\n3,3,07\n")
    table = read_table(file, "lat", "lon", "land", classes=True)
    assert table.target.tolist() == ["Peru", "07"]
    assert table.left_out == {"nothing in 'land'": [3]}


def test_what_cannot_be_probed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "table.csv"
    file.write_text("lat,lon,y\n1,1,a\n")
    with pytest.raises(InputError, match="no column 'latitude'; it has: lat, lon, y"):
        read_table(file, "latitude", "lon", "y")
    with pytest.raises(InputError, match=r"no row can be used.*no number in 'y': line 2"):
        read_table(file, "lat", "lon", "y")
    with pytest.raises(InputError, match="10 and 2 are the least"):
        random_split(9)
    x = np.ones((50, 2))
    x[7] = np.nan
    with pytest.raises(InputError, match="first of row 7"):
        probe(x, np.arange(50), random_split(50))
    with pytest.raises(InputError, match="no class has ten"):
        probe(np.ones((50, 2)), np.arange(50).astype(str), random_split(50), classes=True)
    with pytest.raises(InputError, match="no fold 5"):
        blocked_split([0], [0], 5)

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name="sklearn")

    monkeypatch.setattr(extra, "import_module", missing)
    with pytest.raises(InputError, match=r"pip install 'geosearch\[evaluation\]'"):
        nearest_place([0.0], [0.0], [1], random_split(50))
