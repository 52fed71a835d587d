"""`geosearch catalog`: images from tables and files into an archive."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import DONE_WITH_REJECTS, JsonOption, emit, note, progress

if TYPE_CHECKING:
    from geosearch.catalog.ingest import Counts

app = typer.Typer(no_args_is_help=True, help="Catalogue images: tables, GeoTIFFs, photographs, STAC, GeoJSON.")


class ReaderName(StrEnum):
    """Names of the readers; a test holds them against the library's."""

    geotiff = "geotiff"
    stac = "stac"
    photo = "photo"
    vector = "vector"
    iss = "iss"
    table = "table"


class Longitudes(StrEnum):
    """How a table counts longitudes."""

    to_180 = "180"
    to_360 = "360"


class Stage(StrEnum):
    """Where something was rejected."""

    catalog = "catalog"
    embed = "embed"


@app.command()
def add(
    source: Annotated[Path, typer.Argument(help="A table, an image, a STAC or vector file, or a folder.")],
    archive: Annotated[str, typer.Option(help="Archive to catalogue into; made when there is none.")],
    reader: Annotated[ReaderName | None, typer.Option(help="How to read the source. [default: recognised]")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="What the source calls a part: name=FILE, lat=LATITUDE, name=@line. Once for each part."),
    ] = None,
    longitudes: Annotated[
        Longitudes, typer.Option(help="The table counts longitudes -180 … 180 (180) or 0 … 360 (360).")
    ] = Longitudes.to_180,
    reach_km: Annotated[
        float | None,
        typer.Option(help="How far an image without a footprint may lie from its place. [default: 2500]"),
    ] = None,
    files: Annotated[Path | None, typer.Option(help="Folder with the image files that the source names.")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of a GeoPackage with several.")] = None,
    asset: Annotated[str | None, typer.Option(help="Key of the STAC asset that is the image.")] = None,
    placeless: Annotated[bool, typer.Option("--placeless", help="Take photographs without a GPS position.")] = False,
    title: Annotated[str | None, typer.Option(help="Title of the archive.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of its images.")] = None,
    attribution: Annotated[str | None, typer.Option(help="Whom to name.")] = None,
    json: JsonOption = False,
) -> None:
    """Catalogue a source into an archive. Run again, it adds what is new, updates what changed, leaves the rest.

    Rows that cannot be read are kept with their reasons (geosearch catalog rejects); the exit status is then 3.
    """
    from geosearch.catalog.ingest import add as catalog_add
    from geosearch.catalog.readers import get_reader, left_aside, recognise
    from geosearch.database.connection import connect
    from geosearch.errors import CatalogError

    columns = _columns(column or [])
    if not source.exists():
        raise CatalogError(f"{source} does not exist")
    name = reader.value if reader else recognise(source)
    if reader is None:
        note(f"reader: {name} (recognised)")
    aside = left_aside(source, get_reader(name))
    if aside:
        note("left aside: " + ", ".join(f"{n} {suffix}" for suffix, n in sorted(aside.items())))
    with connect() as conn, progress() as bar:
        task = bar.add_task(f"catalogue {source.name}", total=None)

        def show(counts: Counts, done: float | None) -> None:
            bar.update(task, completed=counts.rows, total=round(counts.rows / done) if done else None)

        counts = catalog_add(
            conn,
            source,
            archive,
            name,
            progress=show,
            facts={"title": title, "licence": licence, "attribution": attribution},
            columns=columns,
            longitudes=longitudes.value,
            reach_km=reach_km,
            files=files,
            layer=layer,
            asset=asset,
            placeless=placeless,
        )
        bar.update(task, completed=counts.rows, total=counts.rows)
    emit({"archive": archive, "source": str(source.absolute()), **_facts(counts)}, json)
    if counts.rejected:
        note(f"{counts.rejected} rejected; see why: geosearch catalog rejects --archive {shlex.quote(archive)}")
        raise typer.Exit(DONE_WITH_REJECTS)


@app.command()
def rejects(
    archive: Annotated[str | None, typer.Option(help="Of this archive only.")] = None,
    stage: Annotated[Stage | None, typer.Option(help="Of cataloguing or of embedding only.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 100,
    json: JsonOption = False,
) -> None:
    """List what could not be catalogued or embedded: source, line, name and reason. JSON also has the row itself."""
    from geosearch.catalog.rejects import list_rejects
    from geosearch.database.connection import connect

    with connect() as conn:
        found = list_rejects(conn, archive, stage.value if stage else None, limit or None)
    if json:
        emit(found, json)
    else:
        emit([{k: getattr(r, k) for k in ("archive", "stage", "source", "line", "name", "reason")} for r in found])
        if limit and len(found) == limit:
            note(f"the first {limit}; --limit 0 lists all")


@app.command()
def readers(json: JsonOption = False) -> None:
    """List the readers, what each reads and the options it takes."""
    from geosearch.catalog.readers import READERS

    emit(
        [
            {
                "name": reader.name,
                "reads": reader.reads,
                "suffixes": sorted(reader.suffixes),
                "options": ["--" + option.removesuffix("s" if option == "columns" else "").replace("_", "-")
                            for option in sorted(reader.options)],
            }
            for reader in READERS.values()
        ],
        json,
    )  # fmt: skip


def _columns(pairs: list[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for part, equals, name in split:
        if not (part and equals and name):
            raise typer.BadParameter(
                f"{part + equals + name!r} is not PART=COLUMN, as in name=FILE", param_hint="--column"
            )
    return {part: name for part, _, name in split}


def _facts(counts: Counts) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(counts) | {"seconds": round(counts.seconds, 3)}
