"""Rows of nadir-aware recall: groups of photographs, intervals over cells of ground, leads over the image alone."""

import csv

import numpy as np
import pytest

from geosearch.errors import InputError
from geosearch.evaluation import nadir_run
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_table import groups, rows

INF, NAN = np.inf, np.nan


def photographs(middle: list[tuple[float, float]], nadir: list[tuple[float, float]] | None = None) -> Images:
    """Return photographs of which only the places matter."""
    n, (lat, lon) = len(middle), np.array(middle, float).T
    eye = (lat, lon) if nadir is None else np.array(nadir, float).T
    whole, text, number = np.zeros(n, np.int64), np.full(n, None, object), np.zeros(n)
    return Images(
        whole, whole, text, text, text, eye[0], eye[1], np.zeros(n, bool), eye[0], eye[1], lat, lon,
        number, np.zeros((n, 3)), number,
    )  # fmt: skip


def row(table, region="all", ground="all", way="image"):
    (found,) = [r for r in table if (r["region"], r["ground"], r["way"]) == (region, ground, way)]
    return found


def test_groups_are_by_nadir_and_by_true_centre():
    middle = [(45, 10), (45, 10), (-30, 140), (45, 30), (45, 10)]
    nadir = [(45, 10), (20, -20), (-30, 140), (45, 30), (NAN, NAN)]
    found = groups(photographs(middle, nadir))
    assert found["all", "held-out ground"].tolist() == [True, True, False, False, True]
    assert found["all", "other ground"].tolist() == [False, False, True, True, False]
    # 45° N, 30° E is 1 570 km from the Alps: within 2 500 km of their nadirs, but not of the held-out caps.
    assert found["Alps", "all"].tolist() == [True, False, False, True, False]
    assert found["Alps", "held-out ground"].tolist() == [True, False, False, False, False]
    assert not found["Gobi", "all"].any()
    assert len(found) == 3 * 7


def test_the_regions_hold_as_many_real_photographs_as_were_published(shared_data):
    with (shared_data / "iss_photos" / "footprints.csv").open(newline="") as file:
        nadir = [(float(r["NADIR_LAT"]), float(r["NADIR_LON"])) for r in csv.DictReader(file)]
    found = groups(photographs(nadir))
    counts = [int(found[name, "all"].sum()) for name in ("Alps", "Texas", "Toshka Lakes", "Amazon", "Napa", "Gobi")]
    # Published: 2394, 6143, 2164, 682, 3569, 726 queries, of which three were filtered out for other reasons.
    assert counts == [2394, 6145, 2164, 682, 3569, 727]


def test_recalls_and_what_was_left_out():
    at = photographs([(45, 10), (45, 10), (-30, 140), (-30, 140)])
    table = rows({"image": np.array([1, 30, INF, NAN]), "concat": np.array([1, 4, 101, NAN])}, at)
    whole = row(table)
    assert [whole[f"R@{k}"] for k in (1, 5, 10, 20, 100)] == pytest.approx([33.33, 33.33, 33.33, 33.33, 66.67])
    assert (whole["photographs"], whole["without_relevant"]) == (3, 1)
    assert row(table, way="concat")["R@5 lead"] == pytest.approx(33.33)
    assert "R@1 lead" not in whole
    alps = row(table, "Alps", "held-out ground", "concat")
    assert (alps["photographs"], alps["R@1"], alps["R@5"]) == (2, 50, 100)
    assert not [r for r in table if r["region"] == "Gobi"]


def test_the_mean_of_the_regions_is_over_those_with_photographs():
    at = photographs([(45, 10), (45, 10), (45, 10), (40, 105)])
    table = rows({"image": np.array([1, 1, INF, INF])}, at)
    mean = row(table, "mean of 2 regions")
    assert mean["R@1"] == pytest.approx(100 * (2 / 3 + 0) / 2, abs=0.01)


def test_photographs_of_one_cell_are_one_piece_of_evidence():
    together = row(rows({"image": np.array([1, 1, INF, INF])}, photographs([(5, 5)] * 4)))
    assert (together["R@1 low"], together["R@1"], together["R@1 high"]) == (50, 50, 50)
    apart = row(rows({"image": np.array([1, INF])}, photographs([(5, 5), (5, 15)])))
    assert (apart["R@1 low"], apart["R@1 high"]) == (0, 100)  # a quarter of the draws each


def test_the_interval_is_about_the_binomial_one_where_cells_have_one_photograph_each():
    places = [(lat, lon) for lat in range(-45, 55, 10) for lon in range(-175, 175, 10)]
    hit = np.random.default_rng(4).random(len(places)) < 0.3
    table = rows({"image": np.where(hit, 1.0, INF), "concat": np.ones(len(places))}, photographs(places))
    found = row(table)
    half = 196 * np.sqrt(hit.mean() * (1 - hit.mean()) / len(places))
    assert found["R@1 low"] == pytest.approx(100 * hit.mean() - half, abs=1)
    assert found["R@1 high"] == pytest.approx(100 * hit.mean() + half, abs=1)
    best = row(table, way="concat")
    # Where all is found the lead is what the image alone lacks, draw by draw.
    assert best["R@1 lead low"] == pytest.approx(100 - found["R@1 high"], abs=0.01)
    assert best["R@1 lead high"] == pytest.approx(100 - found["R@1 low"], abs=0.01)
    assert rows({"image": np.where(hit, 1.0, INF)}, photographs(places)) != table
    again = rows({"image": np.where(hit, 1.0, INF), "concat": np.ones(len(places))}, photographs(places))
    assert again == table


def test_a_random_order_stands_beside():
    at = photographs([(5, 5), (5, 15), (5, 25)])
    right = [np.array([3]), np.array([1, 2]), np.array([], np.int64)]
    table = rows({"concat": np.array([1, INF, NAN])}, at, right, tiles=10)
    assert row(table, way="chance")["R@1"] == 15  # (1/10 + 2/10) / 2
    assert row(table, way="chance")["R@20"] == 100
    assert "R@1 lead" not in row(table, way="concat")  # without the way "image"
    with pytest.raises(InputError, match="nothing to measure"):
        rows({"image": np.array([NAN, NAN, NAN])}, at)


def test_rows_for_people_and_for_files(tmp_path):
    at = photographs([(45, 10), (45, 22)])
    table = rows({"image": np.array([1, INF]), "concat": np.array([1, 2])}, at, [np.array([0])] * 2, tiles=4)
    shown = nadir_run.printed(table)
    assert shown[0]["way"] == "chance"
    assert shown[0]["R@1 between"] is None
    assert {"R@1": "50.0", "R@1 between": "0.0 … 100.0", "lead": "+0.0"}.items() <= shown[2].items()
    nadir_run.write_csv(tmp_path / "out.csv", table)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 1 + len(table)
    assert lines[0].startswith("region,ground,photographs,without_relevant,way,R@1,")
