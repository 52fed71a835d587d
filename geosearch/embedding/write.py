"""Vectors → a space's table: binary COPY into a temporary table, then one insert; and the rejects beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from geosearch.database.copy_records import END, HEADER
from geosearch.database.spaces import Space
from geosearch.item import Place

# Images are looked up one by one, through their key and in its order: a temporary table has no statistics, and a plan
# made without them reads the whole catalogue for every batch. The lock keeps an image from being removed meanwhile.
_INSERT = """
    with there as (
        select i.id, i.content_sha256 as catalogued, t.content_sha256, t.embedding
        from (select * from {incoming} order by image_id) t
        cross join lateral (select id, content_sha256 from geosearch.image where id = t.image_id for key share) i
    ), written as (
        insert into {table} as s (image_id, content_sha256, embedding)
        select id, coalesce(content_sha256, catalogued), embedding from there
        on conflict (image_id) do update
            set content_sha256 = excluded.content_sha256, embedding = excluded.embedding, embedded_at = now()
            where s.embedding is distinct from excluded.embedding
               or s.content_sha256 is distinct from excluded.content_sha256
        returning xmax = 0 as added
    )
    select (select count(*) from there),
           (select count(*) from written where added),
           (select count(*) from written where not added),
           (select array_agg(id) from there where content_sha256 <> catalogued),
           exists (select from geosearch.reject where stage = 'embed' and payload = %(payload)s and line is null)
"""
# The images are locked by the statement above; those that are gone have nothing to keep.
_PLACES = """
    insert into geosearch.embedded_place as e (image_id, space_id, lat, lon)
    select i.id, %(space)s, t.lat, t.lon
    from (select * from unnest(%(ids)s::bigint[], %(lat)s::float8[], %(lon)s::float8[]) as t (image_id, lat, lon)
          order by image_id) t
    cross join lateral (select id from geosearch.image where id = t.image_id offset 0) i
    on conflict (image_id, space_id) do update set lat = excluded.lat, lon = excluded.lon
"""
_FORGET = """
    delete from geosearch.reject r using {incoming} t
    cross join lateral (select archive_id, name from geosearch.image where id = t.image_id offset 0) i
    where r.stage = 'embed' and r.payload = %(payload)s and r.line is null
      and r.archive_id = i.archive_id and r.name = i.name
"""


class Rejected(NamedTuple):
    """Something that got no vector: the file or row it came from, its name, and why."""

    archive_id: int
    name: str | None
    reason: str
    source: str | None = None
    line: int | None = None


class Written(NamedTuple):
    """What became of a batch; gone: images that were removed from the catalogue meanwhile."""

    added: int
    updated: int
    unchanged: int
    gone: int


def copy_rows(ids: Sequence[int], vectors: NDArray[np.floating], hashes: Sequence[bytes] | None) -> bytes:
    """Return rows (image_id, content_sha256, embedding) in PostgreSQL's binary COPY format.

    vectors: (n, d), sent as halfvec. hashes: 32 bytes each, or None for null. One array of fixed-width records is built
    by NumPy: 2.5 times as fast as row by row.
    """
    n, d = vectors.shape
    hash_fields = [("hash_size", ">i4"), ("hash", "V32")] if hashes is not None else [("hash_size", ">i4")]
    rows = np.zeros(
        n,
        np.dtype([
            ("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8"), *hash_fields,
            ("size", ">i4"), ("dimension", ">i2"), ("unused", ">i2"), ("values", ">f2", (d,)),
        ]),
    )  # fmt: skip
    rows["fields"], rows["id_size"], rows["id"] = 3, 8, ids
    rows["hash_size"] = -1 if hashes is None else 32
    if hashes is not None:
        rows["hash"] = np.frombuffer(b"".join(hashes), "V32")
    rows["size"], rows["dimension"], rows["values"] = 4 + 2 * d, d, vectors
    return HEADER + rows.tobytes() + END


class VectorWriter:
    """Writes batches into one space, each in one transaction: wholly there or not at all.

    An image that is removed at the same time is left out, not an error. Rows of other runs are updated, not doubled.
    """

    def __init__(self, conn: psycopg.Connection, space: Space) -> None:
        self.conn, self.space = conn, space
        # Made like the space's own table: the vector type's schema need not be known.
        make = sql.SQL(
            "create temp table if not exists {incoming} on commit delete rows as"
            " select image_id, content_sha256, embedding from {table} with no data"
        )
        self._names = {"incoming": sql.Identifier("pg_temp", f"incoming_{space.name}"), "table": space.table}
        with conn.transaction():
            conn.execute("set local client_min_messages = warning")
            conn.execute(make.format(incoming=sql.Identifier(f"incoming_{space.name}"), table=space.table))
        self._insert = sql.SQL(_INSERT).format(**self._names)
        self._forget = sql.SQL(_FORGET).format(**self._names)

    def write(
        self,
        ids: Sequence[int],
        vectors: NDArray[np.floating],
        hashes: Sequence[bytes] | None,
        places: Sequence[Place | None] | None = None,
    ) -> Written:
        """Write vectors (n, d) of unit length and clear the images' rejects, in the caller's transaction.

        hashes: of the pixels the vectors were made from; None takes what the catalogue says. places: that they were
        made with, for a model that reads places; None for any other.
        """
        if not len(ids):
            return Written(0, 0, 0, 0)
        with self.conn.cursor() as cursor:
            statement = sql.SQL("copy {incoming} (image_id, content_sha256, embedding) from stdin (format binary)")
            with cursor.copy(statement.format(**self._names)) as copy:
                copy.write(copy_rows(ids, vectors, hashes))
            row = cursor.execute(self._insert, {"payload": payload(self.space)}).fetchone()
            assert row is not None
            there, added, updated, changed, has_rejects = row
            if changed:
                # The file was changed since it was catalogued: the catalogue follows what was really read.
                cursor.execute(
                    sql.SQL(
                        "update geosearch.image i set content_sha256 = t.content_sha256, updated_at = now()"
                        " from {incoming} t where i.id = t.image_id and i.id = any(%s)"
                    ).format(**self._names),
                    [changed],
                )
            if places is not None:
                known = {
                    "ids": list(ids),
                    "lat": [None if place is None else place.lat for place in places],
                    "lon": [None if place is None else place.lon for place in places],
                }
                cursor.execute(_PLACES, {"space": self.space.id, **known})
            if has_rejects:
                cursor.execute(self._forget, {"payload": payload(self.space)})
        return Written(added, updated, there - added - updated, len(ids) - there)

    def reject(self, rejected: Iterable[Rejected]) -> None:
        """Keep rejects, each in place of an earlier one of the same image and space; in the caller's transaction."""
        rows = list(rejected)
        if not rows:
            return
        with self.conn.cursor() as cursor:
            cursor.execute(
                "delete from geosearch.reject r using unnest(%s::int[], %s::text[]) as t (archive_id, name)"
                " where r.stage = 'embed' and r.payload = %s and r.archive_id = t.archive_id and r.name = t.name"
                " and r.line is null",
                [
                    [row.archive_id for row in rows if row.line is None],
                    [_text(row.name) for row in rows if row.line is None],
                    payload(self.space),
                ],
            )
            # An archive that was removed meanwhile took its rejects along.
            cursor.executemany(
                "insert into geosearch.reject (archive_id, stage, source, line, name, reason, payload)"
                " select id, 'embed', %s, %s, %s, %s, %s from geosearch.archive where id = %s",
                [
                    (
                        _text(row.source),
                        row.line,
                        _text(row.name),
                        _text(row.reason),
                        payload(self.space),
                        row.archive_id,
                    )
                    for row in rows
                ],
            )


def payload(space: Space) -> str:
    """Return what a reject of the embedding stage carries: the space, since one file may fail in one space only.

    `geosearch.drop_space` removes the rejects with this very text.
    """
    return f'{{"space": "{space.name}"}}'


def _text(value: str | None) -> str | None:
    return None if value is None else value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
