"""Bringing a database to this release: fresh, again, from every older one, and where it must refuse."""

from __future__ import annotations

import dataclasses
import threading

import psycopg
import pytest

from geosearch.database import install
from geosearch.database.connection import connect
from geosearch.database.migrate import migrate, revisions, schema_version
from geosearch.errors import DatabaseError, SchemaError


def test_a_fresh_database_gets_everything_and_a_second_run_changes_nothing(empty_database_url, fingerprint):
    done = migrate(empty_database_url)
    assert done[:3] == ["created extension postgis", "created extension vector", "created schema geosearch"]
    assert done[3] == f"upgraded the tables from revision none to {revisions()[-1]}"
    assert done[4:] == [f"installed sql/{file.name}" for file in install.sql_files()]
    before = fingerprint(empty_database_url)
    assert len(before["functions"]) >= 8
    assert migrate(empty_database_url) == []
    assert fingerprint(empty_database_url) == before


def test_a_fresh_install_equals_every_upgrade_path(empty_database_url, database_url, fingerprint, monkeypatch):
    """From each revision of the tables, and from files of functions that were all different."""
    fresh = fingerprint(database_url)
    for revision in revisions():
        with psycopg.connect(empty_database_url) as conn:
            conn.execute("drop schema if exists geosearch cascade")
        assert migrate(empty_database_url, revision)[-1].endswith(f"to {revision}")
        migrate(empty_database_url)
        assert fingerprint(empty_database_url) == fresh
    older = [
        dataclasses.replace(
            file, text=file.text.replace("radius_m float8 def", "radius_m real def").replace("'Key.'", "'The key.'")
        )
        for file in install.sql_files()
    ]
    assert [old.text != new.text for old, new in zip(older, install.sql_files(), strict=True)].count(True) >= 1
    with monkeypatch.context() as patch:
        patch.setattr(install, "sql_files", lambda: tuple(older))
        migrate(empty_database_url)
        assert fingerprint(empty_database_url) != fresh
    migrate(empty_database_url)
    assert fingerprint(empty_database_url) == fresh


def test_each_file_alone_can_be_installed_again(conn, fingerprint, database_url):
    """No file's drops are stopped by the objects of another file."""
    before = fingerprint(database_url)
    for file in install.sql_files():
        conn.execute("update geosearch.installed_sql set sha256 = 'other' where name = %s", [file.name])
        conn.commit()
        assert migrate(database_url) == [f"installed sql/{file.name}"]
        assert fingerprint(database_url) == before


def test_a_function_that_gets_another_parameter_leaves_no_overload(conn, database_url, monkeypatch):
    with monkeypatch.context() as patch:
        wider = [
            dataclasses.replace(
                file,
                text=file.text.replace("function geosearch.drop_space(name text)",
                                       "function geosearch.drop_space(name text, keep boolean default false)"),
            )
            for file in install.sql_files()
        ]  # fmt: skip
        patch.setattr(install, "sql_files", lambda: tuple(wider))
        assert migrate(database_url) == ["installed sql/20_spaces.sql"]
    count = "select count(*), max(pronargs) from pg_proc where proname = 'drop_space'"
    assert conn.execute(count).fetchone() == (1, 2)
    conn.rollback()
    assert migrate(database_url) == ["installed sql/20_spaces.sql"]
    assert conn.execute(count).fetchone() == (1, 1)


def test_objects_of_others_are_listed_and_nothing_is_changed(conn, database_url, fingerprint):
    conn.execute("create schema mine")
    conn.execute("create view mine.alps as select id, geom from geosearch.image_map")
    conn.execute("create view mine.valais as select id from mine.alps")
    conn.execute("update geosearch.installed_sql set sha256 = 'other'")
    conn.commit()
    before = fingerprint(database_url)
    with pytest.raises(SchemaError) as caught:
        migrate(database_url)
    assert "view mine.alps depends on view image_map" in str(caught.value)
    assert "view mine.valais depends on view mine.alps" in str(caught.value)
    assert "geosearch db migrate" in str(caught.value)
    assert fingerprint(database_url) == before
    conn.execute("drop schema mine cascade")
    conn.commit()
    assert len(migrate(database_url)) == len(install.sql_files())


def test_objects_of_others_do_not_matter_where_nothing_of_theirs_changes(conn, database_url):
    conn.execute("create schema mine")
    conn.execute("create view mine.alps as select id, geom from geosearch.image_map")
    conn.execute("update geosearch.installed_sql set sha256 = 'other' where name = '32_search.sql'")
    conn.commit()
    assert migrate(database_url) == ["installed sql/32_search.sql"]


@pytest.mark.parametrize("schemas", [("extensions", "extensions"), ("gis", "Vector Types"), ("public", "extensions")])
def test_extensions_may_live_in_any_schema(empty_database_url, schemas):
    with psycopg.connect(empty_database_url) as conn:
        for extension, schema in zip(("postgis", "vector"), schemas, strict=True):
            conn.execute(f'create schema if not exists "{schema}"')
            conn.execute(f'create extension {extension} schema "{schema}"')
    migrate(empty_database_url)
    with connect(empty_database_url) as conn:
        conn.execute("select geosearch.create_space('toy', 3)")
        conn.execute("insert into geosearch.archive (name) values ('a')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m)"
            " select id, 'x', 'POINT(7 46)', 0 from geosearch.archive"
        )
        conn.execute("insert into geosearch.space_toy (image_id, embedding) select id, '[1,2,3]' from geosearch.image")
        conn.commit()
    with psycopg.connect(empty_database_url) as conn:  # with a search_path that knows none of them
        conn.execute("set search_path = pg_catalog")
        near = conn.execute("select nadir from geosearch.image").fetchone()[0]
        statement = "select name, similarity, distance_m from geosearch.search('toy', '[2,4,6]', %s, 0)"
        name, similarity, distance = conn.execute(statement, [near]).fetchone()
        assert (name, distance) == ("x", 0)
        assert similarity == pytest.approx(1, abs=1e-6)
        assert conn.execute("select candidates from geosearch.search_plan('toy', '[2,4,6]', %s)", [near]).fetchone()
        assert conn.execute("select count(*) from geosearch.image_map").fetchone() == (1,)


def test_an_extension_that_moves_is_followed(conn, superuser_url, database_url):
    with psycopg.connect(superuser_url) as admin:
        admin.execute("create schema elsewhere")
        admin.execute("grant usage on schema elsewhere to public")
        admin.execute("alter extension vector set schema elsewhere")
    with pytest.raises(SchemaError, match="older"):
        connect(database_url)
    assert len(migrate(database_url)) == len(install.sql_files())
    with connect(database_url) as again:
        again.execute("select geosearch.create_space('toy', 3)")
        assert again.execute("select * from geosearch.search('toy', '[1,2,3]')").fetchall() == []


def test_without_a_superuser_the_statements_to_run_are_printed(server, empty_database_url, database_url):
    """A login that owns its database may do everything but create PostGIS."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    name = conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'alter database "{name}" owner to geosearch')
    mine = make_conninfo(empty_database_url, user="geosearch", password="geosearch")
    with pytest.raises(SchemaError) as caught:
        migrate(mine)
    assert "create extension if not exists postgis;" in str(caught.value)
    assert "create extension if not exists vector;" in str(caught.value)
    assert "superuser" in str(caught.value)
    with psycopg.connect(empty_database_url) as admin:
        assert admin.execute("select to_regnamespace('geosearch')").fetchone() == (None,)
        admin.execute("create extension postgis")
        admin.execute("create extension vector")
    assert len(migrate(mine)) == 2 + len(install.sql_files())


def test_a_user_without_rights_is_told_so(server, empty_database_url):
    from psycopg.conninfo import make_conninfo

    with psycopg.connect(empty_database_url) as admin:
        admin.execute("create extension postgis")
        admin.execute("create extension vector")
    with pytest.raises(SchemaError, match=r"permission denied for database.*\n?.*Migrate as the owner"):
        migrate(make_conninfo(empty_database_url, user="geosearch", password="geosearch"))


def test_a_server_that_is_not_there_is_an_error_of_geosearch():
    with pytest.raises(DatabaseError, match="cannot be reached"):
        migrate("postgresql://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(DatabaseError, match="geosearch doctor"):
        connect("postgresql://nobody@127.0.0.1:1/nowhere")


def test_two_at_once_do_the_work_once(empty_database_url):
    done: list[list[str]] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            done.append(migrate(empty_database_url))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(map(len, done))[:2] == [0, 0]
    assert sum(map(len, done)) == 4 + len(install.sql_files())


def test_missing_older_and_newer_schemas_are_told_apart(empty_database_url, database_url):
    with pytest.raises(SchemaError, match=r"has no geosearch schema yet.*geosearch db migrate"):
        connect(empty_database_url)
    with connect(empty_database_url, check_schema=False) as conn:
        assert schema_version(conn).state == "missing"

    with psycopg.connect(database_url) as conn:
        conn.execute("update geosearch.installed_sql set sha256 = 'other' where name = '32_search.sql'")
    with pytest.raises(SchemaError, match=r"holds an older geosearch schema.*geosearch db migrate"):
        connect(database_url)
    migrate(database_url)
    connect(database_url).close()

    with psycopg.connect(database_url) as conn:
        conn.execute("update geosearch.installed_sql set release = '99.1.0' where name = '32_search.sql'")
    for attempt in (connect, migrate):
        with pytest.raises(SchemaError, match=r"newer geosearch \(99.1.0.*Update geosearch"):
            attempt(database_url)
    with psycopg.connect(database_url) as conn:
        conn.execute("update geosearch.installed_sql set release = '0.0.1'")
        conn.execute("update geosearch.alembic_version set version_num = '9999'")
    for attempt in (connect, migrate):
        with pytest.raises(SchemaError, match="tables at revision 9999"):
            attempt(database_url)


def test_connections_know_vectors_and_compile_nothing(conn):
    assert conn.execute("show jit").fetchone() == ("off",)
    assert conn.execute("select current_setting('application_name')").fetchone() == ("geosearch",)
    assert conn.execute("select '[1,2,3]'::halfvec").fetchone()[0].to_list() == [1, 2, 3]
    assert conn.autocommit is False


def test_an_address_that_is_none_is_told_as_such() -> None:
    with pytest.raises(DatabaseError, match="reads like postgresql://"):
        connect("nonsense")
