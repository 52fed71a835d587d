"""The table of RANGE over a bank made by hand, banks' parts, and the commands."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geosearch_cli.main import app
from typer.testing import CliRunner

from geosearch.encoders import registry
from geosearch.encoders.base import ModelInfo
from geosearch.encoders.places import PlaceEncoderBase
from geosearch.errors import InputError, UnknownNameError
from geosearch.evaluation import banks, ways
from geosearch.evaluation.checkerboard import board, fibonacci
from geosearch.evaluation.probe_table import Table
from geosearch.evaluation.range_report import NEAREST, bank_table, facts, markdown, measure, measure_boards, splits_of
from geosearch.geometry import unit_vectors
from geosearch.range.bank import Bank
from geosearch.range.build import thinned


class Toy(PlaceEncoderBase):
    """Twenty smooth numbers of a place: a location encoder without weights."""

    def __init__(self) -> None:
        super().__init__(ModelInfo("toy", "toy", "1", "0" * 64, 20, "cosine", frozenset({"place"}), {}))

    def _embed(self, lat: Any, lon: Any) -> Any:
        return 3 * np.cos(unit_vectors(lat, lon) @ np.random.default_rng(0).normal(size=(3, 20)) * 2 + np.arange(20))


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> Bank:
    """400 places whose values are their unit vectors and noise, asked by the toy encoder."""
    toy, load = Toy(), registry.load
    monkeypatch.setattr(registry, "load", lambda name, *a, **k: toy if name == "toy" else load(name, *a, **k))
    lat, lon, _ = fibonacci(400)
    values = np.c_[unit_vectors(lat, lon), np.random.default_rng(1).normal(size=(400, 5))]
    return Bank.of("hand", "toy", lat, lon, toy.encode_places(lat, lon), values)


@pytest.fixture
def table() -> Table:
    lat, lon, _ = fibonacci(600)
    return Table("hand.csv", lat, lon, unit_vectors(lat, lon) @ [1.0, 2.0, -1.0], False)


def test_a_row_for_every_way(bank: Bank, table: Table) -> None:
    rows = list(measure(table, bank_table(bank, ["toy"]), splits_of(table)))
    names = [row["embedding"] for row in rows]
    assert names[:5] == [NEAREST, "toy", "RANGE", "RANGE+", "HAVER"]
    assert "RANGE, top 100" in names
    assert "RANGE+, mean of the top 100" in names
    assert sum(name.startswith("HAVER, ") for name in names) == 4  # 10, 25, 50 and 75 %
    assert len(rows) == 1 + 1 + 9 + 12
    by_name = {row["embedding"]: row for row in rows}
    assert by_name["toy"]["numbers"] == 20
    assert by_name["HAVER"]["numbers"] == 28  # [h ‖ q]
    # The values hold the target but for a straight line: averaged over near places they tell it.
    assert by_name["HAVER"]["random"] > 0.99
    assert set(rows[0]) == {"embedding", "numbers", "random", "blocked"}
    assert markdown(rows).splitlines()[2].startswith(f"| {NEAREST} | – | 0.9")


def test_haver_does_as_its_formula(bank: Bank) -> None:
    lat, lon = np.array([10.0, -80.0]), np.array([179.0, 3.0])
    weight = np.exp(40 * unit_vectors(lat, lon) @ unit_vectors(bank.lat, bank.lon).T)
    h = weight / weight.sum(1, keepdims=True) @ bank.values
    (way,) = ways.bank_ways(bank, ["haver"])
    assert way.encode(lat, lon)[:, :8] == pytest.approx(h, rel=1e-4, abs=1e-6)
    q = Toy().encode_places(lat, lon)
    assert way.encode(lat, lon)[:, 8:] == pytest.approx(q, rel=1e-5, abs=1e-6)
    assert ways.encoder_way("toy").encode(lat, lon) == pytest.approx(Toy().encode_places(lat, lon, normalise=False))


def test_modes_by_name() -> None:
    title, options = ways.retrieval("range")
    assert (title, options.beta, options.semantic_tau, options.mode) == ("RANGE", 1, 15, "soft")
    title, options = ways.retrieval("range+:topk", k=50)
    assert (title, options.beta, options.semantic_tau, options.mode, options.k) == (
        "RANGE+, top 50",
        0.5,
        12,
        "topk",
        50,
    )
    with pytest.raises(UnknownNameError, match="no mode is named 'range:best'"):
        ways.retrieval("range:best")


def test_part_of_a_bank_is_stratified(bank: Bank) -> None:
    for share in (0.1, 0.25, 0.5, 0.75):
        part = thinned(bank, share)
        assert len(part) == round(400 * share)
        assert len(set(part.lat)) == len(part)
        for south in range(-90, 90, 10):  # bands along the order give as many as their share
            whole, some = (((b.lat >= south) & (b.lat < south + 10)).sum() for b in (bank, part))
            assert abs(some - share * whole) < 2
    assert thinned(bank, 1.0).lat.tolist() == bank.lat.tolist()
    with pytest.raises(InputError, match="above 0"):
        thinned(bank, 0)


def test_finer_boards_are_harder(bank: Bank) -> None:
    boards = [board(n, samples=800) for n in (20, 200)]
    rows = list(measure_boards(boards, ways.beta_ways(bank, [0.0, 1.0])))
    assert [row["cells"] for row in rows] == [20, 200]
    assert set(rows[0]) == {"cells", "β = 0", "β = 1", NEAREST}
    assert rows[0]["β = 0"] > rows[1]["β = 0"]
    assert rows[0][NEAREST] > 0.8


def test_what_the_rows_are_about(table: Table) -> None:
    classes = Table("c.csv", table.lat, table.lon, np.where(table.lat > 0, "north", "south"), True, {"x": [7, 9]})
    about = facts(classes, splits_of(classes, "random"))
    assert about["figure"] == "accuracy"
    assert about["left out"] == 2
    assert about["random split"] == "480 to fit, 120 to judge"
    assert about["random split, rows of an unseen class"] == 0
    with pytest.raises(InputError, match="no split 'thirds'"):
        splits_of(table, "thirds")


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["evaluate", "range", *arguments])


def test_the_commands(bank: Bank, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banks, "stored", lambda name: bank)
    file = tmp_path / "table.csv"
    rows = zip(table.lat, table.lon, table.target, strict=True)
    file.write_text("lat,lon,y\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows) + "1,2,?\n")
    columns = ["--table", str(file), "--lat", "lat", "--lon", "lon", "--target", "y"]
    out = _run(
        "probe", *columns, "--encoder", "toy", "--bank", "hand", "--mode", "range+", "--split", "random", "--json"
    )
    assert out.exit_code == 3, "done, but a row was left out"
    report = json.loads(out.stdout)
    assert [row["embedding"] for row in report["rows"]] == [NEAREST, "toy", "RANGE+"]
    assert report["left out rows"] == {"no number in 'y'": [602]}
    assert "line 602" in out.stderr
    out = _run("bank", *columns, "--bank", "hand", "--encoder", "toy", "--split", "blocked")
    assert out.exit_code == 3, out.output
    assert "RANGE+, 25% of the bank" in out.stdout
    out = _run("checkerboard", "--bank", "hand", "--places", "20", "--beta", "0.5", "--samples", "400", "--json")
    assert out.exit_code == 0, out.output
    assert json.loads(out.stdout)["rows"][0]["cells"] == 20


def test_commands_say_what_is_missing(tmp_path: Path) -> None:
    columns = ["--table", str(tmp_path / "t.csv"), "--lat", "a", "--lon", "b", "--target", "y"]
    for wrong in (
        ["probe", *columns, "--mode", "range"],
        ["bank", *columns],
        ["bank", *columns, "--bank", "x", "--bank-places", "500"],
        ["checkerboard"],
    ):
        out = _run(*wrong)
        assert out.exit_code == 2
        assert "--bank-places" in out.stderr
    (tmp_path / "t.csv").write_text("a,b,y\n")
    out = _run("bank", *columns, "--bank-places", "500")
    assert out.exit_code == 1
    assert "no row can be used" in out.stderr
