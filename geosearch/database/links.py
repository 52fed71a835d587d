"""How other programs connect to the database: the same address in the words of psql, GDAL and QGIS."""

from __future__ import annotations

import shutil
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from geosearch.database.server_programs import installed
from geosearch.errors import InputError, ServerError
from geosearch.settings import settings

_GDAL_WORDS = ("host", "port", "dbname", "user", "password", "service", "sslmode")
_QGIS_FIELDS = {"service": "Service", "host": "Host", "port": "Port", "dbname": "Database", "sslmode": "SSL mode"}


def link(url: str, written_for: str = "url") -> str:
    """Return the address `url` written for 'url', 'libpq', 'gdal' (ogrinfo, ogr2ogr) or 'qgis'."""
    words = _words(url)
    if written_for == "libpq":
        return make_conninfo(**words)
    if written_for == "gdal":
        # Only these words are known to GDAL's driver; schemas= keeps PostGIS's own tables out of the list.
        known = {word: value for word, value in words.items() if word in _GDAL_WORDS}
        return f"PG:{make_conninfo(**known)} schemas=geosearch"
    if written_for == "qgis":
        fields = {label: words[word] for word, label in _QGIS_FIELDS.items() if word in words}
        fields.setdefault("Port", "5432")
        login = {"User name": words.get("user", ""), "Password": words.get("password", "")}
        lines = {"Name": "geosearch", **fields, **{label: value for label, value in login.items() if value}}
        return "\n".join(f"{label}: {value}" for label, value in lines.items())
    return url


def masked(url: str) -> str:
    """Return the address without its password."""
    words = _words(url)
    return make_conninfo(**{word: "***" if word == "password" else value for word, value in words.items()})


def find_psql() -> Path:
    """Return the program psql: the one of the newest server here, or the one on the PATH."""
    for programs in installed(settings().server_bin):
        if (programs.folder / "psql").is_file():
            return programs.folder / "psql"
    on_path = shutil.which("psql")
    if on_path is None:
        raise ServerError("psql is not installed here: sudo apt-get install postgresql-client, or brew install libpq")
    return Path(on_path)


def _words(url: str) -> dict[str, str]:
    try:
        return {word: str(value) for word, value in conninfo_to_dict(url).items() if value is not None}
    except ProgrammingError as error:
        raise InputError(
            f"GEOSEARCH_DATABASE_URL is not an address of PostgreSQL ({str(error).strip()}). "
            "It reads like postgresql://user@host:5432/database"
        ) from error
