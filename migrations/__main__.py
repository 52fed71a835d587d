"""Writes the next revision from the difference between the models and a migrated database, to be read and corrected.

    python -m geosearch_migrations "give images a cap" --url postgresql://…

The database must be at the newest revision; it is not changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import psycopg
from alembic import command
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from geosearch.database.extensions import search_path
from geosearch.database.install import revisions
from geosearch.database.migrate import alembic_config


def write_revision(message: str, url: str, folder: Path | None = None) -> Path:
    """Write ``<number>_<message>.py`` into folder (the package's own ``versions`` if None) and return its path."""
    number = f"{int(revisions()[-1]) + 1:04}"
    with psycopg.connect(url) as conn:
        path = search_path(conn, own=False)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with engine.connect() as connection:
        # Reflected types and tables must not come out under bare names of our own schema.
        connection.exec_driver_sql(f"set search_path = {path}")
        config = alembic_config(connection)
        config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
        if folder is not None:
            versions = Path(config.get_main_option("script_location") or "") / "versions"
            config.set_main_option("path_separator", "newline")
            config.set_main_option("version_locations", f"{versions}\n{folder}")
        script = command.revision(
            config, message, autogenerate=True, rev_id=number, version_path=str(folder) if folder else None
        )
        connection.rollback()
    assert script is not None and not isinstance(script, list)
    return Path(script.path)


def main() -> None:
    """Read the command line and print the path of the new file."""
    parser = argparse.ArgumentParser(prog="python -m geosearch_migrations", description=__doc__.splitlines()[0])
    parser.add_argument("message")
    parser.add_argument("--url", required=True, help="a migrated database to compare with")
    options = parser.parse_args()
    print(write_revision(options.message, options.url))


if __name__ == "__main__":
    main()
