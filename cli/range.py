"""`geosearch range`: banks of places, and the embeddings that they give any place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import range_ask
from .common import WRONG_USAGE, JsonOption, confirm, counted, emit, fail, note, progress
from .range_ask import BankArgument

app = typer.Typer(
    no_args_is_help=True,
    help="RANGE: embeddings of places, out of a bank of places whose images are known (arXiv 2502.19781).",
)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="A letter, then letters, digits and underscores, lower case.")],
    encoder: Annotated[str, typer.Option(help="The location encoder that asks the bank.")] = "mini-location",
    keys: Annotated[
        str | None, typer.Option(help="What places are compared by: a space, or a model that reads images.")
    ] = None,
    values: Annotated[
        str | None, typer.Option(help="What embeddings are made of: a space or a model; the keys if not given.")
    ] = None,
    places: Annotated[
        str | None,
        typer.Option(help="archive:NAME, its images; or land:N, so many tiles of Blue Marble.", metavar="PLACES"),
    ] = None,
    npz: Annotated[
        Path | None,
        typer.Option(help="Instead: a file with locs, image_embeddings and satclip_embeddings.", metavar="FILE"),
    ] = None,
    key_model: Annotated[str | None, typer.Option(help="With --npz: what made the keys, to be recorded.")] = None,
    value_model: Annotated[str | None, typer.Option(help="With --npz: what made the values.")] = None,
    fraction: Annotated[float, typer.Option(help="Only this share of the places, evenly over the Earth.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Which of the possible shares.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make a bank of an archive's images, of tiles of land, or of a published file.

    Keys are brought to unit length, values are taken as they are. The location encoder must be the one that was trained
    against what made the keys; it is taken into the database as well, so that SQL can ask the bank.
    """
    if (places is None) == (npz is None):
        raise fail("give either --places or --npz", WRONG_USAGE)
    if npz is None and keys is None:
        raise fail("--places needs --keys: a space, or a model that reads images", WRONG_USAGE)
    if npz is None and (key_model is not None or value_model is not None):
        raise fail("--key-model and --value-model go with --npz; others are known", WRONG_USAGE)
    if npz is not None and (keys is not None or values is not None):
        raise fail("--npz has its own keys and values; leave out --keys and --values", WRONG_USAGE)
    from geosearch.database.connection import connect
    from geosearch.range import build as building

    with connect(autocommit=True) as conn:
        if npz is not None:
            facts = {"key_model": key_model, "value_model": value_model}
            made = building.build_npz(conn, name, npz, encoder=encoder, fraction=fraction, seed=seed, **facts)
        else:
            assert keys is not None
            assert places is not None
            with progress() as bar:
                made = building.build(
                    conn,
                    name,
                    encoder=encoder,
                    keys=keys,
                    values=values,
                    places=places,
                    fraction=fraction,
                    seed=seed,
                    progress=counted(bar, "build"),
                )
    emit(made, json)
    if not json:
        note(f"Ask it with `geosearch range embed --bank {name} …`, or in SQL: geosearch.range_embedding('{name}', …).")


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the banks."""
    from geosearch.database.connection import connect
    from geosearch.range.store import list_banks

    with connect() as conn:
        banks = list_banks(conn)
    shown = ("name", "encoder", "places", "key_dimension", "value_dimension", "key_model", "value_model", "source")
    emit(banks if json else [{column: getattr(bank, column) for column in shown} for bank in banks], json)


@app.command()
def show(bank: BankArgument, json: JsonOption = False) -> None:
    """Show a bank: what made it, and whether stored embeddings of images are up to date."""
    from dataclasses import asdict

    from geosearch.database.connection import connect
    from geosearch.range.store import bank_of, stored_state

    with connect() as conn:
        emit({**asdict(bank_of(conn, bank)), **asdict(stored_state(conn, bank))}, json)


@app.command()
def drop(
    bank: BankArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove a bank, its view and the embeddings stored by it. Images and spaces stay."""
    from geosearch.database.connection import connect
    from geosearch.range.store import bank_of, drop_bank, stored_state

    with connect() as conn:
        found, stored = bank_of(conn, bank), stored_state(conn, bank).stored
        if not dry_run:
            confirm(f"Remove bank {bank!r} with its {found.places} places and {stored} stored embeddings?", yes)
            drop_bank(conn, bank)
    emit({"bank": bank, "places": found.places, "stored": stored, "dropped": not dry_run}, json)


# What a bank is asked stands in a file of its own, after what makes and removes banks.
for _name, _command in (
    ("embed", range_ask.embed),
    ("refresh", range_ask.refresh),
    ("similar", range_ask.similar),
    ("map", range_ask.map_),
):
    app.command(_name)(_command)
