"""The private PostgreSQL cluster: made and started on demand, on a Unix socket, in the user's data folder.

HOME/postgres/            0700, of the user that the cluster runs as
    layout.json           written last: the cluster is complete
    data/                 PostgreSQL's data folder
    run/                  the socket, unless the path is too long for one
    server.log
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from geosearch.database import server_process as process
from geosearch.database.server_config import configuration
from geosearch.database.server_lock import lock
from geosearch.database.server_programs import Programs, choose
from geosearch.database.server_user import ServerUser, check_private, check_reachable, choose_user, make_folder
from geosearch.errors import ServerError
from geosearch.settings import settings

LAYOUT = 1  # of the folders above, and of the roles and the database in the cluster
ROLES = ("geosearch_admin", "geosearch_ingest", "geosearch_ask", "geosearch_read")


@dataclass(frozen=True)
class ServerStatus:
    """What is known of the private cluster without starting it. state: absent, stopped, starting or running."""

    state: str
    home: Path
    data: Path
    socket: Path
    log: Path
    user: str | None = None
    pid: int | None = None
    postgresql: str | None = None
    url: str | None = None


def ensure_running(home: Path | None = None) -> str:
    """Return the URL of the private cluster's database; make and start the cluster where that is needed.

    The role `geosearch` owns the database and is no superuser. Safe when several commands start at once.
    Raises ServerError with what is missing or in the way.
    """
    home = _home(home)
    cluster = home / "postgres"
    if _layout(cluster) and process.answering(cluster):
        return _url(cluster)
    user = choose_user(home, cluster)
    make_folder(home, user, of_user=False)
    make_folder(cluster, user, of_user=True)
    check_private(cluster, user)
    with lock(cluster):  # which others cannot open, and so not hold
        if not (_layout(cluster) and process.answering(cluster)):
            check_reachable(cluster, user)
            _start(cluster, user)
    return _url(cluster)


def stop(home: Path | None = None) -> bool:
    """Stop the private cluster; return False where it does not run. Open connections are closed, nothing is lost."""
    home = _home(home)
    cluster = home / "postgres"
    if not cluster.is_dir():
        return False
    user = choose_user(home, cluster)
    with lock(cluster):
        found = process.running(cluster / "data")
        if found is None:
            return False
        programs = choose(settings().server_bin, process.data_major(cluster / "data"), cluster / "data")
        process.stop(programs, cluster, user)
    return True


def status(home: Path | None = None) -> ServerStatus:
    """Return what is known of the private cluster; starts and changes nothing."""
    home = _home(home)
    cluster = home / "postgres"
    data, socket = cluster / "data", _socket_folder(cluster)
    common: dict[str, Any] = {"home": home, "data": data, "socket": socket, "log": cluster / "server.log"}
    try:
        if not cluster.exists() or process.data_major(data) is None:
            return ServerStatus("absent", **common)
        common["user"] = ServerUser.of_uid(cluster.stat().st_uid).name
        pid = process.running(data)
    except PermissionError as error:
        raise ServerError(f"{cluster} belongs to another user. Name a folder of your own in GEOSEARCH_HOME.") from error
    if pid is None:
        return ServerStatus("stopped", postgresql=str(process.data_major(data)), **common)
    if not (process.answering(cluster) and _layout(cluster)):
        return ServerStatus("starting", pid=pid, postgresql=str(process.data_major(data)), **common)
    import psycopg

    try:
        with psycopg.connect(admin_url(home), connect_timeout=10) as conn:
            version = conn.info.parameter_status("server_version")
    except psycopg.OperationalError as error:
        raise ServerError(
            f"the private PostgreSQL runs (process {pid}) and takes no connection: {str(error).strip()} "
            f"(log: {cluster / 'server.log'})"
        ) from error
    return ServerStatus("running", pid=pid, postgresql=version, url=_url(cluster), **common)


def admin_url(home: Path | None = None) -> str:
    """Return the URL of the cluster's superuser: for set-up and repair only, geosearch itself works without it."""
    return f"postgresql://postgres@/postgres?host={quote(str(_socket_folder(_home(home) / 'postgres')), safe='/')}"


def _home(home: Path | None) -> Path:
    return (home or settings().home).expanduser().resolve()


def _socket_folder(cluster: Path) -> Path:
    return process.socket_folder(cluster)


def _url(cluster: Path) -> str:
    return f"postgresql://geosearch@/geosearch?host={quote(str(_socket_folder(cluster)), safe='/')}"


def _layout(cluster: Path) -> int | None:
    """Return the folder's layout number, None before the cluster is complete; refuse one of a newer geosearch."""
    try:
        facts = json.loads((cluster / "layout.json").read_text(encoding="utf-8"))
        number, by = int(facts["layout"]), str(facts.get("geosearch"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ServerError(f"{cluster} belongs to another user. Name a folder of your own in GEOSEARCH_HOME.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError(
            f"{cluster / 'layout.json'} cannot be read as what geosearch wrote. Restore it from a backup, or write "
            f'{{"layout": {LAYOUT}}} into it.'
        ) from error
    if number > LAYOUT:
        raise ServerError(
            f"{cluster} was made by a newer geosearch ({by}, layout {number}; this one knows {LAYOUT}). "
            "Upgrade geosearch, or name another folder in GEOSEARCH_HOME."
        )
    return number


def _start(cluster: Path, user: ServerUser) -> None:
    """Make what is not there yet and start the server; the lock is held."""
    from geosearch import __version__

    data, socket = cluster / "data", _socket_folder(cluster)
    programs = choose(settings().server_bin, process.data_major(data), data)
    if process.data_major(data) is None:
        process.initialise(programs, cluster, user)
    if socket.parent == cluster:
        user.shell('mkdir -p -m 700 "$1"', socket)
    else:
        user.shell('test -e "$1" || mkdir -m 700 "$1"', socket)
    check_private(socket, user)
    process.start(programs, cluster, user, configuration(socket, data, programs))
    _set_up(socket, programs)
    if _layout(cluster) is None:
        facts = {"layout": LAYOUT, "geosearch": __version__, "postgresql": programs.version}
        user.write(cluster / "layout.json", json.dumps(facts) + "\n")


def _set_up(socket: Path, programs: Programs) -> None:
    """Make the roles, the database and the extensions as superuser: whatever of them is not there yet."""
    import psycopg
    from psycopg import sql

    login: dict[str, Any] = {"host": str(socket), "user": "postgres", "connect_timeout": 30, "autocommit": True}
    try:
        with psycopg.connect(dbname="postgres", **login) as conn:
            known = {row[0] for row in conn.execute("select rolname from pg_roles")}
            for role in (*ROLES, "geosearch"):
                if role not in known:
                    options = "login createrole" if role == "geosearch" else "nologin"
                    conn.execute(sql.SQL(f"create role {{}} {options}").format(sql.Identifier(role)))
            conn.execute(f"grant {', '.join(ROLES)} to geosearch with admin option")
            if not conn.execute("select 1 from pg_database where datname = 'geosearch'").fetchone():
                conn.execute("create database geosearch owner geosearch template template0")
        with psycopg.connect(dbname="geosearch", **login) as conn:
            made = dict(conn.execute("select extname, extversion from pg_extension").fetchall())
            for name, version in programs.extensions.items():
                extension = sql.Identifier(name)
                if name not in made:
                    conn.execute(sql.SQL("create extension if not exists {}").format(extension))
                elif made[name] != version:  # the package was upgraded since
                    conn.execute(sql.SQL("alter extension {} update").format(extension))
    except psycopg.Error as error:
        raise ServerError(f"the private cluster runs, but its set-up failed: {str(error).strip()}") from error
