"""What the command groups share: `--json`, output, progress on standard error, exit codes."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DONE, FAILED, WRONG_USAGE, DONE_WITH_REJECTS = 0, 1, 2, 3

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def emit(data: Any, json: bool = False) -> None:
    """Print a result on standard output: one JSON document, or text.

    Text is the string itself, `key: value` lines of a mapping or dataclass, or a table of a list of those.
    """
    if json:
        print(jsonlib.dumps(_plain(data), ensure_ascii=False, indent=2, default=_json_default))
    elif isinstance(data, str):
        print(data)
    elif isinstance(data, list | tuple):
        _print_table([_plain(row) for row in data])
    else:
        facts = _plain(data)
        width = max((len(str(key)) for key in facts), default=0)
        for key, value in facts.items():
            print(f"{str(key) + ':':<{width + 1}} {_text(value)}")


def answer_rows(results: Iterable[Any]) -> list[dict[str, Any]]:
    """Return images that answer a question as the rows of a table for people; numbers are rounded."""
    return [
        {
            "rank": result.rank,
            "similarity": f"{result.similarity:.4f}",
            "km": "" if result.distance_m is None else f"{result.distance_m / 1000:.0f}",
            "lat": "" if result.lat is None else f"{result.lat:.3f}",
            "lon": "" if result.lon is None else f"{result.lon:.3f}",
            "archive": result.archive,
            "name": result.name,
        }
        for result in results
    ]


def note(message: str) -> None:
    """Say something to a person, on standard error."""
    print(message, file=sys.stderr)


def write_page(path: Path, page: str) -> None:
    """Write an HTML page, whole or not at all, with the folders that it needs, and say so."""
    from geosearch.whole_files import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page.encode())
    note(f"written: {path}")


def fail(message: str, code: int = FAILED) -> typer.Exit:
    """Print `error: message` on standard error and return the exception that ends the command: `raise fail(…)`."""
    print(f"error: {message}", file=sys.stderr)
    return typer.Exit(code)


def confirm(question: str, yes: bool) -> None:
    """Ask on standard error before something is destroyed, unless `yes`; end with status 1 where nobody says so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise fail(f"{question} Nobody is here to ask: say --yes, or --dry-run to look first")
    if not typer.confirm(question, err=True):
        note("nothing was removed")
        raise typer.Exit(FAILED)


def progress() -> Progress:
    """Return a progress bar (a context manager of rich) on standard error: bar, count, rate and time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def counted(bar: Progress, title: str) -> Callable[[int, int | None], None]:
    """Return a function (done, of) that shows how far something is; its line appears with the first step."""
    tasks: list[TaskID] = []

    def show(done: int, of: int | None) -> None:
        if not tasks:
            tasks.append(bar.add_task(title, total=of))
        bar.update(tasks[0], completed=done, total=of)

    return show


_WITHOUT_RIGHT = dict.fromkeys(  # insufficient_privilege, read_only_sql_transaction
    ("42501", "25006"),
    "\nThis login may not do that: connect as another one (GEOSEARCH_DATABASE_URL), or have it granted a group:"
    " geosearch_ingest adds images and vectors, geosearch_admin also makes and drops spaces and banks.",
)


def known_failure(error: Exception) -> str | None:
    """Return what to tell the user when the error is one that can be explained; None for a defect of geosearch."""
    from geosearch.errors import GeosearchError

    if isinstance(error, GeosearchError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    # Neither library is imported for this: where it was not, the error is not its own.
    psycopg, pydantic = sys.modules.get("psycopg"), sys.modules.get("pydantic")
    if psycopg is not None and isinstance(error, psycopg.Error):
        return f"the database answered: {str(error).strip()}{_WITHOUT_RIGHT.get(error.sqlstate or '', '')}"
    if pydantic is not None and isinstance(error, pydantic.ValidationError) and error.title == "Settings":
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r})" for e in error.errors())
        return f"a setting is wrong: {wrong}. Settings are GEOSEARCH_… variables or lines of the settings file."
    return None


def _plain(data: Any) -> Any:
    return asdict(data) if is_dataclass(data) and not isinstance(data, type) else data


def _json_default(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_inner(part)}" for key, part in value.items()) or "–"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(str, value)) or "–"
    return str(value)


def _inner(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({_text(value)})"
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _print_table(rows: list[Any]) -> None:
    if not rows:
        note("(none)")
        return
    if not isinstance(rows[0], Mapping):
        for row in rows:
            print(_text(row))
        return
    # Plain aligned columns and no box: what is printed can be piped into cut, sort and awk.
    columns = list(rows[0])
    cells = [columns, *[[_text(row.get(column)) for column in columns] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
