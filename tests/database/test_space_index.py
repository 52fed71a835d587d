"""`geosearch space index`: what is built, what is refused, and what a kill leaves."""

from __future__ import annotations

import json
import time
from urllib.parse import urlsplit

import numpy as np
import psycopg
import pytest
from database_urls import replace_in_url
from typer.testing import CliRunner
from upkeep_archive import add_images, fill, leftovers, start

from geosearch.database import index_build, index_session, tables
from geosearch.database.connection import connect
from geosearch.database.index import drop_index, index_space
from geosearch.database.index_session import session
from geosearch.database.spaces import create_space, get_space
from geosearch.errors import DatabaseError, InputError, UnknownNameError

DEFINITION = "select pg_get_indexdef('geosearch.space_look_hnsw_idx'::regclass)"


@pytest.fixture
def conn(database_url):
    """A connection that holds no transaction open: builds and swaps would wait for it."""
    with connect(database_url, autocommit=True) as connection:
        yield connection


def test_an_index_is_built_once_used_and_dropped(conn, database_url):
    fill(conn, 400, 8)
    told = []
    made = index_space(database_url, "look", m=8, ef_construction=40, say=told.append)
    assert (made.built, made.form, made.index, made.vectors) == (True, "halfvec", "space_look_hnsw_idx", 400)
    (definition,) = conn.execute(DEFINITION).fetchone()
    assert "USING hnsw (embedding halfvec_cosine_ops) WITH (m='8', ef_construction='40')" in definition
    assert get_space(conn, "look").indexed_as == "halfvec"
    again = index_space(database_url, "look")
    assert (again.built, again.megabytes) == (False, made.megabytes)
    conn.execute("set enable_seqscan = off")
    plan = conn.execute(
        "explain select image_id from geosearch.space_look order by embedding <=> '[1,0,0,0,0,0,0,0]' limit 3"
    ).fetchall()
    assert "space_look_hnsw_idx" in str(plan)
    assert drop_index(database_url, "look") is True
    assert get_space(conn, "look").indexed_as is None
    assert drop_index(database_url, "look") is False
    assert conn.execute("select to_regclass('geosearch.space_look_hnsw_idx')").fetchone() == (None,)


def test_an_index_that_was_finished_but_not_recorded_is_recorded(conn, database_url):
    fill(conn, 50, 8)
    index_space(database_url, "look")
    conn.execute("update geosearch.space set indexed_as = null")  # as a kill between the two leaves it
    assert index_space(database_url, "look").built is False
    assert get_space(conn, "look").indexed_as == "halfvec"


def test_one_process_builds_where_several_could_overflow(conn, database_url, monkeypatch):
    create_space(conn, "look", 3)
    for version, workers in (("0.5.1", "2"), ("0.8.1", "0"), ("0.8.2", "2"), ("0.10.0", "2")):
        monkeypatch.setattr(index_build, "pgvector_version", lambda _, version=version: version)
        told: list[str] = []
        with session(database_url, "look") as work:
            work.conn.execute("set max_parallel_maintenance_workers = 2")
            index_build.prepare(work, 0, 16, None, told.append)
            assert work.conn.execute("show max_parallel_maintenance_workers").fetchone() == (workers,), version
        assert any("CVE-2026-3172" in text for text in told) == (workers == "0"), version


def test_the_memory_of_a_graph_is_what_pgvector_takes(conn, database_url):
    """pgvector says itself when a graph no longer fits: never at our estimate, always at half of it."""
    fill(conn, 3000, 8)
    kilobytes = index_build.graph_bytes(3000, 8, "halfvec") // 1024 + 1
    for memory, fits in ((kilobytes, True), (kilobytes // 2, False)):
        told: list[str] = []
        index_space(database_url, "look", ef_construction=32, memory=f"{memory}kB", say=told.append)
        assert any("no longer fits" in text for text in told) is not fits, (memory, told)
        assert any("--memory" in text for text in told) is not fits
        drop_index(database_url, "look")
    with session(database_url, "look") as work:
        work.conn.execute("set maintenance_work_mem = '1MB'")
        index_build.prepare(work, 3000, 16, None, told.append)  # not said: taken, since the server has more
        assert work.conn.execute("select pg_size_bytes(current_setting('maintenance_work_mem'))").fetchone()[0] > 2**21


def test_what_cannot_be_is_refused(conn, database_url, monkeypatch):
    assert index_session.LONGEST_INLINE == tables.INLINE_DIMENSIONS
    create_space(conn, "look", 8)
    create_space(conn, "long", 4000)
    with pytest.raises(UnknownNameError, match="there are: long, look"):
        index_space(database_url, "lock")
    with pytest.raises(InputError, match="8 dimensions and is indexed as halfvec"):
        index_space(database_url, "look", form="bit")
    with pytest.raises(InputError, match="4000 dimensions and is indexed as bit"):
        index_space(database_url, "long", form="halfvec")
    with pytest.raises(InputError, match="less than 2 × 40"):
        index_space(database_url, "look", m=40)
    with pytest.raises(InputError, match="'much' is no amount of memory"):
        index_space(database_url, "look", memory="much")
    with pytest.raises(InputError, match="long has no vectors yet"):
        index_space(database_url, "long")
    monkeypatch.setattr(index_session, "LOCK_PATIENCE_S", 0.1)
    with session(database_url, "look") as work, pytest.raises(DatabaseError, match=f"server process {work.pid}"):
        index_space(database_url, "look")
    assert leftovers(conn) == []


def test_only_who_may_act_for_the_owner_builds_and_it_stays_the_owners(conn, server, database_url, superuser_url):
    fill(conn, 20, 8)
    conn.execute("select 1")
    name = "gsother_" + urlsplit(database_url).path[-8:]
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"create role {name} login password 'geosearch' in role geosearch_admin")
    try:
        other = replace_in_url(database_url, database=urlsplit(database_url).path[1:], user=name, password="geosearch")
        with pytest.raises(DatabaseError, match=f"belongs to geosearch, and {name} may not act for it"):
            index_space(other, "look")
        assert conn.execute("select to_regclass('geosearch.space_look_hnsw_idx')").fetchone() == (None,)
        index_space(superuser_url, "look")
        owner = conn.execute(
            "select pg_get_userbyid(relowner) from pg_class where relname = 'space_look_hnsw_idx'"
        ).fetchone()
        assert owner == ("geosearch",)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"drop role {name}")


BUILD = """
import sys
from geosearch.database.index import index_space
print("ready", flush=True)
index_space(sys.argv[1], "look", ef_construction=1000)
"""
BUILDING = "select pid from pg_stat_progress_create_index where relid = 'geosearch.space_look'::regclass"


def building(admin: psycopg.Connection) -> int | None:
    """The server process that builds."""
    row = admin.execute(BUILDING).fetchone()
    return row[0] if row else None


def wait_until(what, timeout: float = 20.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("who", ["client", "server process"])
def test_a_killed_build_leaves_writing_and_searching_and_is_begun_anew(conn, database_url, superuser_url, who):
    space = fill(conn, 6000, 64)
    with psycopg.connect(superuser_url, autocommit=True) as admin, start(BUILD, database_url) as process:
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: building(admin))
        time.sleep(0.1)
        if who == "client":
            process.kill()
        else:
            admin.execute("select pg_terminate_backend(%s)", [building(admin)])
        process.wait()
        assert process.returncode != 0
        wait_until(lambda: building(admin) is None)  # the server notices, long before it would have been built
    assert leftovers(conn) == ["space_look_hnsw_idx"]
    assert get_space(conn, "look").indexed_as is None
    (archive,) = conn.execute("select archive_id from geosearch.image limit 1").fetchone()
    (image,) = add_images(conn, archive, 1)
    conn.execute(
        "insert into geosearch.space_look (image_id, embedding) values (%s, array_fill(1, '{64}')::real[]::halfvec)",
        [image],
    )
    found = conn.execute(
        "select image_id from geosearch.search('look', array_fill(1, '{64}')::real[]::vector, k => 1)"
    ).fetchone()
    assert found == (image,)
    assert index_space(database_url, "look", m=2, ef_construction=4).built
    assert leftovers(conn) == []
    assert get_space(conn, space.name).indexed_as == "halfvec"


def test_signs_about_a_learned_centre(conn, database_url):
    """Of long vectors the index holds signs less the mean, and those in the table are of the recorded centre."""
    fill(conn, 60, 4000)
    conn.execute(
        "update geosearch.space_look set embedding = (embedding::vector + array_fill(0.5, '{4000}')::vector)::halfvec"
    )
    rows = dict(conn.execute("select image_id, version from geosearch.space_look").fetchall())
    assert index_space(database_url, "look").form == "bit"
    (archive,) = conn.execute("select archive_id from geosearch.image limit 1").fetchone()
    (added,) = add_images(conn, archive, 1)
    conn.execute(
        "insert into geosearch.space_look (image_id, embedding) select %s, embedding from geosearch.space_look limit 1",
        [added],
    )
    found = conn.execute("select image_id, version, embedding::real[], code::text from geosearch.space_look").fetchall()
    assert {row[0]: row[1] for row in found if row[0] != added} == rows
    vectors = np.array([row[2] for row in found])
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    (centre,) = conn.execute("select centre::real[] from geosearch.space").fetchone()
    mean = units[[row[0] != added for row in found]].mean(axis=0)
    assert np.allclose(centre, mean, atol=1e-4)
    codes = np.array([[bit == "1" for bit in row[3]] for row in found])
    clear = np.abs(units - centre) > 1e-4  # units are rounded to half precision there
    assert (codes == (units > centre))[clear].all() and clear.mean() > 0.9
    assert 0.4 < codes.mean() < 0.6  # about the origin it would be 0.69
    assert "(code bit_hamming_ops)" in conn.execute(DEFINITION).fetchone()[0]
    assert get_space(conn, "look").indexed_as == "bit"
    assert index_space(database_url, "look").built is False


def test_the_command(conn, database_url, monkeypatch):
    from geosearch_cli.main import app

    fill(conn, 30, 8)
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    run = CliRunner().invoke(app, ["space", "index", "look", "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["built"] is True
    run = CliRunner().invoke(app, ["space", "index", "look", "--json"])
    assert json.loads(run.stdout)["built"] is False
    assert "there already" in run.stderr
    assert json.loads(CliRunner().invoke(app, ["space", "index", "look", "--drop", "--json"]).stdout)["dropped"] is True
    wrong = CliRunner().invoke(app, ["space", "index", "look", "--form", "bit"])
    assert wrong.exit_code == 1 and "indexed as halfvec" in wrong.stderr


def test_a_name_as_long_as_names_may_be(conn, database_url):
    name = "a" * 41
    create_space(conn, name, 4)
    assert index_space(database_url, name).index == f"space_{name}_hnsw_idx"
