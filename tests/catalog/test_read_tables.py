"""Readers `table` and `iss`: columns found, values checked, the rest kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalog_helpers import ISS_HEADER, iss_row

from geosearch.catalog import read_iss, read_table
from geosearch.catalog.batch import Batch, Record, Reject, from_records
from geosearch.catalog.columns import json_objects, numbers
from geosearch.catalog.options import Options
from geosearch.errors import CatalogError, InputError

Write = Callable[..., Path]


def read_all(module: Any, path: Path, **options: Any) -> tuple[Batch, list[Reject]]:
    batches = list(module.read(path, Options(**options)))
    assert len(batches) == 1
    return batches[0], batches[0].rejects


def test_a_plain_table(write_csv: Write) -> None:
    path = write_csv(
        ["Name", "LATITUDE", "lon", "date", "url", "cloud", "note"],
        [["a", "1.5", "-2", "2020-01-02T03:04:05Z", "https://example.org/a.jpg", "0.25", 'say "hi"\n'],
         ["b", " 3 ", "4e0", "", "", "007", ""]],
    )  # fmt: skip
    batch, rejects = read_all(read_table, path)
    assert batch.name == ["a", "b"]
    assert batch.nadir.tolist() == [[1.5, -2], [3, 4]]
    assert batch.captured_at == ["2020-01-02T03:04:05+00:00", None]
    assert batch.uri == ["https://example.org/a.jpg", None]
    # A number stays a number; leading zeros are a name, not a number; empty values are left out.
    assert [json.loads(p) for p in batch.properties] == [{"cloud": 0.25, "note": 'say "hi"\n'}, {"cloud": "007"}]
    assert batch.line.tolist() == [2, 4]  # the quoted line break counts
    assert not rejects


def test_columns_are_mapped_by_option_and_names_by_line(write_csv: Write) -> None:
    path = write_csv(["north_south", "east_west", "title"], [["10", "20", "x"]])
    mapped = {"lat": "north_south", "lon": "east_west", "name": "@line"}
    batch, _ = read_all(read_table, path, columns=mapped)
    assert batch.name == ["table:2"]
    assert json.loads(batch.properties[0]) == {"title": "x"}


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (["lat", "lon", "x"], {}, "no column for an image's name; its columns are lat, lon, x"),
        (["name", "lat", "x2"], {}, "no columns for a place"),
        (["name", "lat", "lon"], {"name": "nome"}, "has no column nome"),
        (["name", "lat", "lon"], {"colour": "name"}, "no part called colour"),
    ],
)
def test_wrong_columns_say_which_there_are(write_csv: Write, header: list, columns: dict, message: str) -> None:
    path = write_csv(header, [["1", "2", "3"]])
    with pytest.raises(CatalogError, match=message):
        next(read_table.read(path, Options(columns=columns)))


def test_wrong_rows_are_rejected_alone_with_line_and_reason(write_csv: Write) -> None:
    rows = [
        ["ok", "1", "2"], ["far", "95", "2"], ["word", "north", "2"], ["wide", "1", "200"], ["half", "1", ""],
        ["none", "", ""], ["inf", "inf", "1"], ["nan", "nan", "1"], ["comma", "45,5", "1"], ["off", "1", "500"],
        ["ok2", "-90", "180"],
    ]  # fmt: skip
    batch, rejects = read_all(read_table, write_csv(["name", "lat", "lon"], rows))
    assert batch.name == ["ok", "ok2"]
    assert {r.name: r.line for r in rejects} == {
        "far": 3, "word": 4, "wide": 5, "half": 6, "none": 7, "inf": 8, "nan": 9, "comma": 10, "off": 11
    }  # fmt: skip
    reasons = {r.name: r.reason for r in rejects}
    assert "latitude 95 is outside -90 … 90" in reasons["far"]
    assert "'north' is not a number" in reasons["word"]
    assert "--longitudes 360" in reasons["wide"] and "--longitudes" not in reasons["off"]
    assert "only one of latitude and longitude" in reasons["half"]
    assert reasons["none"] == "no place is given"
    assert "not a finite number" in reasons["inf"] and "not a finite number" in reasons["nan"]
    assert "decimal point" in reasons["comma"]
    assert next(r.payload for r in rejects if r.name == "wide") == "wide,1,200"


def test_longitudes_to_360_only_when_said(write_csv: Write) -> None:
    path = write_csv(["name", "lat", "lon"], [["a", 1, 200], ["b", 1, 359.5], ["c", 1, 10], ["d", 1, -10]])
    batch, rejects = read_all(read_table, path, longitudes="360")
    assert batch.nadir[:, 1].tolist() == [-160, -0.5, 10]
    assert [r.name for r in rejects] == ["d"]
    with pytest.raises(InputError, match="180"):
        Options(longitudes="90")  # type: ignore[arg-type]


def test_boxes_in_a_table_become_footprints(write_csv: Write) -> None:
    path = write_csv(
        ["id", "west", "south", "east", "north"],
        [["tile", 10, 20, 13, 22], ["over", 179, 0, -179, 1], ["flat", 1, 1, 1, 2], ["high", 1, 1, 2, 95]],
    )
    batch, rejects = read_all(read_table, path)
    assert batch.name == ["tile", "over"]
    assert [shape.area for shape in batch.footprint] == pytest.approx([6, 2])
    assert len(batch.footprint[1].geoms) == 2
    assert {r.name: r.line for r in rejects} == {"flat": 4, "high": 5}


def test_boxes_counted_to_360(write_csv: Write) -> None:
    rows = [["all", 0, 0, 360, 1], ["over", 350, 0, 10, 1], ["west", 190, 0, 200, 1], ["minus", -10, 0, 10, 1]]
    batch, rejects = read_all(read_table, write_csv(["id", "west", "south", "east", "north"], rows), longitudes="360")
    assert [shape.area for shape in batch.footprint] == pytest.approx([360, 20, 10])
    assert batch.footprint[2].bounds == (-170, 0, -160, 1)
    assert [r.reason for r in rejects] == ["west -10 is outside 0 … 360"]


def test_files_are_found_by_name_and_missing_ones_flagged(write_csv: Write, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    (tmp_path / "pictures" / "deep" / "A.JPG").write_bytes(b"picture")
    path = write_csv(
        ["name", "lat", "lon", "uri"],
        [["a", 1, 2, "https://example.org/x/a.jpg"], ["b", 1, 2, "pictures/b.jpg"], ["c", 1, 2, "https://e.org/c.jpg"]],
    )
    batch, _ = read_all(read_table, path, files=tmp_path / "pictures")
    assert batch.uri[0] == str(tmp_path / "pictures" / "deep" / "A.JPG")
    assert batch.content_sha256[0] is not None and len(batch.content_sha256[0]) == 32
    assert batch.uri[1] == str(tmp_path / "pictures" / "b.jpg")
    assert batch.problems == [(), ("image file not found",), ()]
    assert batch.uri[2] == "https://e.org/c.jpg"


def test_an_unreadable_date_is_flagged_and_kept_as_written(write_csv: Write) -> None:
    path = write_csv(
        ["name", "lat", "lon", "date"], [["a", 1, 2, "last spring"], ["b", 1, 2, "2020-02-30"], ["c", 1, 2, "20200102"]]
    )
    batch, _ = read_all(read_table, path)
    assert batch.captured_at == [None, None, "2020-01-02T00:00:00+00:00"]
    assert batch.problems == [("unreadable date",), ("unreadable date",), ()]
    assert [json.loads(p) for p in batch.properties] == [{"date": "last spring"}, {"date": "2020-02-30"}, {}]


def test_iss_rows(write_csv: Write) -> None:
    path = write_csv(ISS_HEADER, [iss_row(1), iss_row(2, NADIR_LAT="", NADIR_LON=""), iss_row(3, LL_LON=12)])
    batch, rejects = read_all(read_iss, path)
    assert not rejects
    assert batch.name == ["ISS001-E-1", "ISS001-E-2", "ISS001-E-3"]
    assert batch.footprint[0].bounds == (20, 10, 21, 11)
    assert batch.captured_at[0] == "2020-01-02T00:00:00+00:00"
    assert np.isnan(batch.nadir[1]).all()
    assert json.loads(batch.properties[0]) == {
        "mission": "ISS001", "roll": "E", "frame": 1, "sq_km_area": 12000, "orientation": 0.0
    }  # fmt: skip


def test_doubtful_iss_rows_are_taken_and_wrong_ones_rejected(write_csv: Write) -> None:
    rows = [
        iss_row(1, UL_LAT=10.0, LL_LAT=11.0),  # bow tie
        iss_row(2, **dict.fromkeys(ISS_HEADER[:8], 5)),  # all corners in one place, but a nadir
        iss_row(3, YYYYMMDD="20201340"),
        iss_row(4, LR_LAT="x"),
        iss_row(5, LR_LAT=""),
        iss_row(6, UR_LON=190),
        iss_row(7, FRAME=""),
        iss_row(8, NADIR_LON=""),
        iss_row(9, **dict.fromkeys(ISS_HEADER[:8], "")),  # a nadir alone
        iss_row(10, **dict.fromkeys(ISS_HEADER[:8], ""), NADIR_LAT="", NADIR_LON=""),
    ]
    batch, rejects = read_all(read_iss, write_csv(ISS_HEADER, rows))
    assert dict(zip(batch.name, batch.problems, strict=True)) == {
        "ISS001-E-1": ("self-crossing footprint",), "ISS001-E-2": ("footprint without area",),
        "ISS001-E-3": ("unreadable date",), "ISS001-E-9": (),
    }  # fmt: skip
    assert [r.line for r in rejects] == [5, 6, 7, 8, 9, 11]
    assert "LR_LAT: 'x' is not a number" in rejects[0].reason


def test_an_iss_table_without_its_columns_says_which(write_csv: Write) -> None:
    with pytest.raises(CatalogError, match="it lacks UR_LAT, UR_LON, LR_LAT, LR_LON, MISSION"):
        next(read_iss.read(write_csv(ISS_HEADER[:4], []), Options()))


def test_numbers_and_json_columns() -> None:
    values, wrong = numbers(["1", "", " 2.5 ", "-0"])
    assert np.isnan(values[1]) and values[[0, 2, 3]].tolist() == [1, 2.5, 0] and not wrong
    values, wrong = numbers(["1", "5_1", "x"])
    assert sorted(wrong) == [1, 2] and "'5_1' is not a number" in wrong[1] and values[0] == 1
    rows = json_objects({"a": ["1e5", "1e999", "-", "\u2028é\\"], "b": ["", "x", "", ""]}, 4)
    assert [json.loads(row) for row in rows] == [{"a": 1e5}, {"a": "1e999", "b": "x"}, {"a": "-"}, {"a": "\u2028é\\"}]
    assert json_objects({}, 2) == ["{}", "{}"]
    assert json_objects({"a": ["x", "", "y"]}, 3) == ['{"a": "x"}', "{}", '{"a": "y"}']
    assert json_objects({"a": ["", ""], "é": ["", "1"]}, 2) == ["{}", '{"é": 1}']


def test_a_row_whose_further_columns_are_all_empty_keeps_its_place(write_csv: Write) -> None:
    path = write_csv(["name", "lat", "lon", "note"], [["a", 1, 2, ""], ["b", 3, 4, "of b"], ["c", 95, 6, ""]])
    batch, rejects = read_all(read_table, path)
    assert dict(zip(batch.name, batch.properties, strict=True)) == {"a": "{}", "b": '{"note": "of b"}'}
    assert [reject.name for reject in rejects] == ["c"]


def test_a_batch_whose_columns_differ_in_length_is_a_defect() -> None:
    batch = from_records([Record("a"), Record("b")], [])
    with pytest.raises(ValueError, match=r"columns of a batch of 2 rows differ: properties 1"):
        replace(batch, properties=["{}"])
