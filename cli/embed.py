"""`geosearch embed`: fill a space, from image files or from vectors made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import DONE_WITH_REJECTS, WRONG_USAGE, JsonOption, emit, fail, note, progress

app = typer.Typer(invoke_without_command=True)


@app.callback()
def embed(
    ctx: typer.Context,
    space: Annotated[str | None, typer.Option(help="The space to fill.")] = None,
    archive: Annotated[str | None, typer.Option(help="Only images of this archive.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images encoded at a time.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads that read images.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read every file again and embed those that have changed.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Embed the images that have no vector in a space, or whose file has changed since.

    It may be stopped at any moment and run again: it goes on where it was. Files that are gone or damaged are rejected,
    listed by `geosearch catalog rejects`, and tried again the next time; exit status 3 says that there were some.
    """
    if ctx.invoked_subcommand is not None:
        return
    if space is None:
        raise fail("name the space to fill: --space NAME (`geosearch space list`)", WRONG_USAGE)
    from geosearch.embedding.run import embed as run

    with progress() as bar:
        task = bar.add_task(f"embedding into {space}", total=None)
        counts = run(
            None,
            space,
            archive,
            batch_size=batch_size,
            threads=threads,
            device=device,
            recheck=recheck,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
            say=note,
        )
    if json:
        emit(counts, json)
    else:
        emit({"embedded": counts.embedded, "unchanged": counts.unchanged, "rejected": counts.rejected,
              "gone": counts.gone, "seconds": f"{counts.seconds['total']:.1f}"})  # fmt: skip
        note("share of the time: " + ", ".join(f"{name} {share:.0%}" for name, share in counts.shares.items()))
    _end(counts.rejected)


@app.command("import")
def import_(
    space: Annotated[str, typer.Argument(help="A space made with --dimension.")],
    file: Annotated[Path, typer.Argument(help="npz with `names` and `vectors`, or Parquet.")],
    archive: Annotated[str, typer.Option(help="The archive whose images the names are.")],
    name_column: Annotated[str | None, typer.Option(help="Column of the names; `name` if not given.")] = None,
    vector_column: Annotated[str | None, typer.Option(help="Column of the vectors; the only list of floats.")] = None,
    json: JsonOption = False,
) -> None:
    """Import vectors made elsewhere; rows that do not fit are rejected one by one, with their number and reason."""
    from geosearch.embedding.imports import import_vectors

    with progress() as bar:
        task = bar.add_task(f"importing into {space}", total=None)
        counts = import_vectors(
            None,
            space,
            file,
            archive,
            name_column=name_column,
            vector_column=vector_column,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
            say=note,
        )
    emit(counts, json)
    _end(counts.rejected)


def _end(rejected: int) -> None:
    if rejected:
        note(f"{rejected} rejected; `geosearch catalog rejects` lists them with their reasons.")
        raise typer.Exit(DONE_WITH_REJECTS)
