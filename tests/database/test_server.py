"""The private cluster: made on demand, found again, stopped, and what is true after a crash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from geosearch.database import server, server_process
from geosearch.errors import ServerError

PROGRAM = """
import pathlib, sys
from geosearch.database import server
print(server.ensure_running(pathlib.Path(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    """A data folder that every user can pass through, as /var/lib/geosearch is; its cluster is stopped at the end."""
    home = Path(tempfile.mkdtemp(prefix="gs-server-"))
    home.chmod(0o755)
    yield home
    server.stop(home)
    shutil.rmtree(home)


@pytest.fixture
def home(module_home: Path) -> Path:
    """The same folder with its cluster made and running."""
    server.ensure_running(module_home)
    return module_home


@pytest.fixture
def new_home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="gs-server-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home)


def test_url_leads_to_the_database_as_an_ordinary_role_with_the_extensions(home: Path) -> None:
    with psycopg.connect(server.ensure_running(home)) as conn:
        row = conn.execute(
            "select current_user, current_database(), rolsuper, rolcreaterole,"
            " pg_get_userbyid((select datdba from pg_database where datname = current_database()))"
            " from pg_roles where rolname = current_user"
        ).fetchone()
        assert row == ("geosearch", "geosearch", False, True, "geosearch")
        extensions = {name for (name,) in conn.execute("select extname from pg_extension")}
        assert {"postgis", "vector"} <= extensions
        for role in server.ROLES:
            assert conn.execute("select pg_has_role('geosearch', %s, 'member')", [role]).fetchone() == (True,)


def test_there_is_no_way_in_but_the_socket_of_a_closed_folder(home: Path) -> None:
    status = server.status(home)
    assert stat.S_IMODE(status.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
    with psycopg.connect(server.admin_url(home)) as conn:
        assert conn.execute("show listen_addresses").fetchone() == ("",)
        hosts = conn.execute("select distinct auth_method from pg_hba_file_rules where type <> 'local'").fetchall()
        assert hosts == [("reject",)]


def test_settings_fit_the_machine(home: Path) -> None:
    with psycopg.connect(server.ensure_running(home)) as conn:
        row = conn.execute(
            "select (select setting::int8 * 8192 from pg_settings where name = 'shared_buffers'),"
            " current_setting('jit'), current_setting('server_encoding'), current_setting('data_checksums')"
        ).fetchone()
    assert row is not None
    assert row[0] >= 128 * 2**20
    assert row[1:] == ("off", "UTF8", "on")


def test_it_never_runs_as_root(home: Path) -> None:
    pid = server.status(home).pid
    assert pid is not None
    assert Path(f"/proc/{pid}").stat().st_uid != 0
    assert Path(f"/proc/{pid}").stat().st_uid == (home / "postgres" / "data").stat().st_uid


def test_stop_and_start_keep_what_is_stored(home: Path) -> None:
    with psycopg.connect(server.ensure_running(home)) as conn:
        conn.execute("create table if not exists kept as select 42 as answer")
    assert server.stop(home) is True
    assert server.status(home).state == "stopped"
    assert server.stop(home) is False
    with psycopg.connect(server.ensure_running(home)) as conn:
        assert conn.execute("select answer from kept").fetchone() == (42,)
    assert server.status(home).state == "running"


def test_killed_postmaster_is_replaced_and_committed_rows_are_there(home: Path) -> None:
    with psycopg.connect(server.ensure_running(home)) as conn:
        conn.execute("create table survivors as select generate_series(1, 1000) as n")
    pid = server.status(home).pid
    assert pid is not None
    idle = psycopg.connect(server.ensure_running(home))  # a backend that outlives its postmaster for a moment
    os.kill(pid, signal.SIGKILL)
    try:
        with psycopg.connect(server.ensure_running(home)) as conn:
            assert conn.execute("select count(*) from survivors").fetchone() == (1000,)
            conn.execute("drop table survivors")
    finally:
        idle.close()
    assert server.status(home).pid != pid


def test_process_number_in_use_by_another_program_is_no_server(home: Path) -> None:
    """After a reboot postmaster.pid may name any program, here one of the very user that PostgreSQL runs as."""
    server.stop(home)
    data = home / "postgres" / "data"
    owner = data.stat().st_uid
    extra = {"user": owner, "group": data.stat().st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], cwd="/", **extra) as other:  # type: ignore[call-overload]
        try:
            pid_file = data / "postmaster.pid"
            pid_file.write_text(f"{other.pid}\n{data}\n1\n5432\n{home / 'postgres' / 'run'}\n\n  0 0\nready\n")
            os.chown(pid_file, owner, data.stat().st_gid)
            assert server_process.running(data) is None
            assert server.status(home).state == "stopped"
            server.ensure_running(home)
            assert server.status(home).state == "running"
            assert other.poll() is None  # and it was left alone
        finally:
            other.kill()


def test_socket_that_someone_removed_comes_back(home: Path) -> None:
    socket = server.status(home).socket
    for file in socket.iterdir():
        file.unlink()
    with psycopg.connect(server.ensure_running(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_two_commands_that_start_at_once_make_one_cluster(new_home: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(new_home)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        urls = {process.communicate(timeout=120)[0].strip() for process in started}
        assert [process.returncode for process in started] == [0, 0, 0]
        assert len(urls) == 1
        with psycopg.connect(urls.pop()) as conn:
            assert conn.execute("select current_database()").fetchone() == ("geosearch",)
        log = (new_home / "postgres" / "server.log").read_text()
        assert log.count("ready to accept connections") == 1
    finally:
        server.stop(new_home)


def test_command_killed_while_it_makes_the_cluster_leaves_nothing_that_hinders(new_home: Path) -> None:
    cluster = new_home / "postgres"
    try:
        for moment in ("data.new", "data", "data/postmaster.pid"):
            with subprocess.Popen([sys.executable, "-c", PROGRAM, str(new_home)], stdout=subprocess.DEVNULL) as making:
                end = time.monotonic() + 60
                while not (cluster / moment).exists() and making.poll() is None and time.monotonic() < end:
                    time.sleep(0.001)
                making.kill()
        with psycopg.connect(server.ensure_running(new_home)) as conn:
            extensions = {name for (name,) in conn.execute("select extname from pg_extension")}
        assert {"postgis", "vector"} <= extensions
        assert json.loads((cluster / "layout.json").read_text())["layout"] == server.LAYOUT
    finally:
        server.stop(new_home)


def test_long_or_unusual_path_gets_a_short_socket_that_is_closed_to_others(new_home: Path) -> None:
    deep = new_home / ("a folder, with a 'name' " + "x" * 90)
    try:
        url = server.ensure_running(deep)
        socket = server.status(deep).socket
        assert len(os.fsencode(socket / server_process.SOCKET_NAME)) <= server_process.SOCKET_PATH_BYTES <= 107
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        with psycopg.connect(url) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
    finally:
        server.stop(deep)
        shutil.rmtree(socket)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_socket_folder_of_another_user_is_refused(new_home: Path) -> None:
    """In /tmp anyone can make the folder first, with a server of their own in it."""
    deep = new_home / ("x" * 100)
    folder = server_process.socket_folder(deep / "postgres")
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    try:
        with pytest.raises(ServerError, match="someone else put it there"):
            server.ensure_running(deep)
    finally:
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="root's umask matters only where root hands the server over")
def test_home_made_under_a_strict_umask_can_be_entered(new_home: Path) -> None:
    before = os.umask(0o077)
    try:
        with psycopg.connect(server.ensure_running(new_home / "made")) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
    finally:
        os.umask(before)
        server.stop(new_home / "made")


def test_socket_path_never_exceeds_what_the_kernel_takes() -> None:
    folders = {}
    for length in range(60, 130):
        cluster = Path("/" + "x" * (length - 1))
        folder = server_process.socket_folder(cluster)
        folders[length] = folder == cluster / "run"
        assert len(os.fsencode(folder / server_process.SOCKET_NAME)) <= server_process.SOCKET_PATH_BYTES
        assert folders[length] or folder.parent == Path("/tmp")
    assert folders[60]
    assert not folders[129]


def test_status_of_nothing_makes_nothing(new_home: Path) -> None:
    assert server.status(new_home / "none").state == "absent"
    assert server.stop(new_home / "none") is False
    assert not (new_home / "none").exists()
