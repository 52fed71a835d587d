"""A batch into the database: COPY into a staging table, one upsert, and row by row where the database refuses one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from psycopg import sql

from geosearch.catalog.batch import Batch, Reject, shortened
from geosearch.catalog.crossing import Geometries
from geosearch.errors import DatabaseError
from geosearch.geometry import PHOTO_REACH_M

# Everything but the hash stays text here: a value that its column refuses must fail in the upsert, where it can be
# found, and not in COPY, which it would end.
_STAGE = """
create temporary table if not exists geosearch_stage (
    seq integer, name text, uri text, captured_at text, nadir text, footprint text, reach_m float8, properties text,
    content_sha256 text, problems text, source_sha256 bytea
) on commit delete rows
"""
_COPY = "copy pg_temp.geosearch_stage from stdin"

# The lateral lookup goes through the unique index whatever the planner thinks of a table without statistics.
# Rows whose hash is the same are not touched at all: no lock, no write.
_UPSERT = """
with fresh as materialized (
    select s.*, old.id as old_id
    from pg_temp.geosearch_stage s
    left join lateral (
        select i.id, i.source_sha256 from geosearch.image i where i.archive_id = {archive} and i.name = s.name limit 1
    ) old on true
    where (old.id is null or old.source_sha256 is distinct from s.source_sha256) and {rows}
), written as (
    insert into geosearch.image as i (archive_id, name, uri, captured_at, nadir, footprint, reach_m, properties,
                                      content_sha256, problems, source_sha256)
    select {archive}, name, uri, captured_at::timestamptz, nadir::geography, footprint::geography, reach_m,
           properties::jsonb, decode(content_sha256, 'hex'), coalesce(problems, '{{}}')::text[], source_sha256
    from fresh order by old_id, seq  -- ascending ids, as all who write images and vectors go
    on conflict (archive_id, name) do update set
        uri = excluded.uri, captured_at = excluded.captured_at, nadir = excluded.nadir,
        footprint = excluded.footprint, reach_m = excluded.reach_m, properties = excluded.properties,
        content_sha256 = excluded.content_sha256, problems = excluded.problems,
        source_sha256 = excluded.source_sha256, updated_at = now()
    returning 1
)
select count(*) filter (where old_id is null), count(*) filter (where old_id is not null),
       (select count(*) from written)
{into}
from fresh
"""

# Classes of errors that a value is to blame for: data, constraints, limits, and what PostGIS raises (XX000).
_ONE_BY_ONE = """
create function pg_temp.geosearch_one_by_one(archive integer) returns table (refused integer, reason text)
language plpgsql as $body$
declare
    this integer;
    counts record;
begin
    for this in select s.seq from pg_temp.geosearch_stage s order by s.seq loop
        begin
            {upsert};
        exception when others then
            if left(sqlstate, 2) not in ('22', '23', '54', 'XX') then
                raise;
            end if;
            refused := this;
            reason := sqlerrm;
            return next;
        end;
    end loop;
end $body$
"""
_ROW_FAULTS = ("22", "23", "54", "XX")


@dataclass
class Written:
    """What became of a batch's rows; `refused` were turned down by the database itself."""

    added: int
    updated: int
    unchanged: int
    refused: list[Reject]


def prepare(conn: psycopg.Connection) -> None:
    """Make the staging table of this session."""
    conn.execute(_STAGE)


def to_copy(batch: Batch, reach_m: float = PHOTO_REACH_M) -> bytes:
    """Return the batch in COPY's text format, each row with a SHA-256 over all that will be stored of it."""
    has_nadir = ~np.isnan(batch.nadir).any(axis=1)
    nadir: Geometries = np.full(len(batch), None, dtype=object)
    nadir[has_nadir] = shapely.points(batch.nadir[has_nadir][:, ::-1])
    has_footprint = np.array([shape is not None for shape in batch.footprint], bool)
    # The reach belongs to a place that is a nadir; a footprint shows its ground itself.
    reach = np.where(has_footprint | ~has_nadir, 0.0, reach_m)
    columns = [
        _escaped(pa.array(batch.name, pa.string())),
        _escaped(pa.array(batch.uri, pa.string())),
        pa.array(batch.captured_at, pa.string()),
        pa.array(_hex(nadir), pa.string()),
        pa.array(_hex(batch.footprint), pa.string()),
        pc.cast(pa.array(reach), pa.string()),
        _escaped(pa.array(batch.properties, pa.string())),
        pa.array([None if value is None else value.hex() for value in batch.content_sha256], pa.string()),
        _escaped(pa.array([_array(values) for values in batch.problems], pa.string())),
    ]
    # Escaped, a row is unambiguous: no value can run into the next, and null is not empty.
    rows = pc.binary_join_element_wise(*(pc.fill_null(column, r"\N") for column in columns), "\t").to_pylist()
    lines = (f"{i}\t{row}\t\\\\x{hashlib.sha256(row.encode()).hexdigest()}\n" for i, row in enumerate(rows))
    return "".join(lines).encode()


def write(conn: psycopg.Connection, archive_id: int, batch: Batch, payload: bytes) -> Written:
    """Write a batch within the open transaction; a row that the database refuses costs itself alone."""
    _copy(conn, payload, len(batch))
    refused: list[Reject] = []
    try:
        with conn.transaction():
            added, updated = _upsert(conn, archive_id)
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _ROW_FAULTS:
            raise
        refused = _find_refused(conn, archive_id, batch)
        added, updated = _upsert(conn, archive_id)
    return Written(added, updated, len(batch) - len(refused) - added - updated, refused)


def write_rejects(conn: psycopg.Connection, archive_id: int, source: str, rejects: Iterable[Reject]) -> None:
    """Keep rejects in the `reject` table."""
    command = "copy geosearch.reject (archive_id, stage, source, line, name, reason, payload) from stdin"
    with conn.cursor() as cursor, cursor.copy(command) as copy:
        for one in rejects:
            texts = (None if text is None else shortened(text) for text in (one.name, one.reason, one.payload))
            copy.write_row((archive_id, "catalog", source, one.line, *texts))


def _copy(conn: psycopg.Connection, payload: bytes, rows: int) -> None:
    with conn.cursor() as cursor:
        with cursor.copy(_COPY) as copy:
            copy.write(payload)
        if cursor.rowcount != rows:
            raise DatabaseError(f"of {rows} rows the database took {cursor.rowcount}; this batch was not written")


def _upsert(conn: psycopg.Connection, archive_id: int) -> tuple[int, int]:
    statement = sql.SQL(_UPSERT).format(archive=sql.Literal(archive_id), rows=sql.SQL("true"), into=sql.SQL(""))
    row = conn.execute(statement, prepare=False).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def _find_refused(conn: psycopg.Connection, archive_id: int, batch: Batch) -> list[Reject]:
    """Try each staged row alone, take those out that fail, and undo the trial."""
    this, counts = sql.SQL("s.seq = this"), sql.SQL("into counts")
    body = sql.SQL(_UPSERT).format(archive=sql.SQL("archive"), rows=this, into=counts)
    refused: list[tuple[int, str]] = []
    with conn.transaction(force_rollback=True):
        conn.execute(sql.SQL(_ONE_BY_ONE).format(upsert=body))
        refused = conn.execute("select refused, reason from pg_temp.geosearch_one_by_one(%s)", [archive_id]).fetchall()
    conn.execute("delete from pg_temp.geosearch_stage where seq = any(%s)", [[seq for seq, _ in refused]])
    return [
        Reject(
            f"the database refused it: {reason}", int(batch.line[seq]) or None, batch.name[seq], batch.properties[seq]
        )
        for seq, reason in refused
    ]


def _hex(shapes: Geometries) -> Sequence[str | None]:
    """Return WKB in hexadecimal, None for None. Without an SRID: a geography's is 4326, and setting one copies."""
    return list(shapely.to_wkb(shapes, hex=True, byte_order=1, output_dimension=2))


def _escaped(text: pa.Array) -> pa.Array:
    """Escape what has a meaning in COPY's text format."""
    for plain, written in (("\\", r"\\"), ("\t", r"\t"), ("\n", r"\n"), ("\r", r"\r")):
        text = pc.replace_substring(text, plain, written)
    return text


def _array(values: Sequence[str]) -> str | None:
    """Return a text[] literal."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}" if values else None
