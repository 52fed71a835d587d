"""Rows of a CSV file with their line numbers, in blocks. A broken row costs itself alone."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from geosearch.catalog.batch import Reject, shortened, unstorable
from geosearch.errors import CatalogError

BLOCK_ROWS = 10_000
_LINE_CHARACTERS = 1 << 20
_DELIMITERS = ",;\t|"


@dataclass
class Block:
    """Some rows, each as wide as the header, and the lines where they begin; rejects; the share of the file read."""

    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    done: float = 0.0


class CsvRows:
    """A CSV file: `header` at once, then blocks of rows. Comma, semicolon, tab or bar, as the header shows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._size = path.stat().st_size
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise CatalogError(f"{path} cannot be read: {error.strerror}") from error
        # Broken bytes become lone surrogates, so that only the rows that hold them are rejected.
        self._text = io.TextIOWrapper(self._file, encoding="utf-8", errors="surrogateescape", newline="")
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        path, start = self.path, self._file.read(4)
        if not start:
            raise CatalogError(f"{path} is empty: a table begins with a line of column names")
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise CatalogError(f"{path} is UTF-16; save it as UTF-8")
        self._file.seek(3 if start[:3] == b"\xef\xbb\xbf" else 0)
        self._lines = _Lines(self._text)
        first = next(self._lines, "")
        self.delimiter = max(_DELIMITERS, key=first.count)
        self._lines.give_back([first])
        try:
            # Quoted names may run over lines.
            self.header = [name.strip() for name in next(self._reader())]
        except (StopIteration, csv.Error) as error:
            raise CatalogError(f"{path} does not begin with a line of column names") from error
        if not any(self.header):
            raise CatalogError(f"{path} begins with an empty line instead of column names")
        twice = sorted({name for name in self.header if name and self.header.count(name) > 1})
        if twice:
            raise CatalogError(f"{path} has two columns named {', '.join(twice)}: rename one")
        if unstorable("".join(self.header)):
            raise CatalogError(f"the column names of {path} are not UTF-8 text; save the file as UTF-8")

    def close(self) -> None:
        """Close the file."""
        self._text.close()

    def blocks(self, size: int | None = None) -> Iterator[Block]:
        """Yield blocks of about `size` rows (None: BLOCK_ROWS); blank lines are no rows."""
        size = size or BLOCK_ROWS
        reader, lines, width = self._reader(), self._lines, len(self.header)
        block = Block()
        while True:
            lines.taken.clear()
            number = lines.number + 1
            reason = ""
            row: list[str] = []
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                reason = f"not readable as CSV ({error})"
            if row and lines.ended and not reason:
                # Only within a quotation is a line asked for after the last: it may have swallowed good rows.
                reason = "a quotation mark is opened and not closed on this line"
            if len(row) == width and not reason:
                block.rows.append(row)
                block.lines.append(number)
            elif row or reason:
                text = lines.taken[0]
                if len(lines.taken) > 1:
                    # A quote that was never closed has swallowed the lines after it: take them back.
                    reason = reason or "a quotation mark is opened and not closed on this line"
                    lines.give_back(lines.taken[1:])
                    reader = self._reader()
                reason = reason or f"{len(row)} values where the header has {width}"
                block.rejects.append(Reject(reason, number, None, shortened(text.rstrip("\r\n"))))
            if len(block.rows) + len(block.rejects) >= size:
                yield self._finished(block)
                block = Block()
        block.done = 1.0
        if block.rows or block.rejects:
            yield self._finished(block)

    def payload(self, row: list[str]) -> str:
        """Return a row as text, for a reject."""
        return shortened(self.delimiter.join(row))

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._lines, delimiter=self.delimiter)

    def _finished(self, block: Block) -> Block:
        block.done = block.done or min(1.0, self._file.tell() / max(self._size, 1))
        if unstorable("".join(map("".join, block.rows))):
            rows, lines = block.rows, block.lines
            block.rows, block.lines = [], []
            for row, line in zip(rows, lines, strict=True):
                fault = unstorable("".join(row))
                if fault:
                    block.rejects.append(Reject(f"{fault}; save the file as UTF-8", line, None, self.payload(row)))
                else:
                    block.rows.append(row)
                    block.lines.append(line)
        return block


class _Lines:
    """Physical lines, counted, remembered since the last row, and able to be given back."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._back: deque[str] = deque()
        self.number = 0
        self.ended = False
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else self._text.readline(_LINE_CHARACTERS)
        if not line:
            self.ended = True
            raise StopIteration
        self.number += 1
        self.taken.append(line)
        return line

    def give_back(self, lines: list[str]) -> None:
        self._back.extendleft(reversed(lines))
        self.ended = False
        self.number -= len(lines)
