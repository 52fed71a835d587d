"""Reports of composed retrieval as files: written whole or not at all."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from geosearch.errors import InputError
from geosearch.evaluation.composed import Report
from geosearch.whole_files import write_whole


def write_csv(report: Report, path: Path) -> None:
    """Write `Report.rows`: a line an attribute and way, with a header; λ is empty where there is none."""
    rows, out = report.rows(), io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    save(path, out.getvalue().encode())


def check_folder(path: Path) -> None:
    """Raise InputError where a file could not be made at that path; to be asked before the work, not after it."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}; make it or name another file")


def save(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there. Raises InputError."""
    check_folder(path)
    write_whole(path, content)
