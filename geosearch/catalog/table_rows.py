"""What the readers of tables share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geosearch.catalog.batch import Batch, Reject
from geosearch.catalog.files import MISSING_FILE, FileFinder
from geosearch.catalog.places import Wrong

UNREADABLE_DATE = "unreadable date"


def without(batch: Batch, wrong: Wrong, payloads: Sequence[str]) -> Batch:
    """Return the batch without its wrong rows, which become rejects with their line, name and text."""
    if not wrong:
        return batch
    batch.rejects += [
        Reject(reason, int(batch.line[i]) or None, batch.name[i] or None, payloads[i])
        for i, reason in sorted(wrong.items())
    ]
    keep = np.ones(len(batch), bool)
    keep[list(wrong)] = False
    return batch.only(keep)


def keep_as_written(properties: list[str], key: str, values: Sequence[str], rows: NDArray[np.bool_]) -> None:
    """Put the text of values that could not be read among the properties of those rows, in place."""
    for i in np.flatnonzero(rows).tolist():
        properties[i] = json.dumps(json.loads(properties[i]) | {key: values[i]}, ensure_ascii=False)


def by_header(header: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return rows as columns under their names."""
    return dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(header, ())


def find_files(
    references: Sequence[str],
    names: Sequence[str],
    finder: FileFinder,
    base: Path,
    wrong: Wrong,
    problems: list[tuple[str, ...]],
) -> tuple[list[str | None], list[bytes | None]]:
    """Return uri and content hash of each row that is not wrong; a file that is missing is told among its problems."""
    uri: list[str | None] = [None] * len(names)
    content: list[bytes | None] = [None] * len(names)
    for i, (reference, name) in enumerate(zip(references, names, strict=True)):
        if i not in wrong:
            uri[i], content[i], missing = finder.find(reference.strip(), base, name)
            problems[i] += (MISSING_FILE,) if missing else ()
    return uri, content
