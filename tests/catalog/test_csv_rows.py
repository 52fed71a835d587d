"""Rows of broken CSV files: each fault costs its own row."""

from __future__ import annotations

from pathlib import Path

import pytest

from geosearch.catalog.csv_rows import CsvRows
from geosearch.errors import CatalogError


def rows_of(path: Path, size: int = 3) -> tuple[list[list[str]], list[int], dict[int, str]]:
    table = CsvRows(path)
    rows, lines, rejects = [], [], {}
    for block in table.blocks(size):
        rows += block.rows
        lines += block.lines
        rejects |= {reject.line: reject.reason for reject in block.rejects}
    table.close()
    return rows, lines, rejects


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return path


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows, lines, rejects = rows_of(written(tmp_path, b'a,b\n1,2\n\n"x\ny",3\r\n4,5'))
    assert rows == [["1", "2"], ["x\ny", "3"], ["4", "5"]]
    assert lines == [2, 4, 6]
    assert not rejects


@pytest.mark.parametrize("delimiter", [b",", b";", b"\t", b"|"])
def test_the_delimiter_is_the_header_s(tmp_path: Path, delimiter: bytes) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + delimiter.join([b"a", b"b"]) + b"\n" + delimiter.join([b"1", b"2"]))
    table = CsvRows(path)
    table.close()
    assert table.header == ["a", "b"]
    assert rows_of(path)[0] == [["1", "2"]]


def test_each_fault_costs_its_own_row(tmp_path: Path) -> None:
    content = b"a,b\n1,2\n1,2,3\nonly\n\xff\xfe,4\nx\x00y,5\n6,7\n"
    rows, lines, rejects = rows_of(written(tmp_path, content), size=100)
    assert rows == [["1", "2"], ["6", "7"]]
    assert lines == [2, 7]
    assert sorted(rejects) == [3, 4, 5, 6]
    assert "3 values where the header has 2" in rejects[3]
    assert "UTF-8" in rejects[5]
    assert "NUL" in rejects[6]


def test_a_quote_never_closed_does_not_swallow_the_rest(tmp_path: Path) -> None:
    good = b"".join(b"%d,%d\n" % (i, i) for i in range(40_000))
    rows, lines, rejects = rows_of(written(tmp_path, b'a,b\n"open,1\n' + good), size=1000)
    assert len(rows) == 40_000
    assert lines[0] == 3
    assert list(rejects) == [2]
    last_rows, _, last = rows_of(written(tmp_path, b'a,b\n1,2\n"open,1\n3,4\n'))
    assert last_rows == [["1", "2"], ["3", "4"]]
    assert "quotation mark" in last[3]


@pytest.mark.parametrize("tail", [b"", b"\n"])
def test_a_quote_never_closed_in_the_last_column(tail: bytes, tmp_path: Path) -> None:
    rows, lines, rejects = rows_of(written(tmp_path, b'a,b\n1,"x\ny"\n2,"open\n3,4\n5,6' + tail))
    assert rows == [["1", "x\ny"], ["3", "4"], ["5", "6"]]
    assert lines == [2, 5, 6]
    assert list(rejects) == [4]
    alone, _, rejects = rows_of(written(tmp_path, b'a,b\n1,2\n3,"open' + tail))
    assert alone == [["1", "2"]]
    assert "quotation mark is opened and not closed" in rejects[3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n1,2\n", "empty line"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b"a,b,a\n", "two columns named a"),
        (b"a,\xff\n", "not UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(CatalogError, match=message) as caught:
        CsvRows(path)
    assert str(path) in str(caught.value)
