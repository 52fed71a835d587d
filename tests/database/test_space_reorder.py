"""`geosearch space reorder`: what it finds, what it makes, what it refuses, and what is written meanwhile."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pytest
from database_urls import replace_in_url
from psycopg import sql
from typer.testing import CliRunner
from upkeep_archive import add_images, contents, fill, leftovers, shape

from geosearch.database import reorder as module
from geosearch.database import reorder_copy, reorder_disk
from geosearch.database.connection import connect
from geosearch.database.index import index_space
from geosearch.database.reorder import reorder, restore_order
from geosearch.database.reorder_look import look, measure_disorder, pages
from geosearch.database.spaces import create_space, get_space
from geosearch.errors import DatabaseError

BY_PLACE = "select cell from geosearch.space_look order by ctid"


@pytest.fixture
def conn(database_url):
    """A connection that holds no transaction open: builds and swaps would wait for it."""
    with connect(database_url, autocommit=True) as connection:
        yield connection


def cells(conn: psycopg.Connection) -> list[int]:
    """The cells in the order in which the table holds them."""
    rows = conn.execute(BY_PLACE).fetchall()
    return [row[0] for row in rows]


def test_a_table_is_put_in_order_and_is_otherwise_as_it_was(conn, database_url):
    fill(conn, 900, 256)
    create_space(conn, "twin", 256)
    conn.execute("alter table geosearch.space_look set (autovacuum_vacuum_threshold = 77)")
    conn.execute("alter table geosearch.space_twin set (autovacuum_vacuum_threshold = 77)")
    conn.execute("grant select, update on geosearch.space_look, geosearch.space_twin to pg_monitor with grant option")
    before, columns = contents(conn), cells(conn)
    dry = reorder(database_url, "look", dry_run=True)
    assert (dry.done, dry.vectors, dry.out_of_order > 0.5) == ("reorder", 900, True)
    assert cells(conn) == columns
    done = reorder(database_url, "look", force=True)
    assert (done.done, done.vectors, done.out_of_order_after) == ("reorder", 900, 0)
    assert cells(conn) == sorted(columns)
    assert contents(conn) == before
    assert shape(conn, "look") == shape(conn, "twin")
    assert leftovers(conn) == []
    assert conn.execute("select sum(images) from geosearch.cell_count").fetchone() == (900,)

    # What hangs on the table works: versions, places, and the images' removal.
    some, other = sorted(before)[:2]
    conn.execute("update geosearch.space_look set embedding = embedding + embedding where image_id = %s", [some])
    conn.execute("update geosearch.image set nadir = 'POINT(10 45)' where id = %s", [some])
    conn.execute("delete from geosearch.image where id = %s", [other])
    after = contents(conn)
    assert after[some][1] > max(row[1] for row in before.values())
    assert after[some][4] == pytest.approx(np.sin(np.radians(45)))
    assert sorted(after) == sorted(set(before) - {other})
    assert reorder(database_url, "look").done == "nothing"


def test_disorder_is_what_it_costs_a_search(conn, database_url):
    """0 in order, near 1 in any order, little for a few sorted runs, and between for a few rows elsewhere."""
    space = fill(conn, 6000, 200)

    def measured(order: str) -> float:
        conn.execute("create table kept as select * from geosearch.space_look")
        conn.execute("truncate geosearch.space_look")
        conn.execute("alter table geosearch.space_look disable trigger fill")
        conn.execute(f"insert into geosearch.space_look select * from kept order by {order}")
        conn.execute("drop table kept")
        return measure_disorder(conn, space, pages(conn, space))

    in_order = measured("cell, image_id")
    anyhow = measured("hashtext(image_id::text)")
    runs = measured("image_id % 5, cell")
    late = measured("hashtext(image_id::text) % 10 = 0, case when hashtext(image_id::text) % 10 <> 0 then cell end")
    assert in_order == 0
    assert anyhow > 0.9
    assert 0.05 < late < 0.35
    assert late < runs + 0.3 and runs < 0.5


@pytest.mark.parametrize("indexed", [False, True])
def test_what_is_written_meanwhile_is_kept(conn, database_url, indexed):
    """Each kind of change at each stage of the copying: the answer is what it is without a reorder."""
    fill(conn, 800, 16)
    if indexed:
        index_space(database_url, "look", m=4, ef_construction=8)
    before = contents(conn)
    ids = sorted(before)
    (archive,) = conn.execute("select archive_id from geosearch.image limit 1").fetchone()
    stages = []

    def change(what: str, _done: int, _of: int | None) -> None:
        if what in stages:
            return
        stages.append(what)
        first = 10 * len(stages)
        conn.execute("delete from geosearch.space_look where image_id = any(%s)", [ids[first : first + 2]])
        conn.execute("delete from geosearch.image where id = any(%s)", [ids[first + 2 : first + 4]])
        conn.execute(
            "update geosearch.space_look set embedding = embedding + embedding where image_id = %s", [ids[first + 4]]
        )
        conn.execute("update geosearch.image set nadir = 'POINT(3 4)' where id = %s", [ids[first + 5]])
        (added,) = add_images(conn, archive, 1)
        conn.execute("update geosearch.space_look set image_id = %s where image_id = %s", [added, ids[first + 6]])
        (added,) = add_images(conn, archive, 1)
        conn.execute(
            "insert into geosearch.space_look (image_id, embedding)"
            " select %s, embedding from geosearch.space_look where image_id = %s",
            [added, ids[first + 7]],
        )
        expected.clear()
        expected.update(contents(conn))

    expected: dict = {}
    reorder(database_url, "look", rebuild_always=True, force=True, progress=change)
    assert len(stages) >= 4
    assert contents(conn) == expected != before
    assert leftovers(conn) == []
    assert get_space(conn, "look").indexed_as == ("halfvec" if indexed else None)


def test_a_table_emptied_meanwhile_stays_empty(conn, database_url):
    fill(conn, 300, 8)

    def empty(what: str, _done: int, _of: int | None) -> None:
        if what == "catching up":
            conn.execute("truncate geosearch.space_look")

    reorder(database_url, "look", rebuild_always=True, force=True, progress=empty)
    assert contents(conn) == {}


def test_half_removed_means_a_new_graph_before_vacuum(conn, database_url):
    fill(conn, 1500, 16)
    conn.execute("alter table geosearch.space_look set (autovacuum_enabled = off)")
    index_space(database_url, "look", m=4, ef_construction=8)
    reorder(database_url, "look", rebuild_always=True, force=True)
    file = "select relfilenode from pg_class where relname = %s"
    graph = conn.execute(file, ["space_look_hnsw_idx"]).fetchone()
    table = conn.execute(file, ["space_look"]).fetchone()
    conn.execute("delete from geosearch.space_look where image_id % 2 = 0")
    conn.execute("select pg_stat_force_next_flush()")
    done = reorder(database_url, "look")
    assert done.done == "reindex"
    assert done.dead == pytest.approx(0.5, abs=0.05)
    assert conn.execute(file, ["space_look_hnsw_idx"]).fetchone() != graph
    assert conn.execute(file, ["space_look"]).fetchone() == table
    found = look(conn, get_space(conn, "look"))
    assert (found.dead, found.action) == (0, "nothing")
    assert leftovers(conn) == []


def test_without_an_index_it_is_vacuumed(conn, database_url):
    fill(conn, 500, 16)
    conn.execute("alter table geosearch.space_look set (autovacuum_enabled = off)")
    reorder(database_url, "look", force=True)
    conn.execute("delete from geosearch.space_look where image_id % 5 = 0")
    conn.execute("select pg_stat_force_next_flush()")
    assert reorder(database_url, "look").done == "vacuum"
    assert reorder(database_url, "look").done == "nothing"


ON = "geosearch.space_look"
STRANGE = (
    # What others may hang on the table, how it is named, and how it goes again.
    (f"create view own.v as select image_id from {ON}", "view own.v", "view own.v"),
    (f"create materialized view own.m as select 1 from {ON}", "materialized view own.m", "materialized view own.m"),
    (f"create index mine on {ON} (archive_id)", "index mine", "index geosearch.mine"),
    (f"create table own.t (i bigint references {ON})", "constraint t_i_fkey on table own.t", "table own.t"),
    (
        f"create function own.f() returns bigint begin atomic select count(*) from {ON}; end",
        "function own.f()",
        "function own.f",
    ),
    (f"create policy mine on {ON}", "policy mine on table space_look", f"policy mine on {ON}"),
    (f"create statistics own.s on cell, cap from {ON}", "statistics object own.s", "statistics own.s"),
)


def test_what_would_be_lost_is_named_beforehand(conn, database_url):
    fill(conn, 50, 8)
    conn.execute("create schema own")
    before = contents(conn)
    for made, named, thing in STRANGE:
        conn.execute(made)
        with pytest.raises(DatabaseError, match="hang on the table of space look") as caught:
            reorder(database_url, "look", rebuild_always=True, force=True)
        assert f"lost with it: {named}. Nothing was changed." in str(caught.value)
        conn.execute(f"drop {thing}")
    conn.execute("alter table geosearch.space_look add column mine int")
    with pytest.raises(DatabaseError, match="lost with it: column mine"):
        reorder(database_url, "look", rebuild_always=True, force=True)
    conn.execute("alter table geosearch.space_look drop column mine")
    assert contents(conn) == before
    assert leftovers(conn) == []
    assert reorder(database_url, "look", rebuild_always=True, force=True).done == "reorder"


def test_disk_is_looked_at_first(conn, database_url, monkeypatch):
    fill(conn, 600, 256)
    monkeypatch.setattr(reorder_disk, "bytes_free", lambda *_: None)
    with pytest.raises(DatabaseError, match=r"cannot be seen from here\. Look there, then say --force"):
        reorder(database_url, "look")
    monkeypatch.setattr(reorder_disk, "bytes_free", lambda *_: 1000)
    with pytest.raises(DatabaseError, match=r"0 MB are free on the server's disk. Make room"):
        reorder(database_url, "look", force=True)
    assert leftovers(conn) == []


def test_the_disk_is_seen_where_the_server_names_its_folder(conn, superuser_url):
    space = fill(conn, 10, 8)
    with connect(superuser_url, autocommit=True) as superuser:
        superuser.execute("set role geosearch")
        assert reorder_disk.bytes_free(superuser, space) > 0
        assert superuser.execute("select current_user").fetchone() == ("geosearch",)
    assert reorder_disk.bytes_free(conn, space) is None or reorder_disk.is_private(conn)


def test_a_transaction_in_the_way_is_named_and_nothing_is_left(conn, database_url, superuser_url, monkeypatch):
    monkeypatch.setattr(reorder_copy, "CLEANING_PATIENCE_S", 0.2)
    fill(conn, 400, 8)
    before = contents(conn)
    with psycopg.connect(superuser_url) as other:
        other.execute("select count(*) from geosearch.space_look")  # open from here on
        with pytest.raises(DatabaseError, match=f"process {other.info.backend_pid} of ") as caught:
            reorder(database_url, "look", rebuild_always=True, force=True, patience_s=1)
        assert "Nothing was changed" in str(caught.value)
    assert contents(conn) == before
    # What could not be removed while it was held, the next run does.
    assert reorder(database_url, "look", rebuild_always=True, force=True).done == "reorder"
    assert leftovers(conn) == []
    assert contents(conn) == before


def test_an_old_snapshot_never_sees_a_half_empty_table(conn, database_url, superuser_url):
    """One that began before the copying and looks for the table later is waited for, although it holds no lock."""
    fill(conn, 400, 8)
    with psycopg.connect(superuser_url) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("select 1")
        with pytest.raises(DatabaseError, match=f"process {other.info.backend_pid} of "):
            reorder(database_url, "look", rebuild_always=True, force=True, patience_s=1)
        assert other.execute("select count(*) from geosearch.space_look").fetchone() == (400,)


def test_after_a_run_order_is_restored_or_the_way_to_it_told(conn, server, database_url, monkeypatch):
    fill(conn, 900, 256)
    told: list[str] = []
    restore_order(database_url, "look", told.append)
    assert told == []  # too few to matter
    assert conn.execute("select sum(images) from geosearch.cell_count").fetchone() == (900,)
    monkeypatch.setattr(module, "TINY", 100)
    disk: list[int | None] = [None]
    monkeypatch.setattr(module, "bytes_free", lambda *_: disk[0])
    monkeypatch.setattr(reorder_disk, "bytes_free", lambda *_: disk[0])
    restore_order(database_url, "look", told.append)
    assert told.pop().endswith("geosearch space reorder look --force")
    disk[0] = 1000
    restore_order(database_url, "look", told.append)
    assert "when the server has more free disk" in told.pop()
    disk[0] = 10**12
    restore_order(database_url, "look", told.append, only_tell=True)
    assert told.pop().endswith("geosearch space reorder look")
    name = "gsother_" + urlsplit(database_url).path[-8:]
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(
            sql.SQL("create role {} login password 'geosearch' in role geosearch_ingest").format(sql.Identifier(name))
        )
    try:
        other = replace_in_url(database_url, database=urlsplit(database_url).path[1:], user=name, password="geosearch")
        restore_order(other, "look", told.append)
        assert told.pop().endswith("as the owner of its table")
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
    shuffled = cells(conn)
    assert shuffled != sorted(shuffled)
    restore_order(database_url, "look", told.append)
    assert told == ["putting space look in order"]
    assert cells(conn) == sorted(shuffled)
    restore_order(database_url, "look", told.append)
    assert len(told) == 1


def test_an_import_into_an_empty_space_ends_in_order(conn, database_url, tmp_path, monkeypatch):
    from geosearch.embedding.imports import import_vectors

    monkeypatch.setattr(module, "TINY", 100)
    monkeypatch.setattr(module, "bytes_free", lambda *_: 10**12)
    monkeypatch.setattr(reorder_disk, "bytes_free", lambda *_: 10**12)
    (archive,) = conn.execute("insert into geosearch.archive (name) values ('a') returning id").fetchone()
    ids = add_images(conn, archive, 1000)
    create_space(conn, "look", 256)
    names = [row[0] for row in conn.execute("select name from geosearch.image").fetchall()]
    np.savez(tmp_path / "v.npz", names=np.array(names), vectors=np.random.default_rng(3).standard_normal((1000, 256)))
    told: list[str] = []
    assert import_vectors(database_url, "look", tmp_path / "v.npz", "a", say=told.append).added == len(ids)
    assert told == ["putting space look in order"]
    found = cells(conn)
    assert found == sorted(found) and len(found) == 1000


def test_the_command(conn, database_url, monkeypatch):
    from geosearch_cli.main import app

    fill(conn, 600, 256)
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    run = CliRunner().invoke(app, ["space", "reorder", "look", "--dry-run", "--json"])
    assert (json.loads(run.stdout)["done"], json.loads(run.stdout)["dry_run"]) == ("reorder", True)
    run = CliRunner().invoke(app, ["space", "reorder", "look", "--force", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["out_of_order_after"] == 0
    run = CliRunner().invoke(app, ["space", "reorder", "nothere"])
    assert run.exit_code == 1 and "no space is named 'nothere'" in run.stderr
