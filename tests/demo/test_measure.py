"""The demo's table from rankings made by hand."""

import pytest

from geosearch.demo.measure import Asked, table
from geosearch.demo.page import spread_by_rank
from geosearch.search.query import Query
from geosearch.search.ranking import Plan, Ranking, Result


def ranking(*ids, candidates=200):
    results = [Result(i + 1, image, str(image), "tiles", 0.5, None, 0, 0, None) for i, image in enumerate(ids)]
    return Ranking(Plan("exact", 1, candidates, 100, len(ids), False), results, Query.of(text="x"))


def asked(name, relevant, anywhere, nearby, held_out=False):
    return Asked(
        name, (0, 0), frozenset(relevant), held_out, ranking(*anywhere), ranking(*nearby, candidates=50),
        (ranking(9), ranking(9, *relevant)),
    )  # fmt: skip


def test_the_table_counts_both_searches_and_both_grounds():
    lines = table(
        [
            asked("a", {1}, [2, 3, 1], [1]),
            asked("b", {4}, [2, 3], [2, 4], held_out=True),
            asked("c", set(), [2], [2], held_out=True),
        ]
    )
    assert [(line.photographs, line.search) for line in lines] == [
        ("all photographs", "no filter"),
        ("all photographs", "within 2500 km"),
        ("on held-out ground", "no filter"),
        ("on held-out ground", "within 2500 km"),
    ]
    assert lines[0].recall.at == {1: 0.0, 5: 0.5, 10: 0.5, 100: 0.5}
    assert lines[1].recall.at == {1: 0.5, 5: 1.0, 10: 1.0, 100: 1.0}
    assert lines[1].colours.at == {1: 0.0, 5: 1.0, 10: 1.0, 100: 1.0}
    assert lines[1].chance.at[1] == pytest.approx(1 / 50)
    assert (lines[0].recall.counted, lines[0].recall.without_relevant) == (2, 1)
    assert (lines[2].recall.counted, lines[2].recall.without_relevant) == (1, 1)


def test_without_held_out_ground_there_is_no_such_line():
    assert len(table([asked("a", {1}, [1], [1])])) == 2


def test_photographs_are_shown_from_the_best_to_the_worst():
    nearby = [[2, 1], [1], [2], [2, 3, 1]]  # first right at 2, 1, never, 3
    some = [asked(str(i), {1}, [1], n) for i, n in enumerate(nearby)]
    assert spread_by_rank(some, 8) == [1, 0, 3, 2]
    assert spread_by_rank(some, 2) == [0, 2]
