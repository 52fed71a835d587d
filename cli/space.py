"""`geosearch space`: make, list and drop spaces; build their indexes, keep their order, compute their moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from .common import WRONG_USAGE, JsonOption, confirm, counted, emit, fail, note, progress

app = typer.Typer(help="Spaces: a model's vectors, one typed table each.", no_args_is_help=True)


class Form(StrEnum):
    """What an index holds of a vector."""

    halfvec = "halfvec"
    bit = "bit"


MemoryOption = Annotated[
    str | None, typer.Option(help="Memory for building the graph, as 2GB. If not given: what it needs, within bounds.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A letter, then letters, digits and underscores, lower case.")],
    model: Annotated[str | None, typer.Option(help="The model that fills it (`geosearch model list`).")] = None,
    dimension: Annotated[
        int | None,
        typer.Option(min=1, max=16000, help="Instead of a model: vectors made elsewhere, of so many numbers."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make an empty space for a model, or for vectors made elsewhere."""
    if (model is None) == (dimension is None):
        raise fail("give either --model or --dimension", WRONG_USAGE)
    from geosearch.database.connection import connect
    from geosearch.database.spaces import create_space
    from geosearch.embedding.identity import record_model

    recorded = None
    if model is not None:
        from geosearch.encoders import registry

        info = registry.describe(model)
        dimension = info.dimension
    assert dimension is not None
    with connect() as conn:
        if model is not None:
            recorded = record_model(conn, info)
        space = create_space(conn, name, dimension, recorded)
    emit(space, json)
    if not json:
        fill = f"geosearch embed --space {name}" if model else f"geosearch embed import {name} FILE --archive A"
        note(f"Fill it with `{fill}`.")


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the spaces, each with its model and number of vectors."""
    from geosearch.database.connection import connect
    from geosearch.database.spaces import list_spaces

    with connect() as conn:
        emit(list_spaces(conn), json)


@app.command()
def drop(
    name: Annotated[str, typer.Argument(help="The space.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove a space with all its vectors. Images and other spaces stay."""
    from geosearch.database.connection import connect
    from geosearch.database.spaces import drop_space, get_space

    with connect() as conn:
        space = get_space(conn, name)
        if not dry_run:
            confirm(f"Remove space {name!r} with its {space.count} vectors?", yes)
            drop_space(conn, name)
    emit({"space": name, "vectors": space.count, "dropped": not dry_run}, json)


@app.command()
def index(
    name: Annotated[str, typer.Argument(help="The space.")],
    form: Annotated[
        Form | None, typer.Option(help="halfvec: the vectors; bit: their signs, for more than 3900 dimensions.")
    ] = None,
    m: Annotated[int, typer.Option(min=2, max=100, help="Neighbours of a vector in the graph.")] = 16,
    ef_construction: Annotated[
        int, typer.Option(min=4, max=1000, help="Vectors looked at for each that is added.")
    ] = 64,
    memory: MemoryOption = None,
    drop: Annotated[bool, typer.Option("--drop", help="Remove the index instead.")] = False,
    json: JsonOption = False,
) -> None:
    """Build the HNSW index of a space, while others read and write. Needs the rights of the table's owner.

    An index that is there already is left as it is. Stopped or killed, it is begun anew by the next run.
    """
    from geosearch.database.index import drop_index, index_space

    if drop:
        emit({"space": name, "dropped": drop_index(None, name)}, json)
        return
    with _bar() as show:
        made = index_space(
            None,
            name,
            form=form.value if form else None,
            m=m,
            ef_construction=ef_construction,
            memory=memory,
            progress=show,
            say=note,
        )
    emit(made, json)
    if not made.built:
        note("It was there already. To build it with other settings: `--drop` first.")


@app.command()
def reorder(
    name: Annotated[str, typer.Argument(help="The space.")],
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build the table anew, also when it is in order.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also where the server's free disk cannot be seen.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, say what would be done, change nothing.")] = False,
    memory: MemoryOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a space's table back into the order by which searches read it, while others read and write.

    It looks first: out of order, a new table and its index are built beside and swapped in; with a tenth of its rows
    dead, the index is built anew and the table vacuumed; else little or nothing is done. Needs the rights of the
    table's owner and, to build anew, free disk: up to twice what the space takes.
    """
    from geosearch.database.reorder import reorder as run

    with _bar() as show:
        done = run(
            None, name, rebuild_always=rebuild, force=force, dry_run=dry_run, memory=memory, progress=show, say=note
        )
    emit(done, json)


@app.command()
def moments(
    name: Annotated[str, typer.Argument(help="The space.")],
    check: Annotated[bool, typer.Option("--check", help="Say how they stand, and compute nothing.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Compute them also where they are current.")] = False,
    json: JsonOption = False,
) -> None:
    """Compute the mean and covariance of a space's vectors, by which composed searches know what is near and far.

    `embed` and `embed import` keep them current. Vectors that others write, change or remove make them late: composed
    searches then scan the space instead. Others may read and write all the while.
    """
    if check and anew:
        raise fail("--check computes nothing; leave out --anew", WRONG_USAGE)
    if check:
        from geosearch.database.connection import connect
        from geosearch.database.moments import moments_state

        with connect() as conn:
            state = moments_state(conn, name)
        emit(state, json)
        if not json and not state.current:
            note(f"Compute them: geosearch space moments {name}")
        return
    from geosearch.database.moments import compute_moments

    with progress() as bar:
        done = compute_moments(None, name, counted(bar, f"moments of {name}"), anew=anew)
    emit(done, json)
    if not json and not done.computed:
        note("They were current. To compute them nevertheless: --anew.")
    elif not json and not done.current:
        note("Vectors came or went meanwhile, so they are late already. Run it again when less is going on.")


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield a function that shows what is done, and how far, in one bar."""
    with progress() as bar:
        tasks: list[Any] = []

        def show(what: str, done: int, of: int | None) -> None:
            if not tasks:  # no bar where nothing was begun
                tasks.append(bar.add_task("", total=None))
            bar.update(tasks[0], description=what, completed=done, total=of)

        yield show
