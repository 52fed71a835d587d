"""The processes of the private cluster: initdb, start, stop, and what is true after a crash or a reboot."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket as sockets
import struct
import sys
import time
from pathlib import Path

from geosearch.database.server_programs import Programs
from geosearch.database.server_user import ServerUser
from geosearch.errors import ServerError

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # sun_path less its final zero
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # the protocol's shortest question; answered with one letter
START_SECONDS = 120  # recovery after a crash may take this long


def socket_folder(cluster: Path) -> Path:
    """Return the folder of the socket: run/ in the cluster's own, or a short one named by a hash.

    The answer depends on the path alone (and not on XDG_RUNTIME_DIR or TMPDIR, which differ from one login to the
    next), so every command finds the same server. Characters that PostgreSQL or URLs treat specially count as too long.
    """
    inside = cluster / "run"
    plain = re.fullmatch(r"[A-Za-z0-9/._+-]+", str(inside)) is not None
    if plain and len(os.fsencode(inside / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(cluster)).hexdigest()[:16]
    return Path("/tmp") / f"geosearch-{digest}"  # noqa: S108  # made 0700, its owner is checked before every use


def answering(cluster: Path) -> bool:
    """True when the cluster's server takes connections; a socket that a crash left behind refuses."""
    folder = socket_folder(cluster)
    with sockets.socket(sockets.AF_UNIX) as client:
        client.settimeout(5)
        try:
            facts = folder.lstat()
            if facts.st_uid != cluster.stat().st_uid or facts.st_mode & 0o077:
                return False  # in /tmp anyone could have put a folder of that name
            client.connect(str(folder / SOCKET_NAME))
            client.sendall(_SSL_REQUEST)  # a dying server's socket still takes the connection, but says nothing
            if client.recv(1) not in (b"N", b"S"):
                return False
        except OSError:
            return False
    # It listens already while it recovers from a crash; only `ready` takes connections.
    return _pid_lines(cluster / "data" / "postmaster.pid")[7:8] == ["ready"]


def data_major(data: Path) -> int | None:
    """Return the major version of the PostgreSQL that a data folder belongs to; None where there is none yet."""
    try:
        return int((data / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ServerError(f"{data / 'PG_VERSION'} is damaged: restore {data} from a backup.") from error


def running(data: Path) -> int | None:
    """Return the process number of the folder's server, None when there is none.

    postmaster.pid outlives `kill -9` and a reboot, and its number may be another program's by now.
    """
    pid = _noted_pid(data)
    return pid if pid is not None and _alive(pid) and _is_postmaster_of(pid, data) else None


def initialise(programs: Programs, cluster: Path, user: ServerUser) -> None:
    """Make the data folder: under another name first, so that it is there whole or not at all."""
    new = cluster / "data.new"
    user.shell('rm -rf "$1"', new)  # what an interrupted initdb left
    if programs.major >= 17:
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    else:
        locale = ["--locale=C", "--lc-ctype=UTF-8"] if sys.platform == "darwin" else ["--locale=C.UTF-8"]
    options = ["--username=postgres", "--encoding=UTF8", "--data-checksums", *locale]
    # `trust` is safe here: only the owner can enter the folder of the socket, and there is no other way in.
    options += ["--auth-local=trust", "--auth-host=reject"]
    done = user.run([programs.folder / "initdb", "-D", new, *options], cwd=cluster)
    if done.returncode:
        raise ServerError(f"initdb could not make {new}: {_last_lines(done.stderr)}")
    user.shell('echo "include \'geosearch.conf\'" >> "$1/postgresql.conf"; mv "$1" "$2"', new, cluster / "data")


def start(programs: Programs, cluster: Path, user: ServerUser, configuration: str) -> None:
    """Start the server and wait until it takes connections; one that runs but cannot be reached is started anew."""
    data, log = cluster / "data", cluster / "server.log"
    if running(data):
        _wait_until_ready(cluster)
        if answering(cluster):
            return
        stop(programs, cluster, user)  # someone removed its socket
    elif (pid := _noted_pid(data)) and _alive(pid):
        # After a reboot another program has that number. PostgreSQL would take it for a server of this folder and
        # refuse; a number that nobody has it sees through by itself.
        user.shell('rm -f "$1"', data / "postmaster.pid")
    user.write(data / "geosearch.conf", configuration)
    user.shell('test ! -f "$1" || test "$(wc -c < "$1")" -lt 10000000 || mv -f "$1" "$1.old"', log)
    argv: list[str | Path] = [programs.folder / "pg_ctl", "start", "-s", "-w", "-t", str(START_SECONDS)]
    argv += ["-D", data, "-l", log]
    end = time.monotonic() + 20
    while (done := user.run(argv, cwd=data)).returncode:
        said = _last_lines(_tail(log)) or done.stderr.strip()
        # After kill -9 of the postmaster its children need a moment to notice and go.
        if "shared memory block" not in said or time.monotonic() > end:
            raise ServerError(f"the private PostgreSQL did not start: {said} (the whole log: {log})")
        time.sleep(0.3)


def stop(programs: Programs, cluster: Path, user: ServerUser) -> None:
    """Stop the server; open transactions are rolled back."""
    options = ["-s", "-w", "-t", "60", "-m", "fast"]
    done = user.run([programs.folder / "pg_ctl", "stop", *options, "-D", cluster / "data"], cwd=cluster)
    if done.returncode and running(cluster / "data"):
        raise ServerError(f"the private PostgreSQL did not stop: {done.stderr.strip()} (log: {cluster / 'server.log'})")


def _wait_until_ready(cluster: Path) -> None:
    data, end = cluster / "data", time.monotonic() + START_SECONDS
    while running(data) and _pid_lines(data / "postmaster.pid")[7:8] != ["ready"]:
        if time.monotonic() > end:
            raise ServerError(
                f"the private PostgreSQL has been starting for {START_SECONDS} s; see {cluster / 'server.log'}"
            )
        time.sleep(0.1)


def _noted_pid(data: Path) -> int | None:
    lines = _pid_lines(data / "postmaster.pid")
    return abs(int(lines[0])) if lines and lines[0].lstrip("-").isdigit() else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # as another user
    return True


def _pid_lines(pid_file: Path) -> list[str]:
    try:
        return [line.strip() for line in pid_file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def _is_postmaster_of(pid: int, data: Path) -> bool:
    """True unless the process is known to be something else than the server of this folder."""
    proc = Path(f"/proc/{pid}")
    if not proc.is_dir():
        return True  # no /proc on this system: it is alive, and that must do
    with contextlib.suppress(OSError):  # the link is closed to other users
        return (proc / "cwd").readlink() == data.resolve()
    with contextlib.suppress(OSError):
        return "postgres" in (proc / "comm").read_text(encoding="utf-8")
    return False


def _tail(log: Path, size: int = 4000) -> str:
    try:
        return log.read_bytes()[-size:].decode("utf-8", "replace")
    except OSError:
        return ""


def _last_lines(text: str, count: int = 6) -> str:
    return " | ".join(line.strip() for line in text.strip().splitlines()[-count:])
