"""Statistics after a bulk load."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from geosearch.catalog.ingest import add
from geosearch.database import statistics
from geosearch.database.connection import connect
from geosearch.database.statistics import refresh_statistics

IMAGE = sql.Identifier("geosearch", "image")


def analyzed(conn: psycopg.Connection) -> float:
    """The number of rows that the planner was told of; -1 before the first time."""
    (rows,) = conn.execute("select reltuples from pg_class where oid = 'geosearch.image'::regclass").fetchone()
    conn.commit()
    return rows


@pytest.fixture
def filled(conn: psycopg.Connection) -> psycopg.Connection:
    conn.execute("insert into geosearch.archive (name) values ('a')")
    conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m) select a.id, n::text, 0"
        " from geosearch.archive a, generate_series(1, 1000) n"
    )
    conn.commit()
    return conn


def test_a_large_change_is_analyzed_and_a_small_one_is_not(filled):
    refresh_statistics(filled, IMAGE, 50)
    assert analyzed(filled) == -1
    refresh_statistics(filled, IMAGE, 1000)
    assert analyzed(filled) == 1000
    filled.execute("delete from geosearch.image where name::int > 500")
    filled.commit()
    refresh_statistics(filled, IMAGE, 149)
    assert analyzed(filled) == 1000
    refresh_statistics(filled, IMAGE, 500)
    assert analyzed(filled) == 500


def test_who_may_not_and_who_would_have_to_wait_goes_on(filled, superuser_url, monkeypatch):
    monkeypatch.setattr(statistics, "LOCK_WAIT", "50ms")
    with connect(superuser_url) as other:
        other.execute("lock table geosearch.image in share update exclusive mode")
        refresh_statistics(filled, IMAGE, 1000)
    with psycopg.connect(superuser_url, autocommit=True) as ingester:
        notices = []
        ingester.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        ingester.execute("set role geosearch_ingest")
        refresh_statistics(ingester, IMAGE, 1000)
    assert not notices
    assert analyzed(filled) == -1


def test_a_catalogue_run_leaves_statistics_behind(conn, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("name,lat,lon\n" + "".join(f"n{i},{i % 90},{i % 180}\n" for i in range(300)), encoding="utf-8")
    assert add(conn, path, "a").added == 300
    assert analyzed(conn) == 300
