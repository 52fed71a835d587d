"""What reviews of the search found: rights, settings and arguments at their limits."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from geosearch.database.connection import connect
from geosearch.database.migrate import migrate
from geosearch.database.reorder import reorder
from geosearch.database.spaces import create_space
from geosearch.errors import DatabaseError, SchemaError

SQUARE = "MULTIPOLYGON(((10 45,11 45,11 46,10 46,10 45)))"


@pytest.fixture
def filled(conn) -> Iterator[psycopg.Connection]:
    """An archive of 40 images on a line, with a space; committed."""
    conn.execute("insert into geosearch.archive (name) values ('a')")
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m)"
        " select id, 'i' || n, st_makepoint(n, 45), 0 from geosearch.archive, generate_series(1, 40) n"
    )
    create_space(conn, "toy", 3)
    conn.execute(
        "insert into geosearch.space_toy (image_id, embedding)"
        " select id, array[sin(id), cos(id), 2]::real[]::halfvec from geosearch.image"
    )
    conn.commit()
    yield conn


@pytest.fixture
def cataloguer(server, filled, database_url) -> Iterator[str]:
    """The connection string of a login that may write images and vectors, and make functions in schema public."""
    name, password = f"gsreview_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    role = sql.Identifier(name)
    with psycopg.connect(make_conninfo(server, dbname=filled.info.dbname), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login password {}").format(role, sql.Literal(password)))
        admin.execute(sql.SQL("grant geosearch_ingest to {}").format(role))
        admin.execute(sql.SQL("grant create on schema public to {}").format(role))
    try:
        yield make_conninfo(database_url, user=name, password=password)
    finally:
        filled.rollback()
        with psycopg.connect(make_conninfo(server, dbname=filled.info.dbname), autocommit=True) as admin:
            admin.execute(sql.SQL("drop owned by {} cascade").format(role))
            admin.execute(sql.SQL("drop role {}").format(role))


def test_functions_that_a_cataloguer_makes_never_run_as_the_owner(cataloguer, filled):
    """Of two functions that suit a call PostgreSQL takes the one of the very types, wherever on the path it lies."""
    with connect(cataloguer, autocommit=True) as mine:
        mine.execute("create table public.ran (by_whom name); grant insert on public.ran to public")
        note = "begin insert into public.ran values (current_user);"
        mine.execute(
            f"create function public.step(bigint[], bigint) returns bigint[] language plpgsql as $$ {note}"
            " return $1 || $2; end $$;"
            "create aggregate public.array_agg(bigint) (sfunc = public.step, stype = bigint[]);"
            f"create function public.cardinality(int[]) returns int language plpgsql as $$ {note}"
            " return pg_catalog.cardinality($1); end $$;"
            f"create function public.times(float8, numeric) returns float8 language plpgsql as $$ {note}"
            " return pg_catalog.float8mul($1, $2::float8); end $$;"
            "create operator public.* (leftarg = float8, rightarg = numeric, function = public.times)"
        )
        mine.execute("update geosearch.image set footprint = st_geogfromtext(%s) where name = 'i1'", [SQUARE])
        mine.execute("update geosearch.space_toy set embedding = '[3,2,1]'")
        mine.execute("select geosearch.count_cells('toy')")
        by = {row[0] for row in mine.execute("select distinct by_whom from public.ran").fetchall()}
        assert by <= {mine.info.user}
        found = mine.execute("select name from geosearch.search('toy', '[1,2,3]', 'POINT(10.5 45.5)', 1)").fetchall()
        assert found == [("i1",)]


def test_a_vector_given_to_another_image_lies_where_that_one_is_though_it_moves_meanwhile(filled, database_url):
    last = filled.execute("select max(id) from geosearch.image").fetchone()[0]
    filled.execute("delete from geosearch.space_toy where image_id = %s", [last])
    filled.commit()
    with connect(database_url, autocommit=True) as mover:
        filled.execute("update geosearch.space_toy set image_id = %s where image_id = %s - 1", [last, last])
        mover.execute("set lock_timeout = '200ms'")
        move = "update geosearch.image set nadir = 'POINT(-150 -30)' where id = %s"
        with pytest.raises(psycopg.errors.LockNotAvailable):  # it waits, for it cannot see the row yet
            mover.execute(move, [last])
        filled.commit()
        mover.execute(move, [last])
        found = mover.execute("select name from geosearch.search('toy', '[1,2,3]', 'POINT(-150 -30)', 1)").fetchall()
        assert found == [("i40",)]


def test_a_pgvector_without_iterative_scans_is_refused_with_the_remedy(empty_database_url):
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute("create extension postgis")
        admin.execute("create extension vector")
        admin.execute("update pg_catalog.pg_extension set extversion = '0.7.4' where extname = 'vector'")
    with pytest.raises(DatabaseError, match=r"vector is 0\.7\.4; geosearch needs 0\.8 or newer"):
        migrate(empty_database_url)


def test_a_radius_larger_than_any_number_of_metres_takes_everything(filled):
    found = filled.execute("select count(*) from geosearch.candidates('toy', 'POINT(0 0)', 1.79e308)").fetchone()
    assert found == (40,)


def test_a_function_that_is_gone_comes_back_with_a_migration(filled, database_url):
    """A restore that went on after an error must not count as this release."""
    filled.execute("drop function geosearch.embedding_of")
    filled.commit()
    with pytest.raises(SchemaError, match="geosearch db migrate"):
        connect(database_url)
    filled.rollback()
    assert migrate(database_url) == ["installed sql/32_search.sql"]
    with connect(database_url) as again:
        found = again.execute("select count(*) from geosearch.similar(%s, 'toy')", [first_image(again)]).fetchone()
        assert found == (10,)
    assert migrate(database_url) == []


def test_a_space_is_dropped_after_those_who_write_into_it_and_count_it(filled, database_url):
    """It waits for them and they not for it: none is ended as the victim of a deadlock."""
    filled.execute("update geosearch.space_toy set embedding = '[3,2,1]' where image_id = %s", [first_image(filled)])
    errors: list[BaseException] = []

    def drop() -> None:
        try:
            with connect(database_url, autocommit=True) as other:
                other.execute("select geosearch.drop_space('toy')")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drop) for _ in range(2)]
    for thread in threads:
        thread.start()
    with connect(database_url, autocommit=True) as watcher:
        waiting = "select count(*) from pg_locks where not granted and database = (select oid from pg_database where"
        for _ in range(200):
            if watcher.execute(f"{waiting} datname = current_database())").fetchone()[0] >= 2:
                break
            time.sleep(0.05)
    assert filled.execute("select geosearch.count_cells('toy')").fetchone() == (40,)
    filled.execute("update geosearch.image set nadir = 'POINT(1 1)'")
    filled.commit()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in errors] == [psycopg.errors.UndefinedObject]  # the second of both
    assert filled.execute("select count(*) from geosearch.space").fetchone() == (0,)


def test_a_reorder_keeps_rights_on_single_columns(cataloguer, filled, database_url):
    role = sql.Identifier(conninfo_to_dict(cataloguer)["user"])
    filled.execute(sql.SQL("grant select (image_id), update (embedding) on geosearch.space_toy to {}").format(role))
    filled.commit()
    rights = (
        "select attname, attacl::text from pg_attribute where attrelid = 'geosearch.space_toy'::regclass"
        " and attacl is not null order by attname"
    )
    before = filled.execute(rights).fetchall()
    filled.commit()
    assert reorder(database_url, "toy", rebuild_always=True, force=True).done == "reorder"
    assert filled.execute(rights).fetchall() == before
    assert [row[0] for row in before] == ["embedding", "image_id"]


def first_image(conn: psycopg.Connection) -> int:
    return int(conn.execute("select min(id) from geosearch.image").fetchone()[0])
