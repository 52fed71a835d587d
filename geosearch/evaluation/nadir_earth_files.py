"""What a run of the simulated benchmark leaves behind: figures as JSON, tables in a document, drawings."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geosearch.errors import InputError
from geosearch.evaluation import nadir_earth_plot
from geosearch.evaluation.composed_files import check_folder, save
from geosearch.evaluation.nadir_earth_tables import check_places, fill, tables


@dataclass(frozen=True)
class Files:
    """Where to write: all figures (JSON), a Markdown document with places for tables, a folder for drawings."""

    out: Path | None = None
    document: Path | None = None
    figures: Path | None = None
    written: list[Path] = field(default_factory=list)

    def check(self, unmeasured: Collection[str] = ()) -> None:
        """Raise InputError where something could not be written: before the work, not after it.

        unmeasured: names of tables that will not be made.
        """
        if self.out is not None:
            check_folder(self.out)
        if self.document is not None and not self.document.is_file():
            raise InputError(f"{self.document}: there is no such document to fill the tables into")
        if self.document is not None:
            check_places(_read(self.document), unmeasured)
        if self.figures is not None:
            nadir_earth_plot.check(self.figures)

    def write(self, report: dict[str, Any]) -> dict[str, str]:
        """Write what was asked for, and return the tables by name. Raises InputError."""
        made = tables(report)
        if self.out is not None:
            save(self.out, (json.dumps(report, ensure_ascii=False, indent=1) + "\n").encode())
            self.written.append(self.out)
        if self.document is not None:
            save(self.document, fill(_read(self.document), made).encode())
            self.written.append(self.document)
        if self.figures is not None:
            self.written.extend(nadir_earth_plot.draw(report, self.figures))
        return made


def _read(document: Path) -> str:
    try:
        return document.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{document}: cannot be read as text ({error}); name another document") from error
