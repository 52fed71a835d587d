"""Reports of composed retrieval as files: written whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from geosearch.errors import InputError
from geosearch.evaluation.composed import Report


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
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another file") from error
