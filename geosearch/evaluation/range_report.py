"""The table of RANGE: every embedding of places on one quantity, split at random and by blocks. Arrays in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geosearch.errors import InputError
from geosearch.evaluation import ways
from geosearch.evaluation.checkerboard import Board
from geosearch.evaluation.probe import Score, Split, blocked_split, nearest_place, probe, random_split
from geosearch.evaluation.probe_table import Table
from geosearch.evaluation.ways import Way

if TYPE_CHECKING:
    from geosearch.range.bank import Bank

FRACTIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
SPLITS = ("random", "blocked")
NEAREST = "nearest training place"

Row = dict[str, Any]


def splits_of(table: Table, which: str = "both", fold: int = 0) -> list[Split]:
    """Return the splits of a table's rows: `random`, `blocked` or `both`. fold: of the blocked one, 0 … 4."""
    wanted = SPLITS if which == "both" else (which,)
    if not set(wanted) <= set(SPLITS):
        raise InputError(f"there is no split {which!r}; there are: random, blocked, both")
    makers: dict[str, Callable[[], Split]] = {
        "random": lambda: random_split(len(table)),
        "blocked": lambda: blocked_split(table.lat, table.lon, fold),
    }
    return [makers[name]() for name in wanted]


def measure(table: Table, every: Iterable[Way], splits: Sequence[Split]) -> Iterator[Row]:
    """Yield a row for each way, as it is done, and first that of the nearest training place.

    A row: embedding (the way's name), numbers (how many it has), and for each split R² (accuracy of classes) to three
    places under its name.
    """
    scores = [nearest_place(table.lat, table.lon, table.target, split, table.classes) for split in splits]
    yield _row(NEAREST, None, splits, scores)
    for way in every:
        features = np.asarray(way.encode(table.lat, table.lon))
        scores = [probe(features, table.target, split, table.classes) for split in splits]
        yield _row(way.name, features.shape[1], splits, scores)


def facts(table: Table, splits: Sequence[Split]) -> Row:
    """Return what the rows of `measure` are about: the table's rows, those left out, the sizes of the splits."""
    unseen = {
        s.name: int((~np.isin(table.target[s.test], table.target[s.train])).sum()) for s in splits if table.classes
    }
    return {
        "table": table.name,
        "rows": len(table),
        "left out": sum(len(rows) for rows in table.left_out.values()),
        "figure": "accuracy" if table.classes else "R²",
        **({"classes": len(np.unique(table.target))} if table.classes else {}),
        **{f"{s.name} split": f"{len(s.train)} to fit, {len(s.test)} to judge" for s in splits},
        **{f"{name} split, rows of an unseen class": count for name, count in unseen.items()},
    }


def bank_table(bank: Bank, encoders: Sequence[str], k: int = 100) -> Iterator[Way]:
    """Yield the ways of the whole table: location encoders, the bank in every mode, and its stratified parts."""
    from geosearch.range.build import thinned

    for name in encoders:
        yield ways.encoder_way(name)
    yield from ways.bank_ways(bank, (*ways.MODES, *ways.ABLATIONS), k)
    for share in FRACTIONS[:-1]:
        part = thinned(bank, share)
        for mode in ways.MODES:
            title, options = ways.retrieval(mode)
            yield ways.bank_way(part, options, f"{title}, {share:.0%} of the bank")


def measure_boards(boards: Iterable[Board], every: Sequence[Way]) -> Iterator[Row]:
    """Yield a row for each checkerboard: its number of cells, and the accuracy of each way's probe."""
    for board in boards:
        row: Row = {"cells": board.places}
        for way in every:
            score = probe(np.asarray(way.encode(board.lat, board.lon)), board.label, board.split, classes=True)
            row[way.name] = round(score.value, 3)
        row[NEAREST] = round(nearest_place(board.lat, board.lon, board.label, board.split, classes=True).value, 3)
        yield row


def _row(name: str, numbers: int | None, splits: Sequence[Split], scores: Sequence[Score]) -> Row:
    return {"embedding": name, "numbers": numbers} | {
        split.name: round(score.value, 3) for split, score in zip(splits, scores, strict=True)
    }


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a table for a document."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *[[_cell(row.get(c)) for c in columns] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
