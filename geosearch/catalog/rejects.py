"""What was rejected, listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from geosearch.database.archives import get_archive_id


@dataclass(frozen=True)
class KeptReject:
    """A row of the table `reject`."""

    archive: str
    stage: str
    source: str | None
    line: int | None
    name: str | None
    reason: str
    payload: str | None
    at: datetime


def list_rejects(
    conn: psycopg.Connection, archive: str | None = None, stage: str | None = None, limit: int | None = None
) -> list[KeptReject]:
    """Return rejects in the order of their sources and lines; of one archive, of one stage (catalog, embed).

    Raises UnknownNameError for an archive that is not there.
    """
    archive_id = None if archive is None else get_archive_id(conn, archive)
    with conn.cursor(row_factory=class_row(KeptReject)) as cursor:
        return cursor.execute(
            """
            select a.name as archive, r.stage, r.source, r.line, r.name, r.reason, r.payload, r.at
            from geosearch.reject r join geosearch.archive a on a.id = r.archive_id
            where (%(archive)s::integer is null or r.archive_id = %(archive)s)
              and (%(stage)s::text is null or r.stage = %(stage)s)
            order by a.name, r.source, r.line, r.id
            limit %(limit)s
            """,
            {"archive": archive_id, "stage": stage, "limit": limit},
        ).fetchall()
