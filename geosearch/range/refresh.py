"""RANGE embeddings of every image that has a place, computed here and stored beside: table range_<bank>_stored.

The view range_<bank> computes each row when it is read; a whole archive is a thousand times cheaper outside. What is
there already is left: an image is computed when it is new, was moved, or when the bank, its encoder or the options are
others than before. Each batch is committed by itself, so that a run that was killed is continued by the next. The count
of changes is read in the snapshot in which the images are looked at: it is what the stored rows are up to date with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.types.json import Jsonb

from geosearch.database.connection import connect
from geosearch.database.statistics import refresh_statistics
from geosearch.embedding.address import address
from geosearch.errors import DatabaseError, InputError
from geosearch.range.options import Retrieval
from geosearch.range.queries import place_encoder
from geosearch.range.records import POINT, Layout
from geosearch.range.store import BankRow, bank_of, read_bank

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geosearch.encoders.places import PlaceEncoder
    from geosearch.range.soft import Precision, SoftRetrieval

Progress = Callable[[int, int], None]

BATCH = 2048
_LOCKS = 0x67740000  # first key of the advisory locks; the bank's id is added

_MISSING = """
    select i.id, st_x(p.geom) as lon, st_y(p.geom) as lat
    from geosearch.image i
    cross join lateral (select geosearch.place_point(coalesce(i.footprint, i.nadir)) as geom offset 0) p
    left join {stored} s on s.image_id = i.id
    where coalesce(i.footprint, i.nadir) is not null
      and (s.image_id is null or st_x(s.geom) <> st_x(p.geom) or st_y(s.geom) <> st_y(p.geom))
    order by i.id
"""
_PLACED = "select count(*) from geosearch.image where footprint is not null or nadir is not null"
_PLACELESS = (
    "delete from {stored} s using geosearch.image i where i.id = s.image_id and i.footprint is null and i.nadir is null"
)
# As in embedding.write: images are looked up one by one, in order, and held; one that was removed is left out.
_INSERT = """
    with there as (
        select i.id, t.embedding, t.geom
        from (select * from {incoming} order by image_id) t
        cross join lateral (select id from geosearch.image where id = t.image_id for key share) i
    ), written as (
        insert into {stored} as s (image_id, embedding, geom) select id, embedding, geom from there
        on conflict (image_id) do update set embedding = excluded.embedding, geom = excluded.geom
        returning xmax = 0 as added
    )
    select count(*) filter (where added), count(*) filter (where not added) from written
"""


@dataclass(frozen=True)
class RefreshReport:
    """The account of a run: added + moved + gone + lonely + unchanged is `images`, all that have a place.

    gone: removed from the catalogue meanwhile. lonely: without any place of the bank within min_cos. removed: stored
    rows of images that have lost their place. anew: the bank, its encoder or the options are others, so all was
    computed anew. up_to_date: nothing had changed at all.
    """

    bank: str
    images: int
    added: int = 0
    moved: int = 0
    unchanged: int = 0
    gone: int = 0
    lonely: int = 0
    removed: int = 0
    anew: bool = False
    up_to_date: bool = False
    seconds: float = 0.0


def refresh(
    database: psycopg.Connection[Any] | str | None,
    name: str,
    options: Retrieval | None = None,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    anew: bool = False,
    encoder: PlaceEncoder | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> RefreshReport:
    """Bring the stored embeddings of a bank up to date with the catalogue, and return the account.

    database: a URL, a connection (only its address is used), or None for the default. options: RANGE+ by default.
    anew: compute all. Others may read and write meanwhile; what they commit after the beginning is for the next run.
    Needs the rights of geosearch_ingest. Raises UnknownNameError, InputError (a second run over one bank at a time).
    """
    started = time.perf_counter()
    url, options = address(database), options or Retrieval()
    with connect(url, autocommit=True) as conn, _alone(conn, name) as row:
        if row.built_at is None:
            raise InputError(f"bank {name} is not finished; fill it, or drop it and build it anew")
        encoder = encoder or place_encoder(row.encoder, row.key_dimension)
        facts = {
            **options.to_dict(),
            "precision": precision,
            "built_at": row.built_at and row.built_at.isoformat(),
            "encoder_sha256": encoder.info.weights_sha256,
        }
        anew = _begin(conn, row, facts, anew)
        with connect(url) as reader:
            changes, images, missing = _look(reader, row, None if anew else row.stored_changes)
        if missing is None:
            return RefreshReport(name, images, unchanged=images, up_to_date=True, seconds=time.perf_counter() - started)
        from geosearch.range.soft import SoftRetrieval

        with connect(url) as other:
            bank = read_bank(other, name)
        run = _Run(conn, row, SoftRetrieval(bank, options, device, precision, encoder), batch)
        added, moved = run.go(missing, progress)
        with conn.transaction():
            removed = conn.execute(sql.SQL(_PLACELESS).format(stored=row.stored_table)).rowcount
            finished = conn.execute(
                "update geosearch.bank set stored_at = now(), stored_changes = %s where id = %s and stored_with = %s",
                [changes, row.id, Jsonb(facts)],
            ).rowcount
            conn.execute("select geosearch.fold_changes('image')")  # or the count's rows would only ever grow
        if not finished:
            raise _dropped(name)
    return RefreshReport(
        name,
        images,
        added,
        moved,
        images - len(missing),
        len(missing) - added - moved - run.lonely,
        run.lonely,
        removed,
        anew,
        seconds=time.perf_counter() - started,
    )


@contextmanager
def _alone(conn: psycopg.Connection[Any], name: str) -> Iterator[BankRow]:
    """Yield the bank, which no other run refreshes meanwhile; ends with the session, however that ends."""
    bank = bank_of(conn, name)
    key = _LOCKS + bank.id % 0x10000
    taken = conn.execute("select pg_try_advisory_lock(%s, %s)", [key, bank.id]).fetchone()
    if not (taken and taken[0]):
        raise InputError(f"bank {name} is being refreshed by another run; wait until it has ended")
    try:
        yield bank_of(conn, name)  # as the run before it left it
    finally:
        if not conn.closed:
            conn.execute("select pg_advisory_unlock(%s, %s)", [key, bank.id])


def _begin(conn: psycopg.Connection[Any], row: BankRow, facts: dict[str, Any], anew: bool) -> bool:
    """Empty the table where its rows were made in another way, or all shall be anew; tell whether that was so."""
    same = row.stored_with == facts
    if same and not anew:
        return False
    with conn.transaction():
        conn.execute(sql.SQL("truncate {}").format(row.stored_table))
        conn.execute(
            "update geosearch.bank set stored_at = null, stored_changes = null, stored_with = %s where id = %s",
            [Jsonb(facts), row.id],
        )
    return True


def _look(
    reader: psycopg.Connection[Any], row: BankRow, stored_changes: int | None
) -> tuple[int, int, NDArray[Any] | None]:
    """Return the count of changes, how many images have a place, and those to compute, of one snapshot.

    The last is None where the count is the stored one. 24 bytes an image: the snapshot need not stay open.
    """
    reader.rollback()
    with reader.transaction():
        reader.execute("set transaction isolation level repeatable read, read only")
        counted = reader.execute("select geosearch.change_count('image')").fetchone()
        placed = reader.execute(_PLACED).fetchone()
        assert counted is not None
        assert placed is not None
        if counted[0] == stored_changes:
            return int(counted[0]), int(placed[0]), None
        layout = Layout(id="int8", lon="float8", lat="float8")
        missing = layout.read_all(reader, sql.SQL(_MISSING).format(stored=row.stored_table))
    compact = np.empty(len(missing), [("id", np.int64), ("lon", np.float64), ("lat", np.float64)])
    for field in compact.dtype.names or ():
        compact[field] = missing[field]
    return int(counted[0]), int(placed[0]), compact


class _Run:
    """Computes and writes, a batch a transaction."""

    def __init__(self, conn: psycopg.Connection[Any], row: BankRow, retrieval: SoftRetrieval, batch: int) -> None:
        self.conn, self.row, self.retrieval, self.batch = conn, row, retrieval, batch
        self.lonely = 0
        incoming = f"incoming_range_{row.name}"
        self.names = {"incoming": sql.Identifier("pg_temp", incoming), "stored": row.stored_table}
        self.layout = Layout(image_id="int8", embedding=row.dimension, geom=POINT)
        with conn.transaction():
            conn.execute("set local client_min_messages = warning")
            conn.execute(
                sql.SQL(
                    "create temp table if not exists {} on commit delete rows as"
                    " select image_id, embedding, geom from {} with no data"
                ).format(sql.Identifier(incoming), row.stored_table)
            )

    def go(self, missing: NDArray[Any], progress: Progress | None) -> tuple[int, int]:
        """Store the embeddings of images; return how many were added and how many replaced."""
        added = moved = 0
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            alone = self.retrieval.lonely(part["lat"], part["lon"])
            self.lonely += int(alone.sum())
            lonely, part = part["id"][alone].tolist(), part[~alone]
            rows = self.layout.empty(len(part))
            rows["image_id"], rows["geom_lat"], rows["geom_lon"] = part["id"], part["lat"], part["lon"]
            rows["embedding"] = self.retrieval.embed(part["lat"], part["lon"])
            with self.conn.transaction():
                self.layout.write(self.conn, self.names["incoming"], rows)
                written = self.conn.execute(sql.SQL(_INSERT).format(**self.names)).fetchone()
                # Those that were moved there have a row of the place where they were.
                self.conn.execute(
                    sql.SQL("delete from {stored} where image_id = any (%s)").format(**self.names), [lonely]
                )
                # With its table locked by the insert, no other bank can take this one's place.
                there = self.conn.execute("select 1 from geosearch.bank where id = %s", [self.row.id]).fetchone()
                if there is None:
                    raise _dropped(self.row.name)
            assert written is not None
            added, moved = added + int(written[0]), moved + int(written[1])
            if progress:
                progress(min(start + self.batch, len(missing)), len(missing))
        refresh_statistics(self.conn, self.row.stored_table, added + moved)
        return added, moved


def _dropped(name: str) -> DatabaseError:
    return DatabaseError(f"bank {name} was dropped meanwhile; what was stored by it is gone")
