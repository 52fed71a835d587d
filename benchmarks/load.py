"""Loads the synthetic archive into a database of its own: once as somebody would by hand, once as geosearch does.

`byhand.image` is what a user makes: nadir, footprint and vector in one row, the vector inline (not fetched from
elsewhere), a GiST index over the place and an HNSW index over the vectors. Its vectors' column has no fixed dimension
and the HNSW index stands over the cast to one, as pgvector's manual has it for such columns: so a query that orders by
the plain column never uses it, one that orders by the cast does, and one table serves both ways.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import psycopg
from archive import FAR, FAR_M, FOOTPRINT, Archive, Shape, corners
from numpy.typing import NDArray
from psycopg import sql
from psycopg.conninfo import make_conninfo

SPACE = "benchmark"
_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
_END = struct.pack(">h", -1)
_EPOCH = 946_684_800  # of PostgreSQL: 2000-01-01


class Stages:
    """Seconds of the stages of loading, kept in the database so that a later run with --reuse knows them."""

    def __init__(self, conn: psycopg.Connection[Any], say: Callable[[str], None]) -> None:
        self.conn, self.say = conn, say
        conn.execute("create schema if not exists byhand")
        conn.execute("create table if not exists byhand.stage (name text primary key, seconds float8)")

    def done(self, name: str) -> bool:
        """Whether the stage was finished, now or in an earlier run."""
        return self.conn.execute("select from byhand.stage where name = %s", [name]).fetchone() is not None

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Run a stage and note its seconds."""
        self.say(f"{name} …")
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self.note(name, seconds)
        self.say(f"{name}: {seconds:.1f} s")

    def note(self, name: str, seconds: float) -> None:
        """Note that a stage took so many seconds."""
        self.conn.execute(
            "insert into byhand.stage values (%s, %s) on conflict (name) do update set seconds = excluded.seconds",
            [name, seconds],
        )

    def seconds(self) -> dict[str, float]:
        """Return the seconds of every stage that was finished."""
        return dict(self.conn.execute("select name, seconds from byhand.stage order by name").fetchall())


def database(server: str, name: str, keep: bool) -> str:
    """Return the URL of the database `name` on a server, made anew unless it is kept. server: URL of a superuser."""
    with psycopg.connect(server, autocommit=True) as conn:
        there = conn.execute("select from pg_database where datname = %s", [name]).fetchone() is not None
        if there and not keep:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        if not (there and keep):
            conn.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    url = make_conninfo(server, dbname=name)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("create extension if not exists postgis")
        conn.execute("create extension if not exists vector")
    return url


def drop(server: str, name: str) -> None:
    """Remove the database."""
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def check_shape(conn: psycopg.Connection[Any], shape: Shape) -> None:
    """Note in the database what it holds, or refuse one that an earlier run filled with something else."""
    told = json.dumps(asdict(shape))
    row = conn.execute("select obj_description('byhand'::regnamespace, 'pg_namespace')").fetchone()
    assert row is not None
    if row[0] is None:
        conn.execute(sql.SQL("comment on schema byhand is {}").format(told))
    elif row[0] != told:
        raise SystemExit(f"the database holds {row[0]}, not {told}: run without --reuse, or with other options")


def load_by_hand(conn: psycopg.Connection[Any], archive: Archive, stages: Stages, hnsw: bool) -> None:
    """Make and fill byhand.image and its indexes, what of it is not there yet."""
    if not stages.done("by hand: rows"):
        conn.execute("drop table if exists byhand.image")
        conn.execute(
            "create table byhand.image (id bigint not null, nadir geography(point, 4326), footprint"
            " geography(multipolygon, 4326), reach_m float8 not null, embedding halfvec not null)"
        )
        conn.execute("alter table byhand.image alter column embedding set storage plain")
        with stages.timed("by hand: rows"):
            _copy(conn, "byhand.image (id, nadir, footprint, reach_m, embedding)", archive, _by_hand)
            conn.execute("alter table byhand.image add primary key (id)")
    if not stages.done("by hand: GiST"):
        with stages.timed("by hand: GiST"):
            conn.execute("create index image_place_idx on byhand.image using gist (coalesce(footprint, nadir))")
            conn.execute("vacuum analyze byhand.image")
    if hnsw and not stages.done("by hand: HNSW"):
        conn.execute("drop index if exists byhand.image_hnsw_idx")
        conn.execute(_BUILD_MEMORY.format(_build_memory(archive)))
        conn.execute("set max_parallel_maintenance_workers = 0")  # pgvector before 0.8.2: CVE-2026-3172
        with stages.timed("by hand: HNSW"):
            conn.execute(
                "create index image_hnsw_idx on byhand.image using hnsw"
                f" ((embedding::halfvec({archive.shape.dimension})) halfvec_cosine_ops)"
            )


def load_geosearch(conn: psycopg.Connection[Any], archive: Archive, stages: Stages, url: str) -> None:
    """Catalogue the images, fill, order and index the space, what of it is not there yet; the database is migrated."""
    from geosearch.database.archives import ensure_archive
    from geosearch.database.spaces import create_space, list_spaces

    if not stages.done("geosearch: images"):
        number = ensure_archive(conn, "benchmark")
        conn.execute("delete from geosearch.image")
        with stages.timed("geosearch: images"):
            _copy(
                conn,
                "geosearch.image (id, archive_id, name, captured_at, nadir, footprint, reach_m)",
                archive,
                lambda start, rows, _: _catalogued(start, rows, number),
            )
            conn.execute("select setval(pg_get_serial_sequence('geosearch.image', 'id'), %s)", [archive.shape.rows])
            conn.execute("vacuum analyze geosearch.image")
    if not stages.done("geosearch: vectors"):
        if SPACE not in [space.name for space in list_spaces(conn)]:
            create_space(conn, SPACE, archive.shape.dimension)
        conn.execute(f"truncate geosearch.space_{SPACE}")
        with stages.timed("geosearch: vectors"):
            _copy(conn, f"geosearch.space_{SPACE} (image_id, embedding)", archive, _embedded)
            conn.execute(f"vacuum analyze geosearch.space_{SPACE}")
    _order_and_index(conn, archive, stages, url)


def _order_and_index(conn: psycopg.Connection[Any], archive: Archive, stages: Stages, url: str) -> None:
    """Bring the table of the space into the order of its cells and build its index, as `geosearch space` does."""
    from geosearch.database.index import index_space

    if not stages.done("geosearch: order"):
        with stages.timed("geosearch: order"):
            _order(conn, url)
            conn.execute(f"vacuum analyze geosearch.space_{SPACE}")
    if not stages.done("geosearch: HNSW"):
        with stages.timed("geosearch: HNSW"):
            index_space(url, SPACE, memory=f"{_build_memory(archive)}MB")


def _order(conn: psycopg.Connection[Any], url: str) -> None:
    try:
        from geosearch.database.reorder import reorder_space
    except ImportError:
        conn.execute(f"cluster geosearch.space_{SPACE} using space_{SPACE}_cell_idx")
        conn.execute("select geosearch.count_cells(%s)", [SPACE])
    else:
        reorder_space(url, SPACE)


def sizes(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """Return bytes of shared_buffers and of every table and index of some size."""
    rows = conn.execute(
        "select n.nspname || '.' || c.relname, pg_relation_size(c.oid) from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname in ('byhand', 'geosearch') and pg_relation_size(c.oid) >= 2^20 order by 1"
    ).fetchall()
    buffers = conn.execute("select setting::bigint * 8192 from pg_settings where name = 'shared_buffers'").fetchone()
    assert buffers is not None
    return {"shared_buffers": int(buffers[0]), **dict(rows)}


_BUILD_MEMORY = "set maintenance_work_mem = '{}MB'"


def _build_memory(archive: Archive) -> int:
    """Return MB in which the whole graph fits: a build that does not fit takes many times longer."""
    return max(64, int(archive.shape.rows * (archive.shape.dimension * 2 + 700) * 1.2 / 2**20))


def _copy(
    conn: psycopg.Connection[Any],
    target: str,
    archive: Archive,
    encode: Callable[[int, NDArray[np.void], NDArray[np.float16]], bytes],
) -> None:
    with conn.cursor().copy(f"copy {target} from stdin (format binary)") as copy:
        copy.write(_HEADER)
        for start, rows, vectors in archive.blocks():
            copy.write(encode(start, rows, vectors))
        copy.write(_END)


def _record(*fields: tuple[str, Any, int | None]) -> np.dtype:
    """Return a dtype of one row of COPY binary. fields: name, numpy type, bytes (None: the field is null)."""
    parts: list[Any] = [("count", ">i2")]
    for name, kind, size in fields:
        parts.append((f"{name}_size", ">i4"))
        if size is not None:
            parts.append((name, kind))
    return np.dtype(parts)


_POINT = np.dtype([("order", "u1"), ("type", "<u4"), ("srid", "<u4"), ("lon", "<f8"), ("lat", "<f8")])
_PART = [("order2", "u1"), ("type2", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("xy", "<f8", (5, 2))]
_POLYGON = np.dtype([("order", "u1"), ("type", "<u4"), ("srid", "<u4"), ("parts", "<u4"), *_PART])


def _halfvec(dimension: int) -> tuple[np.dtype, int]:
    kind = np.dtype([("dim", ">i2"), ("unused", ">i2"), ("v", ">f2", (dimension,))])
    return kind, kind.itemsize


def _rows(fields: list[tuple[str, Any, int | None]], values: dict[str, Any], count: int) -> NDArray[np.void]:
    """Return rows of COPY binary with the sizes filled in."""
    block = np.zeros(count, _record(*fields))
    block["count"] = len(fields)
    for name, _, size in fields:
        block[f"{name}_size"] = -1 if size is None else size
        if size is not None and name in values:
            block[name] = values[name]
    return block


def _place_fields(with_footprint: bool) -> list[tuple[str, Any, int | None]]:
    return [
        ("nadir", _POINT, _POINT.itemsize),
        ("footprint", _POLYGON, _POLYGON.itemsize if with_footprint else None),
        ("reach", ">f8", 8),
    ]


def _fill_place(block: NDArray[np.void], rows: NDArray[np.void]) -> None:
    point = block["nadir"]
    point["order"], point["type"], point["srid"] = 1, 0x20000001, 4326
    point["lon"], point["lat"] = rows["lon"], rows["lat"]
    block["reach"] = np.where(rows["kind"] == FAR, FAR_M, 0.0)
    if "footprint" in (block.dtype.names or ()):
        polygon = block["footprint"]
        polygon["order"], polygon["type"], polygon["srid"], polygon["parts"] = 1, 0x20000006, 4326, 1
        polygon["order2"], polygon["type2"], polygon["rings"], polygon["points"] = 1, 3, 1, 5
        polygon["xy"] = corners(rows)


def _by_hand(start: int, rows: NDArray[np.void], vectors: NDArray[np.float16]) -> bytes:
    kind, size = _halfvec(vectors.shape[1])
    encoded = b""
    for with_footprint in (True, False):
        mine = (rows["kind"] == FOOTPRINT) == with_footprint
        fields = [("id", ">i8", 8), *_place_fields(with_footprint), ("embedding", kind, size)]
        block = _rows(fields, {"id": start + 1 + np.flatnonzero(mine)}, int(mine.sum()))
        _fill_place(block, rows[mine])
        block["embedding"]["dim"], block["embedding"]["v"] = vectors.shape[1], vectors[mine]
        encoded += block.tobytes()
    return encoded


def _catalogued(start: int, rows: NDArray[np.void], archive_id: int) -> bytes:
    encoded = b""
    for with_footprint in (True, False):
        mine = (rows["kind"] == FOOTPRINT) == with_footprint
        ids = start + 1 + np.flatnonzero(mine)
        fields = [("id", ">i8", 8), ("archive", ">i4", 4), ("name", "S8", 8), ("captured", ">i8", 8)]
        names = np.char.zfill(ids.astype("S8"), 8)
        values = {"id": ids, "archive": archive_id, "name": names}
        values["captured"] = (rows["captured"][mine] - _EPOCH) * 1_000_000
        block = _rows([*fields, *_place_fields(with_footprint)], values, len(ids))
        _fill_place(block, rows[mine])
        encoded += block.tobytes()
    return encoded


def _embedded(start: int, rows: NDArray[np.void], vectors: NDArray[np.float16]) -> bytes:
    kind, size = _halfvec(vectors.shape[1])
    ids = start + 1 + np.arange(len(rows))
    block = _rows([("id", ">i8", 8), ("embedding", kind, size)], {"id": ids}, len(rows))
    block["embedding"]["dim"], block["embedding"]["v"] = vectors.shape[1], vectors
    return block.tobytes()
