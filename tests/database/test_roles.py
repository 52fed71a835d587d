"""What each group may do, tried with real logins."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from geosearch.database.connection import connect
from geosearch.database.migrate import migrate
from geosearch.errors import SchemaError

SEARCH = "select name from geosearch.search('toy', '[1,2,3]', 'POINT(7 46)'::geography)"


@pytest.fixture
def login(server, filled) -> Iterator[str]:
    """A connection string of a new login without any rights, in the database of `filled`."""
    name, password = f"gslogin_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    role = sql.Identifier(name)
    # Made by the owner of the database: from PostgreSQL 16 on, only who made a role may alter it.
    with psycopg.connect(filled, autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login password {}").format(role, sql.Literal(password)))
    try:
        yield make_conninfo(filled, user=name, password=password)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture
def filled(database_url) -> str:
    """A database with one image in one space."""
    with connect(database_url) as conn:
        conn.execute("insert into geosearch.archive (name) values ('alps')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m)"
            " select id, 'x', 'POINT(7 46)', 0 from geosearch.archive"
        )
        conn.execute("select geosearch.create_space('toy', 3)")
        conn.execute("insert into geosearch.space_toy (image_id, embedding) select id, '[1,2,3]' from geosearch.image")
    return database_url


def user(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["user"])


def grant(database: str, group: str, login: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(user(login))))


def test_a_stranger_sees_nothing_and_is_told_whom_to_ask(login):
    with pytest.raises(SchemaError, match=r"may not read schema geosearch.*grant_read"):
        connect(login)


def test_a_reader_searches_and_opens_the_views_in_a_read_only_transaction(filled, login):
    with connect(filled) as owner:
        owner.execute("select geosearch.grant_read(%s)", [user(login)])
    with connect(login) as reader:
        assert reader.execute("show transaction_read_only").fetchone() == ("on",)
        assert reader.execute("show statement_timeout").fetchone() == ("30s",)
        assert reader.execute(SEARCH).fetchall() == [("x",)]
        image_id = reader.execute("select id from geosearch.image").fetchone()[0]
        assert reader.execute("select name from geosearch.similar(%s, 'toy')", [image_id]).fetchall() == [("x",)]
        plan = reader.execute(
            "select candidates, exhausted from geosearch.search_plan('toy', '[1,2,3]', 'POINT(7 46)')"
        )
        assert plan.fetchone() == (1, True)
        assert reader.execute("select count(*) from geosearch.image_map").fetchone() == (1,)
        assert reader.execute("select count(*) from geosearch.footprint_map").fetchone() == (0,)
        assert reader.execute("select geosearch.change_count('image')").fetchone() == (1,)


def test_a_reader_is_cut_off_after_the_timeout(filled, login):
    with connect(filled) as owner:
        owner.execute("select geosearch.grant_read(%s, interval '200 milliseconds')", [user(login)])
    with connect(login) as reader:
        started = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled, match="statement timeout"):
            reader.execute("select pg_sleep(30)")
        assert time.monotonic() - started < 10


REFUSED = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.ObjectNotInPrerequisiteState,  # a view over two tables takes no changes from anybody
)
CHANGES = [
    "insert into geosearch.archive (name) values ('mine')",
    "update geosearch.image set name = 'mine'",
    "delete from geosearch.image",
    "truncate geosearch.image cascade",
    "insert into geosearch.space_toy (image_id, embedding) values (1, '[1,2,3]')",
    "delete from geosearch.space_toy",
    "insert into geosearch.embedded_place (image_id, space_id) values (1, 1)",
    "update geosearch.space set active = false",
    "delete from geosearch.reject",
    "delete from geosearch.installed_sql",
    "update geosearch.alembic_version set version_num = '9'",
    "delete from geosearch.image_map",
    "insert into geosearch.change (subject, changes) values ('image', 1)",
    "select geosearch.fold_changes('image')",
    "delete from geosearch.location_weight",
    "insert into geosearch.bank (name, encoder, key_dimension, value_dimension) values ('mine', 'x', 3, 3)",
    "update geosearch.bank set stored_at = now()",
    "select geosearch.install_location_model('x', 'geoclip', 3,"
    ' \'{"features": "fourier", "projection": "equal earth", "activation": "relu"}\', repeat(\'0\', 64))',
    "select geosearch.create_space('mine', 3)",
    "select geosearch.drop_space('toy')",
    "create table geosearch.mine (id int)",
    "create view geosearch.mine as select 1 as id",
    "create function geosearch.mine() returns int language sql as 'select 1'",
    "create index on geosearch.image (name)",
    "drop view geosearch.image_map",
    "alter table geosearch.image add column mine int",
    "comment on table geosearch.image is 'mine'",
    "drop schema geosearch cascade",
]


@pytest.mark.parametrize("read_only", ["on", "off"])
def test_a_reader_can_change_nothing_even_when_it_leaves_read_only_mode(filled, login, read_only, fingerprint):
    with connect(filled) as owner:
        owner.execute("select geosearch.grant_read(%s)", [user(login)])
    before = fingerprint(filled)
    with psycopg.connect(login, autocommit=True) as reader:
        reader.execute(sql.SQL("set default_transaction_read_only = {}").format(sql.SQL(read_only)))
        for statement in CHANGES:
            with pytest.raises(REFUSED):
                reader.execute(statement)
        with contextlib.suppress(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("grant select on geosearch.image to public")  # a mere warning, and nothing granted
    assert fingerprint(filled) == before
    with psycopg.connect(filled) as owner:
        assert owner.execute("select count(*) from geosearch.space_toy").fetchone() == (1,)


def test_an_ingester_fills_the_catalogue_and_spaces_but_makes_none(filled, login):
    grant(filled, "geosearch_ingest", login)
    with connect(login) as ingester:
        archive = ingester.execute("insert into geosearch.archive (name) values ('new') returning id").fetchone()[0]
        one = ingester.execute(
            "insert into geosearch.image (archive_id, name, reach_m) values (%s, 'y', 0) returning id", [archive]
        ).fetchone()[0]
        ingester.execute("update geosearch.image set uri = 'y.tif' where id = %s", [one])
        ingester.execute("insert into geosearch.space_toy (image_id, embedding) values (%s, '[1,0,0]')", [one])
        ingester.execute(
            "insert into geosearch.embedded_place (image_id, space_id, lat, lon)"
            " select %s, id, 2, 1 from geosearch.space",
            [one],
        )
        ingester.execute("update geosearch.embedded_place set lat = null, lon = null")
        ingester.execute("insert into geosearch.model (name, dimension) values ('m', 3)")
        ingester.execute(
            "insert into geosearch.reject (archive_id, stage, reason) values (%s, 'embed', 'x')", [archive]
        )
        ingester.execute("delete from geosearch.reject")
        assert ingester.execute("select geosearch.change_count('image')").fetchone() == (2,)  # the first by the owner
        ingester.execute("select geosearch.fold_changes('image')")
        ingester.execute("create temp table staging (like geosearch.image)")
        ingester.execute("delete from geosearch.image where id = %s", [one])
        ingester.commit()
        for statement in (
            "select geosearch.create_space('mine', 3)",
            "select geosearch.drop_space('toy')",
            "delete from geosearch.archive",
            "delete from geosearch.space",
            "update geosearch.space set dimension = 4",
            "create table geosearch.mine (id int)",
            "insert into geosearch.change (subject, changes) values ('image', 1)",
            "delete from geosearch.location_weight",
            "delete from geosearch.bank",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ingester.execute(statement)
            ingester.rollback()


def test_an_admin_makes_and_drops_spaces_which_belong_to_the_owner_of_the_schema(filled, login):
    grant(filled, "geosearch_admin", login)
    with connect(login) as admin:
        admin.execute("select geosearch.create_space('mine', 3)")
        owner = admin.execute(
            "select tableowner from pg_tables where schemaname = 'geosearch' and tablename = 'space_mine'"
        ).fetchone()
        assert owner == ("geosearch",)
        admin.execute(
            "insert into geosearch.space_mine (image_id, embedding) select id, '[1,2,3]' from geosearch.image"
        )
        admin.execute("update geosearch.space set active = false where name = 'mine'")
        admin.execute("select geosearch.drop_space('mine')")
        admin.execute("delete from geosearch.archive")
        admin.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute("drop table geosearch.image")


def test_a_migration_leaves_rights_on_spaces_and_banks_as_they_were(filled, fingerprint):
    """It takes all rights back and grants them anew, also those that came with a table later."""
    with connect(filled) as owner:
        owner.execute("select geosearch.create_bank('alps', 'an-encoder', 3, 4)")
    before = fingerprint(filled)
    with psycopg.connect(filled) as owner:
        owner.execute("delete from geosearch.installed_sql where name = '00_roles.sql'")
    assert migrate(filled) == ["installed sql/00_roles.sql"]
    after = fingerprint(filled)
    assert after["relations"] == before["relations"]
    assert after["columns"] == before["columns"]


def test_a_function_of_the_same_name_in_an_open_schema_is_not_run_with_the_owners_rights(filled, superuser_url, login):
    """PostgreSQL 14 and older let everyone create in public; databases upgraded from there still do."""
    with psycopg.connect(superuser_url, autocommit=True) as superuser:
        superuser.execute("grant create on schema public to public")
    with psycopg.connect(login, autocommit=True) as attacker:
        for arguments in ("text, text", "text, text, int", "text, text, text"):
            attacker.execute(
                f"create function public.format({arguments}) returns text language plpgsql as"
                " $$ begin raise 'run as %', current_user; end $$"
            )
    with connect(filled) as owner:
        owner.execute("select geosearch.create_space('mine', 3)")
        owner.execute("select geosearch.drop_space('mine')")
    with psycopg.connect(superuser_url) as superuser:
        superuser.execute(sql.SQL("drop owned by {}").format(sql.Identifier(user(login))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody at all"], "can log in"),
        ([None], "can log in"),
        (["geosearch_read"], "can log in"),
        (["postgres"], "superuser"),
    ],
)
def test_grant_read_refuses_whom_it_cannot_limit(filled, arguments, message):
    with connect(filled) as owner, pytest.raises(psycopg.Error, match=message):
        owner.execute("select geosearch.grant_read(%s)", arguments)


@pytest.mark.parametrize("timeout", ["0 seconds", "-1 second", None])
def test_grant_read_wants_a_timeout(filled, login, timeout):
    with connect(filled) as owner, pytest.raises(psycopg.errors.InvalidParameterValue, match="longer than 0"):
        owner.execute("select geosearch.grant_read(%s, %s::interval)", [user(login), timeout])


def test_the_limits_hold_in_this_database_alone(server, filled, login):
    with connect(filled) as owner:
        owner.execute("select geosearch.grant_read(%s)", [user(login)])
    known = conninfo_to_dict(login)
    with psycopg.connect(make_conninfo(server, user=known["user"], password=known["password"])) as elsewhere:
        assert elsewhere.execute("show default_transaction_read_only").fetchone() == ("off",)


def test_an_owner_who_may_create_roles_migrates_and_one_who_may_not_is_told_what_is_missing(server, empty_database_url):
    """Where the groups are not there yet: tried with other names, since groups are the whole server's."""
    import dataclasses

    from geosearch.database import install

    tag = uuid.uuid4().hex[:8]
    name = conninfo_to_dict(empty_database_url)["dbname"]
    owner = f"gsowner_{tag}"
    groups = tuple(f"gsgroup_{tag}_{what}" for what in ("admin", "ingest", "ask", "read"))
    renamed = tuple(
        dataclasses.replace(file, text=file.text.replace("geosearch_", f"gsgroup_{tag}_"))
        for file in install.sql_files()
    )
    mine = make_conninfo(empty_database_url, user=owner, password=tag)
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login password {}").format(sql.Identifier(owner), sql.Literal(tag)))
        admin.execute(sql.SQL("alter database {} owner to {}").format(sql.Identifier(name), sql.Identifier(owner)))
        admin.execute("create extension postgis")
        admin.execute("create extension vector")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(install, "sql_files", lambda: renamed)
            patch.setattr(install, "GROUPS", groups)
            with pytest.raises(SchemaError) as caught:
                migrate(mine)
            assert f"role {groups[0]} does not exist and {owner} may not create it" in str(caught.value)
            assert f"create role {groups[3]} nologin;" in str(caught.value)
            with psycopg.connect(server, autocommit=True) as admin:
                admin.execute(sql.SQL("alter role {} createrole").format(sql.Identifier(owner)))
            assert migrate(mine)[-1] == f"installed sql/{renamed[-1].name}"
            assert migrate(mine) == []
            connect(mine).close()
    finally:
        with psycopg.connect(empty_database_url, autocommit=True) as admin:
            admin.execute("drop schema if exists geosearch cascade")
            for role in groups:
                if admin.execute("select 1 from pg_roles where rolname = %s", [role]).fetchone():
                    admin.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))
            admin.execute(sql.SQL("alter database {} owner to postgres").format(sql.Identifier(name)))
            admin.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(owner)))
