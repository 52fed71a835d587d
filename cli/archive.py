"""`geosearch archive`: what is catalogued."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import JsonOption, confirm, emit

app = typer.Typer(no_args_is_help=True, help="List, show and remove archives.")

Name = Annotated[str, typer.Argument(help="Name of the archive.")]


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the archives with their numbers of images, flagged images and rejects."""
    from geosearch.database.archives import list_archives
    from geosearch.database.connection import connect

    with connect() as conn:
        archives = list_archives(conn)
    if json:
        emit(archives, json)
    else:
        columns = ("name", "title", "images", "with_footprint", "with_nadir", "flagged", "rejected")
        emit([{column: getattr(archive, column) for column in columns} for archive in archives])


@app.command()
def show(name: Name, json: JsonOption = False) -> None:
    """Show an archive: licence, attribution, and what it holds."""
    from geosearch.database.archives import show_archive
    from geosearch.database.connection import connect

    with connect() as conn:
        emit(show_archive(conn, name), json)


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove an archive with its images, their vectors in every space, and its rejects. Image files stay."""
    from geosearch.database.archives import remove_archive, show_archive
    from geosearch.database.connection import connect

    with connect() as conn:
        archive = show_archive(conn, name)
        if not dry_run:
            confirm(f"Remove archive {name!r} with {archive.images} images and their vectors?", yes)
        images = archive.images if dry_run else remove_archive(conn, name)
        conn.commit()
    emit({"archive": name, "images": images, "rejects": archive.rejected, "removed": not dry_run}, json)
