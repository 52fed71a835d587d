"""How well a space's table keeps its order, how much of it is dead, and what that calls for."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from geosearch.database.spaces import Space

# From here on a search of a large circle reads a quarter more than it has to; see the decision on order and index.
OUT_OF_ORDER = 0.15
# VACUUM of an HNSW index after so many deletions takes twice as long as building it anew.
DEAD = 0.10

_PAGES, _WINDOWS, _WINDOW = 300, 150, 64

# Windows of rows that follow each other in the order of cell, begun at random rows: how many pages they lie on, and how
# many those rows fill. Rows of one cell come in the order of their places in the table, as a search reads them.
_MEASURE = """
with picked as materialized (
    select ctid as place, cell from {table} tablesample system ({percent}) repeatable (0)
), page as (
    select percentile_disc(0.5) within group (order by rows)::float8 as rows from (
        select count(*) as rows from picked group by (place::text::point)[0]) full_ones
), seen as (
    select count(*) as rows, count(distinct (w.place::text::point)[0]) as pages
    from (select place, cell from picked order by hashtext(place::text) limit {windows}) s
    cross join lateral (
        select place from (
            (select ctid as place, 0 as next from {table} t where t.cell = s.cell and t.ctid >= s.place
             order by t.ctid limit {window})
            union all
            (select ctid, 1 from {table} t where t.cell > s.cell order by t.cell limit {window})
        ) following order by next limit {window}) w
    group by s.place
)
select sum(pages - ideal) / nullif(sum(rows - ideal), 0)
from (select seen.rows, seen.pages, least(seen.rows, seen.rows / greatest(page.rows, 1) + 1) as ideal
      from seen, page) measured
"""


@dataclass(frozen=True)
class Look:
    """What a look at a space's table finds, and what should be done.

    out_of_order: of the rows, the share that costs a search a page of its own, for the rows beside it in the order of
    cell lie elsewhere: 0 right after a reorder, 1 for rows in any order. dead: deleted or replaced rows still in the
    table. unanalyzed: rows changed since the planner's statistics were taken. action: reorder, reindex, vacuum,
    analyze or nothing.
    """

    space: str
    vectors: int
    megabytes: float
    out_of_order: float
    dead: float
    unanalyzed: float
    indexed: bool
    action: str


def look(conn: psycopg.Connection, space: Space) -> Look:
    """Look at the table of a space; reads a few thousand rows and changes nothing."""
    size = pages(conn, space)
    out_of_order = measure_disorder(conn, space, size)
    row = conn.execute(
        "select n_dead_tup, n_mod_since_analyze, exists (select from pg_catalog.pg_index i"
        " join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_am a on a.oid = c.relam"
        " where i.indrelid = relid and a.amname = 'hnsw' and i.indisvalid)"
        " from pg_catalog.pg_stat_all_tables where relid = pg_catalog.to_regclass(%s)",
        [space.table.as_string(conn)],
    ).fetchone()
    dead_rows, changed, indexed = row if row is not None else (0, 0, False)
    dead = dead_rows / max(1, dead_rows + space.count)
    unanalyzed = changed / max(1, space.count)
    if space.count and out_of_order >= OUT_OF_ORDER:
        action = "reorder"
    elif dead >= DEAD:
        action = "reindex" if indexed else "vacuum"
    else:
        # Fewer dead rows than that are left to autovacuum, which comes at a fifth: each VACUUM reads a whole graph.
        action = "analyze" if unanalyzed > 0.1 else "nothing"
    return Look(
        space.name, space.count, round(size * 8192 / 1e6, 1), round(out_of_order, 3), round(dead, 3),
        round(unanalyzed, 3), bool(indexed), action,
    )  # fmt: skip


def pages(conn: psycopg.Connection, space: Space) -> int:
    """Return how many pages of 8 kB the space's table has, without indexes and what is stored apart."""
    row = conn.execute(
        "select pg_catalog.pg_relation_size(t) / 8192 from pg_catalog.to_regclass(%s) t", [space.table.as_string(conn)]
    ).fetchone()
    assert row is not None
    return int(row[0] or 0)


def measure_disorder(conn: psycopg.Connection, space: Space, size: int) -> float:
    """Return the share of a table's rows (of so many pages) that lie out of order, 0 … 1; see :class:`Look`.

    Not the planner's correlation of cell: it is near 0 for ten sorted runs one after the other, which searches read
    nearly as fast as one, and near 1 where every tenth row is anywhere.
    """
    if size <= 8:  # read as a whole in any case
        return 0.0
    statement = sql.SQL(_MEASURE).format(
        table=space.table,
        percent=sql.Literal(min(100.0, 100.0 * _PAGES / size)),
        windows=sql.Literal(_WINDOWS),
        window=sql.Literal(_WINDOW),
    )
    with conn.transaction():
        # A few rows by the index, whatever the planner thinks of a table without statistics.
        conn.execute("set local enable_seqscan = off")
        row = conn.execute(statement).fetchone()
    return min(1.0, max(0.0, float(row[0] or 0))) if row is not None else 0.0
