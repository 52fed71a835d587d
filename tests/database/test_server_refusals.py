"""What the private cluster refuses, and whether the message says what to do."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from geosearch.database import server, server_config, server_process, server_programs, server_user
from geosearch.database.server_lock import lock
from geosearch.errors import ServerError

MIB, GIB = 2**20, 2**30


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gs-refuse-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _cluster(home: Path) -> Path:
    """A cluster's folder with the owner that it would have, and nothing in it yet."""
    cluster = home / "postgres"
    user = server_user.choose_user(home, cluster)
    server_user.make_folder(cluster, user, of_user=True)
    (cluster / "data").mkdir()
    return cluster


def test_data_folder_of_a_newer_postgresql(home: Path) -> None:
    data = _cluster(home) / "data"
    (data / "PG_VERSION").write_text("99\n")
    with pytest.raises(ServerError, match=r"belongs to PostgreSQL 99; installed: .*GEOSEARCH_SERVER_BIN"):
        server.ensure_running(home)
    assert sorted(p.name for p in data.iterdir()) == ["PG_VERSION"]  # untouched


def test_data_folder_with_a_damaged_version(home: Path) -> None:
    (_cluster(home) / "data" / "PG_VERSION").write_text("")
    with pytest.raises(ServerError, match="damaged: restore"):
        server.ensure_running(home)


def test_layout_of_a_newer_geosearch(home: Path) -> None:
    (_cluster(home) / "layout.json").write_text(json.dumps({"layout": server.LAYOUT + 1, "geosearch": "9.9"}))
    with pytest.raises(ServerError, match=r"newer geosearch \(9\.9, layout 2; this one knows 1\)"):
        server.ensure_running(home)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layout": "x"}'])
def test_layout_that_nobody_wrote(home: Path, text: str) -> None:
    (_cluster(home) / "layout.json").write_text(text)
    with pytest.raises(ServerError, match=r"cannot be read .* backup"):
        server.ensure_running(home)


def test_home_that_is_a_file(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(ServerError, match="GEOSEARCH_HOME"):
        server.ensure_running(home / "file" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that is closed to the server's user")
def test_root_with_a_folder_that_the_server_user_cannot_reach(home: Path) -> None:
    home.chmod(0o700)  # root's, as everything below /root is
    with pytest.raises(ServerError, match=r"runs as user postgres, who cannot enter or write .*/var/lib/geosearch"):
        server.ensure_running(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_root_drops_to_the_owner_of_the_folder(home: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    user = server_user.choose_user(home, home / "postgres")
    assert user.name == "nobody"
    assert user.run(["id", "-u"], cwd=Path("/")).stdout.strip() == str(nobody.pw_uid)
    assert "0" not in user.run(["id", "-G"], cwd=Path("/")).stdout.split()  # none of root's groups either


@pytest.mark.skipif(os.geteuid() != 0, reason="root's default user")
def test_root_drops_to_postgres_in_a_folder_of_its_own(home: Path) -> None:
    assert server_user.choose_user(home, home / "postgres").name == "postgres"


def test_folder_of_somebody_else(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = home.stat().st_uid or pwd.getpwnam("nobody").pw_uid
    if os.geteuid() == 0:
        os.chown(home, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ServerError, match=r"not to you\. Name a folder of your own in GEOSEARCH_HOME"):
        server_user.choose_user(home, home / "postgres")


def test_socket_folder_that_someone_else_put_there(home: Path) -> None:
    user = server_user.choose_user(home, home / "postgres")
    (home / "elsewhere").mkdir()
    (home / "link").symlink_to(home / "elsewhere")
    with pytest.raises(ServerError, match="someone else put it there"):
        server_user.check_private(home / "link", user)


def test_lock_is_held_by_one_and_waited_for_by_others(home: Path) -> None:
    with lock(home), pytest.raises(ServerError, match="another geosearch command"), lock(home, timeout_s=0.2):
        pytest.fail("two hold the lock")
    with lock(home, timeout_s=0.2):
        pass  # free again


def test_server_that_does_not_start_shows_its_log(home: Path) -> None:
    server.ensure_running(home)
    server.stop(home)
    with (home / "postgres" / "data" / "postgresql.conf").open("a") as conf:
        conf.write("shared_buffers = 'plenty'\n")
    with pytest.raises(ServerError, match=r"did not start: .*shared_buffers.*the whole log: .*server\.log"):
        server.ensure_running(home)


class TestPrograms:
    def test_those_of_this_machine_have_both_extensions(self) -> None:
        programs = server_programs.choose(self._server_bin())
        assert programs.major in server_programs.MAJORS
        assert programs.missing == []
        assert server_programs.version_tuple(programs.extensions["vector"]) >= (0, 7)

    def test_folder_without_programs(self, home: Path) -> None:
        with pytest.raises(ServerError, match="initdb, postgres and pg_ctl are not there"):
            server_programs.choose(home)

    def test_nothing_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_programs, "_folders", lambda: iter(()))
        with pytest.raises(ServerError, match=r"15 to 18 is needed and none was found\. Install it: "):
            server_programs.choose()

    @pytest.mark.parametrize(
        ("version", "extensions", "says"),
        [
            ("14.9", ("postgis", "vector"), "15 to 18 is needed and found only PostgreSQL 14.9"),
            ("19beta1", ("postgis", "vector"), "15 to 18 is needed and found only PostgreSQL 19beta1"),
            ("16.1", ("postgis",), "PostgreSQL 16.1 in .* lacks pgvector"),
            ("16.1", (), "lacks PostGIS and pgvector"),
        ],
    )
    def test_what_exactly_is_missing(self, home: Path, version: str, extensions: tuple[str, ...], says: str) -> None:
        with pytest.raises(ServerError, match=says):
            server_programs.choose(fake_programs(home, version, *extensions))

    def test_newest_complete_one_wins(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folders = [
            fake_programs(home / "a", "15.4", "postgis", "vector"),
            fake_programs(home / "b", "17.2", "postgis", "vector"),
            fake_programs(home / "c", "18.0", "postgis"),
            fake_programs(home / "d", "19.0", "postgis", "vector"),
        ]
        monkeypatch.setattr(server_programs, "_folders", lambda: iter(folders))
        assert server_programs.choose().version == "17.2"
        assert server_programs.choose(major=15).version == "15.4"

    @staticmethod
    def _server_bin() -> Path | None:
        named = os.environ.get("GEOSEARCH_SERVER_BIN")
        return Path(named) if named else None


def fake_programs(root: Path, version: str, *extensions: str) -> Path:
    """A folder that looks like an installed PostgreSQL, laid out as Homebrew does (share/postgresql beside bin)."""
    folder, share = root / "bin", root / "share" / "postgresql" / "extension"
    folder.mkdir(parents=True)
    share.mkdir(parents=True)
    for name in ("initdb", "pg_ctl", "postgres"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    (share / "plpgsql.control").write_text("")
    for name in extensions:
        (share / f"{name}.control").write_text("comment = 'x'\ndefault_version = '0.8.2'\n")
    return folder


class TestMemory:
    @pytest.mark.parametrize("total", [256 * MIB, GIB, 4 * GIB, 16 * GIB, 64 * GIB, 1024 * GIB])
    def test_parts_stay_within_the_machine(self, total: int) -> None:
        memory = server_config.memory_settings(total)
        assert 128 * MIB <= memory["shared_buffers"] <= max(total // 4, 128 * MIB)
        assert memory["shared_buffers"] <= 8 * GIB
        assert memory["work_mem"] * 4 + memory["maintenance_work_mem"] <= max(total // 4, 128 * MIB)
        assert memory["effective_cache_size"] <= max(total, 256 * MIB)

    def test_a_quarter_of_an_ordinary_machine(self) -> None:
        assert server_config.memory_settings(16 * GIB)["shared_buffers"] == 4 * GIB

    @pytest.mark.parametrize(("pgvector", "guarded"), [("0.5.1", False), ("0.8.0", True), ("0.8.2", False)])
    def test_parallel_builds_are_off_where_pgvector_is_unsafe(
        self, tmp_path: Path, pgvector: str, guarded: bool
    ) -> None:
        programs = server_programs.Programs(tmp_path, "16.1", {"vector": pgvector})
        text = server_config.configuration(tmp_path, tmp_path, programs, total=8 * GIB, cores=8)
        assert ("max_parallel_maintenance_workers = 0" in text) is guarded


def test_process_module_reads_a_pid_file_of_a_stand_alone_backend(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"-{os.getpid()}\n")  # single-user mode notes a negative number
    assert server_process.running(tmp_path) is None  # this process lives, and is no PostgreSQL of that folder
