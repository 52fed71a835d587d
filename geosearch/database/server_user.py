"""The user that the private cluster runs as. PostgreSQL refuses root, so root hands its commands to another user."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geosearch.errors import ServerError


@dataclass(frozen=True)
class ServerUser:
    """An ordinary user, never root. `run` runs programs as this user, whoever runs geosearch."""

    uid: int
    gid: int
    name: str
    home: str

    @classmethod
    def of_uid(cls, uid: int) -> ServerUser:
        """Return the user of that number, also where the system has no name for it (containers)."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, os.getegid() if uid == os.geteuid() else uid, str(uid), "/")
        return cls(uid, entry.pw_gid, entry.pw_name, entry.pw_dir)

    @property
    def is_me(self) -> bool:
        """True when this process already runs as that user."""
        return os.geteuid() == self.uid

    def run(
        self, argv: Sequence[str | Path], cwd: Path, stdin: str = "", timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as this user and return it with its text output; the exit status is not checked."""
        drop: dict[str, object] = {}
        if not self.is_me:
            groups = os.getgrouplist(self.name, self.gid) if not self.name.isdigit() else [self.gid]
            drop = {"user": self.uid, "group": self.gid, "extra_groups": groups}
        # Little of the environment is handed on: PGDATA and its like would redirect the server, and PROJ_DATA of a
        # Python package would give PostGIS a foreign proj.db.
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        return subprocess.run(  # noqa: S603  # our own argument lists, no shell input
            [str(part) for part in argv],
            cwd=cwd,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            start_new_session=True,  # Ctrl-C stops geosearch and not a server that is starting
            env={"PATH": os.defpath, **kept, "HOME": self.home, "LC_ALL": "C"},
            **drop,  # type: ignore[call-overload]
        )

    def shell(self, script: str, *args: str | Path, cwd: Path = Path("/"), stdin: str = "") -> None:
        """Run a few lines of sh as this user; arguments are "$1", "$2" … . Raises ServerError with what it said."""
        done = self.run(["/bin/sh", "-eu", "-c", script, "sh", *args], cwd=cwd, stdin=stdin)
        if done.returncode:
            raise ServerError(f"as user {self.name}: {done.stderr.strip() or f'sh ended with {done.returncode}'}")

    def write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all, as this user: root must not write through links in another's folder."""
        self.shell('umask 077; cat > "$1.new"; mv -f "$1.new" "$1"', path, stdin=text)


def choose_user(home: Path, cluster: Path) -> ServerUser:
    """Return who runs the cluster: oneself; for root the owner of the folder, or else the user `postgres`."""
    for folder in (cluster, home):
        if folder.exists() and (owner := folder.stat().st_uid) != 0:
            if os.geteuid() not in (0, owner):
                raise ServerError(
                    f"{folder} belongs to {ServerUser.of_uid(owner).name}, not to you. "
                    "Name a folder of your own in GEOSEARCH_HOME, or another server in GEOSEARCH_DATABASE_URL."
                )
            return ServerUser.of_uid(owner)
    if os.geteuid() != 0:
        return ServerUser.of_uid(os.geteuid())
    try:
        return ServerUser.of_uid(pwd.getpwnam("postgres").pw_uid)
    except KeyError:
        raise ServerError(
            "PostgreSQL does not run as root, and there is no user `postgres` to run it as. Create one "
            "(adduser --system --group postgres), or give the data folder to another user: "
            f"chown USER {home}"
        ) from None


def make_folder(folder: Path, user: ServerUser, of_user: bool) -> None:
    """Make a folder unless it is there: 0700 and the user's own, or else one that the user can pass through."""
    try:
        if of_user and not user.is_me:
            if not folder.exists() or folder.stat().st_uid == 0:
                folder.mkdir(mode=0o700, exist_ok=True)
                os.chown(folder, user.uid, user.gid, follow_symlinks=False)
        elif not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not user.is_me:
                folder.chmod(0o755)  # whatever root's umask is
    except OSError as error:
        raise ServerError(
            f"the folder {folder} cannot be made ({error.strerror}). Name another in GEOSEARCH_HOME."
        ) from error


def check_private(folder: Path, user: ServerUser) -> None:
    """Refuse a folder that another user could enter or has put there: the socket in it asks for no password."""
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != user.uid:
        raise ServerError(
            f"{folder} is not a folder of user {user.name}: someone else put it there. Remove it, or name a folder "
            "with a shorter path in GEOSEARCH_HOME."
        )
    if facts.st_mode & 0o077:
        user.shell('chmod 700 "$1"', folder)


def check_reachable(folder: Path, user: ServerUser) -> None:
    """Refuse a folder that the user cannot enter and write, as one below /root is when root drops to `postgres`."""
    if user.run(["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", folder], cwd=Path("/")).returncode:
        raise ServerError(
            f"the private cluster runs as user {user.name}, who cannot enter or write {folder}. Name a folder in "
            "GEOSEARCH_HOME that this user can reach (by default /var/lib/geosearch when you are root)."
        )
