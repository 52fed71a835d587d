"""`geosearch db`: the private cluster, the schema, and how other programs connect."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from .common import JsonOption, emit, fail, note

app = typer.Typer(no_args_is_help=True, help="Start, stop, migrate and reach the database.")


class UrlFormat(StrEnum):
    """What a connection is written for."""

    url = "url"
    libpq = "libpq"
    gdal = "gdal"
    qgis = "qgis"


def _refuse_other_server(doing: str) -> None:
    from geosearch.settings import settings

    if settings().database_url:
        raise fail(
            f"GEOSEARCH_DATABASE_URL names a server that geosearch does not {doing}. "
            "Unset it to use the private cluster."
        )


@app.command()
def start(json: JsonOption = False) -> None:
    """Start the private cluster; make it first where there is none. Other commands do so by themselves."""
    from geosearch.database import server

    _refuse_other_server("start")
    server.ensure_running()
    _make_ready()
    emit(_facts(), json)


@app.command()
def stop(json: JsonOption = False) -> None:
    """Stop the private cluster. Its data stay; the next command starts it again."""
    from geosearch.database import server

    _refuse_other_server("stop")
    stopped = server.stop()
    emit({"stopped": stopped} if json else ("stopped" if stopped else "it was not running"), json)


@app.command()
def status(json: JsonOption = False) -> None:
    """Show the server, the schema and the sizes of tables. Starts nothing."""
    emit(_facts(), json)


@app.command()
def migrate(json: JsonOption = False) -> None:
    """Bring the database's tables, functions, views and grants to this release. Running it again changes nothing."""
    from geosearch.database.connection import database_url
    from geosearch.database.migrate import migrate as bring_up

    done = bring_up(database_url())
    if json:
        emit({"done": done}, json)
    else:
        emit("\n".join(done) or "nothing to do: the database is at this release")


@app.command()
def url(
    format: Annotated[
        UrlFormat,
        typer.Option(
            help="url: for psql and GEOSEARCH_DATABASE_URL. libpq: key=value words. gdal: for ogrinfo and ogr2ogr. "
            "qgis: what the fields of a new PostgreSQL connection in QGIS take."
        ),
    ] = UrlFormat.url,
    json: JsonOption = False,
) -> None:
    """Print what psql, QGIS and ogr2ogr connect with; the private cluster is started. It may hold a password."""
    from geosearch.database.connection import database_url
    from geosearch.database.links import link

    _make_ready()
    text = link(database_url(), format.value)
    emit({"format": format.value, "connect": text} if json else text, json)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]}
)
def psql(ctx: typer.Context) -> None:
    """Open psql on the database; what follows goes to psql: geosearch db psql -c "select 1"."""
    import os
    import sys

    from geosearch.database.connection import database_url
    from geosearch.database.links import find_psql

    _make_ready()
    program = find_psql()
    sys.stdout.flush()
    os.execv(program, [str(program), "--dbname", database_url(), *ctx.args])  # noqa: S606  # psql takes this process's place


def _make_ready() -> None:
    """Migrate the private cluster, so that the views are there; a server named by the user is left as it is."""
    from geosearch.database.connection import connect
    from geosearch.settings import settings

    if not settings().database_url:
        connect().close()


def _facts() -> dict[str, Any]:
    """Return what is known of the server and, when it runs, of the schema in it."""
    from geosearch.database import server
    from geosearch.database.links import masked
    from geosearch.settings import settings

    named = settings().database_url
    if named:
        facts: dict[str, Any] = {"server": "GEOSEARCH_DATABASE_URL", "state": "named by you", "url": masked(named)}
    else:
        state = server.status()
        facts = {
            "server": "private cluster",
            "state": state.state,
            "postgresql": state.postgresql,
            "user": state.user,
            "pid": state.pid,
            "data": str(state.data),
            "socket": str(state.socket),
            "log": str(state.log),
            "url": state.url,
        }
        if state.state != "running":
            return facts
    return {**facts, **_contents(named)}


def _contents(named: str | None) -> dict[str, Any]:
    from geosearch.database.connection import connect, database_url
    from geosearch.database.migrate import schema_version

    with connect(named or database_url(), check_schema=False, autocommit=True) as conn:
        version = schema_version(conn)
        facts: dict[str, Any] = {"schema": version.state, "revision": version.revision, "release": version.release}
        if version.state == "missing":
            note("geosearch db migrate makes the tables.")
            return facts
        size = conn.execute("select pg_size_pretty(pg_database_size(current_database()))").fetchone()
        facts["size"] = size[0] if size else None
        for table in ("archive", "image", "space", "reject"):
            row = conn.execute(f"select count(*) from geosearch.{table}").fetchone()  # noqa: S608  # names from the line above
            facts[f"{table}s"] = row[0] if row else None
    return facts
