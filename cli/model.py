"""`geosearch model`: which encoders there are, and what each is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import JsonOption, emit, note

app = typer.Typer(help="Encoders: what turns images and texts into vectors.", no_args_is_help=True)


@app.command("list")
def list_(
    tags: Annotated[
        bool, typer.Option("--all", help="Every tag of open_clip, also those not on this machine.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """List the models that load by name; `available` says whether the weights are on this machine.

    Any architecture and tag of open_clip is a model: open_clip:ViT-B-32/laion2b_s34b_b79k. So is a weights file
    (open_clip:ViT-B-32/file:/path.pt?norm=openai, where norm is openai, imagenet or inception, or mean=r,g,b&std=r,g,b)
    and a folder with open_clip_config.json (open_clip:local-dir:/folder). Nadir-aware models are a folder that training
    wrote (nadir:local-dir:/folder), or timm's name of a tower, SALAD's size and the file of all weights
    (nadir:vit_small_patch14_reg4_dinov2.lvd142m/small/file:/path.safetensors?size=322). A name may end in @ and the
    first digits of the weights' SHA-256, which are then insisted upon.
    """
    from geosearch.encoders import registry

    entries = registry.list_models(tags)
    emit(entries, json)
    if not json and not tags:
        note("`geosearch model list --all` lists every tag of open_clip as well.")


@app.command()
def show(name: Annotated[str, typer.Argument(help="The model's name.")], json: JsonOption = False) -> None:
    """Show a model's identity: weights, dimension, preprocessing. Its weights must be on this machine."""
    from geosearch.encoders import registry

    emit(registry.describe(name), json)


@app.command("install-sql")
def install_sql(
    name: Annotated[str, typer.Argument(help="The location encoder's name, such as mini-location.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write a script for psql instead, which installs it wherever geosearch's schema is."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Install a location encoder in the database, so that geosearch.encode_place works there without Python.

    Needs the rights of geosearch_admin; so does who runs the script, with psql --file.
    """
    from geosearch.range.install import install_network, write_sql

    if out is not None:
        emit(write_sql(name, out), json)
        return
    from geosearch.database.connection import connect

    with connect() as conn:
        emit(install_network(conn, name), json)
