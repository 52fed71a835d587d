"""`geosearch space`: make, list and drop spaces."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import WRONG_USAGE, JsonOption, confirm, emit, fail, note

app = typer.Typer(help="Spaces: a model's vectors, one typed table each.", no_args_is_help=True)


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
