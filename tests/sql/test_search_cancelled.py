"""Searches that are cancelled, wherever they are: nothing left behind."""

from __future__ import annotations

import threading

import psycopg
import pytest
from toy_world import World

from geosearch.database.connection import connect

SETTINGS = "select name, setting from pg_settings where name not like 'transaction%' order by name"
LEFT = (
    "select (select count(*) from pg_locks"
    "  where pid = pg_backend_pid() and locktype in ('relation', 'advisory', 'tuple')"
    "  and relation is distinct from 'pg_locks'::regclass and relation::regclass::text not like 'pg\\_%'),"
    " (select count(*) from pg_class where relpersistence = 't')"
)


@pytest.mark.parametrize("strategy", ["exact", "hnsw", "auto"])
@pytest.mark.parametrize("how", ["timeout", "cancel", "savepoint"])
def test_a_cancelled_search_leaves_nothing_behind(world: World, strategy, how):
    """Wherever it is stopped: no setting, no table, no lock; and the next search answers."""
    again = "select count(*) from geosearch.search('toy', '[1,1,1,1,1,1,1,1]')"
    call = (
        "select count(*) from generate_series(1, 100000) g, lateral geosearch.search('toy',"
        " array_fill(g::real, array[8])::vector, 'POINT(0 45)', 9e6, strategy => %s) s"
    )
    if strategy == "hnsw":
        world.conn.execute(
            "create index if not exists space_toy_hnsw_idx on geosearch.space_toy"
            " using hnsw (embedding halfvec_cosine_ops)"
        )
        world.conn.execute("update geosearch.space set indexed_as = 'halfvec'")
    with connect(world.url, autocommit=True) as conn:
        conn.execute(again)  # and the library of vectors, which has settings of its own, is loaded
        conn.execute("set hnsw.ef_search = 41")
        before = conn.execute(SETTINGS).fetchall()
        for milliseconds in (1, 3, 8, 20, 45, 90):
            if how == "timeout":
                conn.execute(f"set statement_timeout = {milliseconds}")
                with pytest.raises(psycopg.errors.QueryCanceled):
                    conn.execute(call, [strategy])
                conn.execute("reset statement_timeout")
            elif how == "cancel":
                timer = threading.Timer(milliseconds / 1000 + 0.02, conn.cancel)
                timer.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    conn.execute(call, [strategy])
                timer.join()
            else:
                with conn.transaction():
                    with pytest.raises(psycopg.errors.QueryCanceled), conn.transaction():
                        conn.execute(f"set local statement_timeout = {milliseconds}")
                        conn.execute(call, [strategy])
                    assert conn.execute(SETTINGS).fetchall() == before
                    assert conn.execute(
                        "select count(*) from geosearch.search('toy', '[1,1,1,1,1,1,1,1]')"
                    ).fetchone() == (10,)
            assert conn.execute(SETTINGS).fetchall() == before
            assert conn.execute(LEFT).fetchone() == (0, 0)
        assert conn.execute(again).fetchone() == (10,)
