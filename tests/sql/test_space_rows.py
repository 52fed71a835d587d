"""Rows of vectors keep up with their images, at once and in every space; who may write what; counts."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from geosearch.database.connection import connect
from geosearch.database.spaces import create_space

SPACES = ("near", "far")
HERE, THERE = "POINT(10 45)", "POINT(-150 -30)"


@pytest.fixture
def filled(conn) -> Iterator[psycopg.Connection]:
    """Two archives, three images and two spaces; committed."""
    for archive in ("a", "b"):
        conn.execute("insert into geosearch.archive (name) values (%s)", [archive])
    for name in ("one", "two", "three"):
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m)"
            " select id, %s, st_geogfromtext(%s), 0 from geosearch.archive where name = 'a'",
            [name, HERE],
        )
    for space in SPACES:
        create_space(conn, space, 3)
        conn.execute(
            f"insert into geosearch.space_{space} (image_id, embedding)"
            " select id, array[id % 7 + 1, 2, 3]::real[]::halfvec from geosearch.image"
        )
    conn.commit()
    yield conn


def image(conn: psycopg.Connection, name: str = "one") -> int:
    return conn.execute("select id from geosearch.image where name = %s", [name]).fetchone()[0]


def found(conn: psycopg.Connection, near: str | None, radius: float = 1000.0, **more: object) -> dict[str, set[str]]:
    """The names that each space finds by each strategy, which must agree."""
    names: dict[str, set[str]] = {}
    for space in SPACES:
        for strategy in ("exact", "auto"):
            rows = conn.execute(
                "select name from geosearch.search(%(space)s, '[1,2,3]', st_geogfromtext(%(near)s), %(radius)s, 100,"
                " %(archive)s, %(strategy)s, %(since)s, %(until)s)",
                {"archive": None, "since": None, "until": None, **more}
                | {"space": space, "near": near, "radius": radius, "strategy": strategy},
            ).fetchall()
            assert names.setdefault(space, {row[0] for row in rows}) == {row[0] for row in rows}
    return names


def both(*names: str) -> dict[str, set[str]]:
    return {space: set(names) for space in SPACES}


def versions(conn: psycopg.Connection) -> dict[tuple[str, int], int]:
    return {
        (space, image_id): version
        for space in SPACES
        for image_id, version in conn.execute(f"select image_id, version from geosearch.space_{space}").fetchall()
    }


def test_an_image_that_moves_is_found_where_it_is_and_no_longer_where_it_was(filled):
    before = versions(filled)
    filled.execute("update geosearch.image set nadir = st_geogfromtext(%s) where name = 'one'", [THERE])
    assert found(filled, HERE) == both("two", "three")
    assert found(filled, THERE) == both("one")
    assert versions(filled) == before  # the vector is the same
    filled.rollback()
    assert found(filled, HERE) == both("one", "two", "three")


def test_a_footprint_takes_the_place_of_the_nadir_and_goes_again(filled):
    square = "MULTIPOLYGON(((-151 -31,-149 -31,-149 -29,-151 -29,-151 -31)))"
    filled.execute("update geosearch.image set footprint = st_geogfromtext(%s) where name = 'one'", [square])
    assert found(filled, THERE) == both("one")
    assert found(filled, HERE) == both("two", "three")
    cap = filled.execute("select cap from geosearch.space_near where image_id = %s", [image(filled)]).fetchone()[0]
    assert math.radians(1.2) < cap < math.radians(1.5)  # from its middle to a corner
    filled.execute("update geosearch.image set footprint = null where name = 'one'")
    assert found(filled, HERE) == both("one", "two", "three")
    filled.execute("update geosearch.image set nadir = null where name = 'one'")
    assert found(filled, HERE, 3e7) == both("two", "three")
    assert found(filled, None) == both("one", "two", "three")
    row = filled.execute("select x, y, z, cell / 32768 from geosearch.space_far where image_id = %s", [image(filled)])
    assert row.fetchone() == (0, 0, 0, 7)


@pytest.mark.parametrize("reach", [1, 9e4, 3e5, 1e6, 2.5e6, 5e6, 9e6, 3e7])
def test_a_reach_widens_the_circle_of_its_image_alone(filled, reach):
    """Each of another class of extent, which a search must then look through."""
    filled.execute("update geosearch.image set reach_m = %s where name = 'two'", [reach])
    for metres, reached in ((-0.5, True), (0.5, False)):
        east = filled.execute(
            "select st_astext(st_project(st_geogfromtext(%s), %s, radians(90)))", [HERE, min(reach, 1.9e7) + metres]
        ).fetchone()[0]
        # Beyond half the Earth's round there is nothing that it does not reach.
        assert found(filled, east, 0.0) == (both("two") if reached or reach > 2.1e7 else both()), metres


def test_archive_and_date_follow_too(filled):
    filled.execute(
        "update geosearch.image set archive_id = (select id from geosearch.archive where name = 'b') where name = 'one'"
    )
    filled.execute("update geosearch.image set captured_at = '2020-02-02Z' where name = 'two'")
    assert found(filled, HERE, archive="b") == both("one")
    assert found(filled, HERE, archive="a") == both("two", "three")
    assert found(filled, None, since="2020-02-02Z", until="2020-02-03Z") == both("two")
    filled.execute("update geosearch.image set captured_at = null")
    assert found(filled, None, since="-infinity") == both()


def test_many_images_at_once_and_updates_that_change_nothing_of_a_place(filled):
    tuples = "select xmin::text, ctid::text from geosearch.space_near order by image_id"
    before = filled.execute(tuples).fetchall()
    filled.execute("update geosearch.image set properties = '{\"a\": 1}', updated_at = now(), reach_m = reach_m")
    assert filled.execute(tuples).fetchall() == before  # no row was written for nothing
    filled.execute("update geosearch.image set nadir = st_makepoint(id, 5)")
    for name in ("one", "two", "three"):
        assert found(filled, f"POINT({image(filled, name)} 5)") == both(name)


def test_a_version_is_new_with_the_vector_and_never_given_twice(filled):
    seen = set(versions(filled).values())
    assert len(seen) == 6  # also across spaces
    one = image(filled)
    for statement in (
        "update geosearch.space_near set embedding = '[7,8,9]' where image_id = %s",
        "insert into geosearch.space_near (image_id, embedding) values (%s, '[3,2,1]')"
        " on conflict (image_id) do update set embedding = excluded.embedding",
        "update geosearch.space_near set embedding = '[7,8,9]', version = 1 where image_id = %s",
    ):
        filled.execute(statement, [one])
        version = versions(filled)["near", one]
        assert version not in seen, statement
        seen.add(version)
    last = versions(filled)
    for statement in (
        "update geosearch.space_near set embedding = '[7,8,9]' where image_id = %s",
        "update geosearch.space_near set content_sha256 = sha256('x') where image_id = %s",
        "update geosearch.space_near set version = 1, x = 0, y = 1, cap = 0, cell = 5, archive_id = 99"
        " where image_id = %s",
        "insert into geosearch.space_near (image_id, embedding) values (%s, '[7,8,9]')"
        " on conflict (image_id) do update set embedding = excluded.embedding",
    ):
        filled.execute(statement, [one])
        assert versions(filled) == last, statement
    assert found(filled, HERE) == both("one", "two", "three")  # nor can place and archive be written by hand
    filled.execute("delete from geosearch.space_near where image_id = %s", [one])
    filled.execute("insert into geosearch.space_near (image_id, embedding) values (%s, '[7,8,9]')", [one])
    assert versions(filled)["near", one] not in seen


def test_what_is_deleted_is_not_found(filled):
    filled.execute("delete from geosearch.image where name = 'one'")
    assert found(filled, HERE) == both("two", "three")
    filled.execute("delete from geosearch.space_near where image_id = %s", [image(filled, "two")])
    assert found(filled, None) == {"near": {"three"}, "far": {"two", "three"}}
    filled.execute("delete from geosearch.archive")
    assert versions(filled) == {}


def test_a_vector_of_no_image_is_refused(filled):
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="there is no image -7") as caught:
        filled.execute("insert into geosearch.space_near (image_id, embedding) values (-7, '[1,2,3]')")
    assert "geosearch catalog add" in caught.value.diag.message_hint


def test_extents_tell_of_every_class_that_was_ever_there(filled):
    def extents() -> list[int]:
        return [row[0] for row in filled.execute("select extents from geosearch.space order by name desc").fetchall()]

    assert extents() == [1, 1]
    one = image(filled)
    for reach, bits in ((5e4, 0b11), (5e6, 0b100011), (1e7, 0b1100011), (0, 0b1100011)):
        filled.execute("update geosearch.image set reach_m = %s where name = 'one'", [reach])
        assert extents() == [bits, bits]
    filled.execute("delete from geosearch.space_near where image_id = %s", [one])
    filled.execute("update geosearch.image set nadir = null where name = 'one'")
    assert extents() == [0b1100011, 0b11100011]
    filled.execute("insert into geosearch.space_near (image_id, embedding) values (%s, '[1,2,3]')", [one])
    assert extents() == [0b11100011, 0b11100011]


def test_counts_are_those_of_the_cells(filled):
    def counts(space: str) -> list[tuple[int, int]]:
        return filled.execute(
            "select c.cell, c.images from geosearch.cell_count c join geosearch.space s on s.id = c.space_id"
            " where s.name = %s order by 1",
            [space],
        ).fetchall()

    assert counts("near") == []
    filled.execute("update geosearch.image set nadir = st_geogfromtext(%s) where name = 'one'", [THERE])
    filled.execute("update geosearch.image set nadir = null where name = 'two'")
    assert filled.execute("select geosearch.count_cells('near')").fetchone() == (3,)
    cells = filled.execute("select cell, count(*) from geosearch.space_near group by 1 order by 1").fetchall()
    assert counts("near") == cells and len(cells) == 3
    assert counts("far") == []
    filled.execute("delete from geosearch.image where name = 'one'")
    assert len(counts("near")) == 3  # until it is counted again
    plan = "select estimated, candidates from geosearch.search_plan('near', '[1,2,3]')"
    assert filled.execute(plan).fetchone() == (3, 2)
    assert filled.execute("select geosearch.count_cells('near')").fetchone() == (2,)
    assert filled.execute(plan).fetchone() == (2, 2)
    filled.execute("delete from geosearch.image")
    assert filled.execute("select geosearch.count_cells('near')").fetchone() == (0,)
    assert counts("near") == []
    assert filled.execute(plan).fetchone() == (0, 0)
    with pytest.raises(psycopg.errors.UndefinedObject, match="no space is named 'nothing'"):
        filled.execute("select geosearch.count_cells('nothing')")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_move_that_could_miss_a_new_vector_is_refused(filled, database_url, level):
    """A transaction that began before the vector was added does not see its row, and could not bring it along."""
    filled.execute("delete from geosearch.space_near")
    filled.commit()
    with connect(database_url) as mover:
        mover.execute(f"set transaction isolation level {level}")
        mover.execute("select count(*) from geosearch.image")
        filled.execute(
            "insert into geosearch.space_near (image_id, embedding) select id, '[1,2,3]' from geosearch.image"
        )
        filled.commit()
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="under READ COMMITTED only"), mover.transaction():
            mover.execute("update geosearch.image set nadir = st_geogfromtext(%s) where name = 'one'", [THERE])
        mover.execute("update geosearch.image set properties = '{}'")  # what no search looks at may change
        mover.rollback()
        mover.execute("update geosearch.image set nadir = st_geogfromtext(%s) where name = 'one'", [THERE])
        mover.commit()
    assert found(filled, THERE) == both("one")


@pytest.fixture
def login(server, filled, database_url) -> Iterator[tuple[str, str]]:
    """(name, connection string) of a new login without any rights."""
    name, password = f"gslogin_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    role = sql.Identifier(name)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login password {}").format(role, sql.Literal(password)))
    try:
        yield name, make_conninfo(database_url, user=name, password=password)
    finally:
        filled.rollback()
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop role {}").format(role))


def test_the_ingest_role_can_do_all_that_rows_need(filled, login):
    """Triggers write where it may not: the tables of spaces' notes and counts."""
    name, url = login
    filled.execute(sql.SQL("grant geosearch_ingest to {}").format(sql.Identifier(name)))
    filled.commit()
    with connect(url, autocommit=True) as ingest:
        ingest.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m)"
            " select id, 'four', st_geogfromtext(%s), 5e6 from geosearch.archive where name = 'b'",
            [THERE],
        )
        for space in SPACES:
            ingest.execute(
                f"insert into geosearch.space_{space} (image_id, embedding)"
                " select id, '[1,2,3]' from geosearch.image where name = 'four'"
            )
        assert found(ingest, THERE) == both("four")
        ingest.execute(
            "update geosearch.image set nadir = st_geogfromtext(%s), reach_m = 0 where name = 'four'", [HERE]
        )
        assert found(ingest, HERE) == both("one", "two", "three", "four")
        ingest.execute("update geosearch.space_near set embedding = '[3,2,1]'")
        assert ingest.execute("select geosearch.count_cells('near')").fetchone() == (4,)
        ingest.execute("delete from geosearch.image where name = 'four'")
        assert found(ingest, None) == both("one", "two", "three")
        for refused in (
            "update geosearch.space set extents = 0",
            "insert into geosearch.cell_count select id, 1, 1 from geosearch.space",
            "select geosearch.create_space_table('space_mine', 'mine', 3)",
            "select geosearch.add_space_triggers('space_near', 3)",
            "select geosearch.drop_space('near')",
            "alter table geosearch.space_near disable trigger all",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                ingest.execute(refused)


def test_the_read_role_searches_by_every_strategy_and_can_do_nothing_else(filled, login):
    """In a read-only transaction."""
    filled.execute("create index space_near_hnsw_idx on geosearch.space_near using hnsw (embedding halfvec_cosine_ops)")
    filled.execute("update geosearch.space set indexed_as = 'halfvec' where name = 'near'")
    filled.execute("select geosearch.count_cells('near'), geosearch.count_cells('far')")
    name, url = login
    filled.execute("select geosearch.grant_read(%s)", [name])
    filled.commit()
    one = image(filled)
    filled.commit()
    calls = [
        "select count(*) from geosearch.search('near', '[1,2,3]', 'POINT(10 45)', strategy => '{}')",
        "select count(*) from geosearch.search('near', '[1,2,3]', strategy => '{}', archive => 'a')",
        f"select count(*) from geosearch.similar({one}, 'near', strategy => '{{}}')",
        "select count(*) from geosearch.search_many('near', array['[1,2,3]']::vector[], strategy => '{}')",
        "select returned from geosearch.search_plan('near', '[1,2,3]', 'POINT(10 45)', strategy => '{}')",
        "select count(*) from geosearch.candidates('near', 'POLYGON((9 44,11 44,11 46,9 46,9 44))', 0)",
    ]
    with connect(url) as reader:
        assert reader.execute("show transaction_read_only").fetchone() == ("on",)
        for strategy in ("exact", "hnsw", "auto"):
            for call in calls:
                assert reader.execute(call.format(strategy)).fetchone() == (3,), call
        reader.rollback()
        for refused in (
            "insert into geosearch.space_near (image_id, embedding) values (1, '[1,2,3]')",
            "update geosearch.space_near set embedding = '[3,2,1]'",
            "delete from geosearch.space_near",
            "update geosearch.image set reach_m = 0",
            "select geosearch.count_cells('near')",
            "select geosearch.create_space('mine', 3)",
            "select geosearch.drop_space('near')",
            "select nextval('geosearch.version_seq')",
            "delete from geosearch.cell_count",
            "truncate geosearch.space_near",
        ):
            for mode in ("read only", "read write"):
                reader.execute(f"set transaction {mode}")
                with pytest.raises(
                    (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)
                ) as caught:
                    reader.execute(refused)
                assert mode == "read only" or isinstance(caught.value, psycopg.errors.InsufficientPrivilege), refused
                reader.rollback()


def test_every_row_says_what_its_image_says(world):
    """Of all the awkward places: archive, date and reach as they are, cell and cap from the place."""
    rows = world.conn.execute(
        "select s.archive_id = i.archive_id and s.captured_at is not distinct from i.captured_at"
        "  and s.reach_m = i.reach_m, p.x, p.y, p.z, p.cap, s.x, s.y, s.z, s.cap, s.cell,"
        " geosearch.cell(p.x, p.y, p.z, case when p.cap > 2 then 'infinity' else p.cap * 6371008.77 + i.reach_m end)"
        " from geosearch.space_toy s join geosearch.image i on i.id = s.image_id"
        " left join lateral geosearch.place_cap(coalesce(i.footprint, i.nadir)) p on true"
    ).fetchall()
    assert len(rows) == len(world.ids)
    nowhere = 0
    for same, *fresh_and_stored in rows:
        assert same
        fresh, stored, (cell, expected) = fresh_and_stored[:4], fresh_and_stored[4:8], fresh_and_stored[8:]
        if fresh[0] is None:
            nowhere += 1
            assert stored == [0, 0, 0, math.pi] and cell == 7 * 32768
        else:
            np.testing.assert_allclose(stored, fresh, atol=1e-15)
            assert cell == expected
    assert nowhere == 3
