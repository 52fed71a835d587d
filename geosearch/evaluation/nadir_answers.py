"""Ranked answers in files: those of other systems are read and judged, one's own are written.

A CSV file with the columns query, rank and image, the names of catalogued photographs and tiles; ranks begin at 1.
Or JSON lines: {"query": …, "rank": …, "image": …} each, or {"query": …, "images": […]} with the best image first.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation.nadir_data import Images
from geosearch.evaluation.nadir_report import Measured
from geosearch.evaluation.nadir_ways import NONE
from geosearch.geometry import Floats
from geosearch.whole_files import write_whole

COLUMNS = ("query", "rank", "image")


class Answer(NamedTuple):
    """An answer of a file, and its line."""

    line: int
    query: str
    rank: int
    image: str


def judge(
    path: Path, photos: Images, tiles: Images, judged: Images, relevant: Sequence[NDArray[np.int64]]
) -> tuple[Floats, dict[str, int]]:
    """Return the rank (q,) of each judged photograph's first right answer in a file, and an account of it.

    photos: all that the file may name; judged: the q of them of which relevant has the rows of the right tiles.
    inf: no right answer, or no answer at all, which is counted; NaN: nothing is right. A tile may have several ranks,
    as turned tiles have, and each uses up an answer. Raises InputError, with the line, for a photograph or tile that is
    not catalogued, for a rank that is no number from 1 on, and for one that is given twice.
    """
    query, image = _by_name(photos, "photographs"), _by_name(tiles, "tiles")
    among = {name: row for row, name in enumerate(judged.names.tolist())}
    query = {name: among.get(name, NONE) for name in query}
    right = [frozenset(rows.tolist()) for rows in relevant]
    ranks = np.where([len(rows) > 0 for rows in right], np.inf, np.nan)
    taken: list[set[int]] = [set() for _ in right]
    lines = 0
    for answer in read(path):
        lines += 1
        q = _row(query, answer.query, "photograph", path, answer.line)
        i = _row(image, answer.image, "tile", path, answer.line)
        if q == NONE:
            continue
        if answer.rank in taken[q]:
            raise InputError(
                f"{path}, line {answer.line}: rank {answer.rank} of {answer.query} was given before; number its "
                "answers from 1, the best first"
            )
        taken[q].add(answer.rank)
        if i in right[q]:
            ranks[q] = min(ranks[q], answer.rank)
    counted = ~np.isnan(ranks)
    without = sum(1 for of, counts in zip(taken, counted, strict=True) if counts and not of)
    return ranks, {"answers": lines, "photographs_without_answers": without}


def read(path: Path) -> Iterator[Answer]:
    """Yield the answers of a file in its order; its first character tells CSV from JSON lines. Raises InputError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.read(1)
            file.seek(0)
            yield from _json_lines(path, file) if first == "{" else _csv(path, file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); name another file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8; save it so") from error


def write(folder: Path, measured: Measured) -> list[Path]:
    """Write the answers of each way to a file of its own, e.g. concat+filter.csv, and return the paths.

    Photographs without a right tile were not asked and have no answers. Raises InputError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}); name another folder") from error
    paths = []
    for way, answers in measured.answers.items():
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, rows in zip(measured.photos.names, answers.tolist(), strict=True):
            found = [row for row in rows if row != NONE]
            writer.writerows((name, rank, measured.tiles.names[row]) for rank, row in enumerate(found, 1))
        paths.append(folder / f"{way}.csv")
        write_whole(paths[-1], out.getvalue().encode())
    return paths


def _csv(path: Path, file: Any) -> Iterator[Answer]:
    rows = csv.DictReader(file, strict=True)
    try:
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{path}: has no column {', '.join(missing)}; its first line names query, rank and image")
        for row in rows:
            yield _answer(path, rows.line_num, row["query"], row["rank"], row["image"])
    except csv.Error as error:
        raise InputError(f"{path}, line {rows.line_num}: is no CSV ({error}); correct the line") from error


def _json_lines(path: Path, file: Any) -> Iterator[Answer]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            query, rank, image, images = row["query"], row.get("rank"), row.get("image"), row.get("images")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f'{path}, line {line}: is not {{"query": …, "rank": …, "image": …}} nor {{"query": …, "images": […]}} '
                f"({error}); correct the line"
            ) from error
        if images is None:
            yield _answer(path, line, query, rank, image)
        elif isinstance(images, list):
            for place, one in enumerate(images, 1):
                yield _answer(path, line, query, place, one)
        else:
            raise InputError(f"{path}, line {line}: images is no list; give the names of images, the best first")


def _answer(path: Path, line: int, query: Any, rank: Any, image: Any) -> Answer:
    try:
        number = 0 if isinstance(rank, bool | float) else int(rank)
        if number < 1:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"{path}, line {line}: rank {rank!r} is no whole number from 1 on; correct the line") from None
    if not isinstance(query, str) or not isinstance(image, str):
        raise InputError(f"{path}, line {line}: query and image are names, in quotes in JSON; correct the line")
    return Answer(line, query, number, image)


def _by_name(images: Images, what: str) -> dict[str, int]:
    names = {name: row for row, name in enumerate(images.names.tolist())}
    if len(names) < len(images):
        twice = Counter(images.names.tolist()).most_common(1)[0][0]
        raise InputError(
            f"two of the {what} are named {twice!r}: a file of answers could mean either; measure their archives apart"
        )
    return names


def _row(rows: dict[str, int], name: str, what: str, path: Path, line: int) -> int:
    row = rows.get(name)
    if row is None:
        raise InputError(
            f"{path}, line {line}: no {what} of the archives is named {name!r}; answers are "
            "judged over these archives and nothing else"
        )
    return row
