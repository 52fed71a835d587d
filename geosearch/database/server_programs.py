"""The installed PostgreSQL: found where Debian, PGDG, Homebrew and others put it, with PostGIS and pgvector."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from geosearch.errors import ServerError

MAJORS = range(15, 19)  # PostgreSQL versions that geosearch is made for
EXTENSIONS = ("postgis", "vector")
SAFE_PGVECTOR = (0, 8, 2)  # CVE-2026-3172: parallel HNSW builds overflow a buffer from 0.6.0 to 0.8.1
_PATTERNS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PGDG on Fedora, Red Hat, SUSE
    "/usr/lib/postgresql*/bin",  # SUSE
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
)


@dataclass(frozen=True)
class Programs:
    """One installed PostgreSQL: its folder of programs, its version, and the versions of the extensions it has."""

    folder: Path
    version: str
    extensions: dict[str, str] = field(default_factory=dict)

    @property
    def major(self) -> int:
        """The major version: 15 of 15.20, 19 of 19beta1."""
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]  # version comes from a match of \d+

    @property
    def missing(self) -> list[str]:
        """Names of the extensions that are needed and not installed."""
        return [name for name in EXTENSIONS if name not in self.extensions]

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} in {self.folder}"


def version_tuple(version: str) -> tuple[int, ...]:
    """Return (0, 8, 2) of "0.8.2": versions that compare as numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def look_into(folder: Path) -> Programs | None:
    """Return the PostgreSQL whose programs are in a folder; None where there is none that runs."""
    needed = [folder / name for name in ("initdb", "postgres", "pg_ctl")]
    if not all(program.is_file() for program in needed):
        return None
    match = re.search(r"\d[\w.]*", _output(folder / "postgres", "--version").partition("PostgreSQL")[2])
    if match is None:
        return None
    programs = Programs(folder, match[0])
    for share in _share_folders(programs):
        found = {name: version for name in EXTENSIONS if (version := _control_version(share, name))}
        if found or (share / "extension" / "plpgsql.control").is_file():
            return Programs(folder, match[0], found)
    return programs


def installed(server_bin: Path | None = None) -> list[Programs]:
    """Return every installed PostgreSQL, the most useful first; with `server_bin` only the one in that folder."""
    folders = [server_bin.expanduser()] if server_bin else list(dict.fromkeys(_folders()))
    found = [programs for folder in folders if (programs := look_into(folder))]
    return sorted(found, key=lambda p: (p.major in MAJORS, -len(p.missing), version_tuple(p.version)), reverse=True)


def choose(server_bin: Path | None = None, major: int | None = None, data: Path | None = None) -> Programs:
    """Return the PostgreSQL to run: the newest with both extensions, or the one of the data folder's major version.

    Raises ServerError that says exactly what is missing and how to install it.
    """
    found = installed(server_bin)
    if server_bin and not found:
        raise ServerError(
            f"GEOSEARCH_SERVER_BIN names {server_bin}, but initdb, postgres and pg_ctl are not there. "
            "It is the folder that `pg_config --bindir` prints."
        )
    if major is not None:
        same = [programs for programs in found if programs.major == major]
        if not same:
            have = ", ".join(str(programs) for programs in found) or "no PostgreSQL"
            raise ServerError(
                f"the data folder {data} belongs to PostgreSQL {major}; installed: {have}. "
                f"Install PostgreSQL {major} with PostGIS and pgvector ({install_line(major)}), name its folder in "
                "GEOSEARCH_SERVER_BIN, or name another folder in GEOSEARCH_HOME to begin anew beside it."
            )
        found = same
    usable = [programs for programs in found if programs.major in MAJORS]
    if not usable:
        have = f"found only {', '.join(map(str, found))}" if found else "none was found"
        raise ServerError(
            f"PostgreSQL {MAJORS[0]} to {MAJORS[-1]} is needed and {have}. Install it: {install_line()} . "
            "Or name another server in GEOSEARCH_DATABASE_URL."
        )
    if usable[0].missing:
        names = " and ".join({"postgis": "PostGIS", "vector": "pgvector"}[name] for name in usable[0].missing)
        raise ServerError(f"{usable[0]} lacks {names}. Install it: {install_line(usable[0].major)}")
    return usable[0]


def os_release() -> dict[str, str]:
    """Return the facts of /etc/os-release; empty where there is no such file."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines) if value}


def install_line(major: int | None = None) -> str:
    """Return the line that installs the server and both extensions on this system."""
    if sys.platform == "darwin" or Path("/home/linuxbrew/.linuxbrew").is_dir():
        return "brew install postgresql@17 postgis pgvector"
    release = os_release()
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if release.get("ID") == "debian" and release.get("VERSION_ID") == "12" and major in (None, 15):
        # Debian 12 has no package of pgvector: the script builds it from Debian's own source package.
        return "`sudo setup/system.sh` in the repository (Debian 12 has no package of pgvector: it is built)"
    if family & {"debian", "ubuntu"}:
        default = {"13": 17, "24.04": 16, "26.04": 18}.get(release.get("VERSION_ID", ""), 17)
        number = major or default
        pgdg = (
            "" if number == default else "; from PGDG: `sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh`"
        )
        return (
            f"sudo apt-get install postgresql-{number} postgresql-{number}-postgis-3 postgresql-{number}-pgvector{pgdg}"
        )
    number = major or 17
    if family & {"fedora", "rhel", "centos"}:
        return f"from PGDG: sudo dnf install postgresql{number}-server postgis35_{number} pgvector_{number}"
    return "`docker compose run --rm migrate` in the repository, or PostgreSQL, PostGIS and pgvector from PGDG"


def _folders() -> Iterator[Path]:
    for pattern in _PATTERNS:
        yield from sorted(Path("/").glob(pattern.lstrip("/")))
    if config := shutil.which("pg_config"):
        yield Path(_output(Path(config), "--bindir").strip() or "/nonexistent")
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent


def _share_folders(programs: Programs) -> Iterator[Path]:
    config = programs.folder / "pg_config"
    if config.is_file() and (share := _output(config, "--sharedir").strip()):
        yield Path(share)
    above = programs.folder.parent
    yield Path(f"/usr/share/postgresql/{programs.major}")
    yield from (above / "share" / "postgresql", above / "share" / f"postgresql@{programs.major}", above / "share")


def _control_version(share: Path, extension: str) -> str | None:
    try:
        text = (share / "extension" / f"{extension}.control").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^default_version\s*=\s*'([^']+)'", text, re.MULTILINE)
    return match[1] if match else None


def _output(program: Path, option: str) -> str:
    try:
        return subprocess.run(  # noqa: S603  # a program of a system folder, or the one the user named
            [program, option], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
