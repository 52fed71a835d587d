"""Spaces and archives by name, and what migrations do to the tables of spaces."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from geosearch.database import archives, spaces
from geosearch.errors import InputError, UnknownNameError


def image(conn, archive_id, name="x"):
    row = conn.execute(
        "insert into geosearch.image (archive_id, name, reach_m) values (%s, %s, 0) returning id", [archive_id, name]
    ).fetchone()
    return row[0]


def test_a_space_is_made_listed_and_dropped(conn):
    conn.execute("insert into geosearch.model (name, dimension) values ('m', 4)")
    made = spaces.create_space(conn, "toy", 4, "m")
    assert (made.name, made.model, made.dimension, made.metric, made.embeds, made.count) == (
        "toy",
        "m",
        4,
        "cosine",
        "image",
        0,
    )
    assert (made.layout_version, made.active, made.indexed_as) == (2, True, None)
    spaces.create_space(conn, "another", 2)
    one = image(conn, archives.ensure_archive(conn, "a"))
    conn.execute(sql.SQL("insert into {} (image_id, embedding) values (%s, '[1,2,3,4]')").format(made.table), [one])
    assert [(s.name, s.count) for s in spaces.list_spaces(conn)] == [("another", 0), ("toy", 1)]
    from geosearch.embedding.write import Rejected, VectorWriter

    archive = archives.get_archive_id(conn, "a")
    for name in ("toy", "another"):
        VectorWriter(conn, spaces.get_space(conn, name)).reject([Rejected(archive, "x", "broken")])
    assert spaces.drop_space(conn, "toy") == 1
    assert conn.execute("select payload from geosearch.reject").fetchall() == [('{"space": "another"}',)]
    assert [s.name for s in spaces.list_spaces(conn)] == ["another"]
    assert conn.execute("select to_regclass('geosearch.space_toy')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("Toy", 4), InputError, "cannot name a space. Use a letter"),
        (("1st", 4), InputError, "cannot name a space"),
        (("a" * 42, 4), InputError, "cannot name a space"),
        (("a\n", 4), InputError, "cannot name a space"),
        (("a", 0), InputError, "0 dimensions. Give a number between 1 and 16000"),
        (("a", 16001), InputError, "16001 dimensions"),
        (("a", 10**10), InputError, "out of range"),
        (("a", 4, "m"), UnknownNameError, "no model is named 'm'; there is: other"),
        (("a", 4, "other"), InputError, "model other makes vectors of 3 dimensions, not 4"),
        (("a", 4, None, "l2"), InputError, "no metric is named 'l2'"),
        (("a", 4, None, "cosine", "region"), InputError, "cannot embed 'region'"),
        (("there", 4), InputError, "there is a space there already. Choose another name"),
    ],
)
def test_a_space_that_cannot_be_is_refused_and_the_transaction_goes_on(conn, arguments, error, message):
    conn.execute("insert into geosearch.model (name, dimension) values ('other', 3)")
    spaces.create_space(conn, "there", 3)
    with pytest.raises(error, match=message):
        spaces.create_space(conn, *arguments)
    assert [s.name for s in spaces.list_spaces(conn)] == ["there"]


def test_the_longest_name_and_the_largest_dimension_work(conn):
    longest = "a" * 41
    assert spaces.create_space(conn, longest, 16000).dimension == 16000
    one = image(conn, archives.ensure_archive(conn, "a"))
    conn.execute(
        sql.SQL("insert into {} (image_id, embedding) select %s, array_agg(i)::real[]::halfvec"
                " from generate_series(1, 16000) i").format(spaces.get_space(conn, longest).table), [one]
    )  # fmt: skip
    rows = conn.execute("select similarity from geosearch.similar(%s, %s)", [one, longest]).fetchall()
    assert rows[0][0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("dimension", "storage"), [(3, "p"), (512, "p"), (3900, "p"), (3901, "e"), (8448, "e")])
def test_vectors_lie_inline_while_a_row_fits_a_page(conn, dimension, storage):
    spaces.create_space(conn, "toy", dimension)
    row = conn.execute(
        "select attstorage from pg_attribute where attrelid = 'geosearch.space_toy'::regclass and attname = 'embedding'"
    ).fetchone()
    assert row[0] in (storage, storage.encode())
    one = image(conn, archives.ensure_archive(conn, "a"))
    conn.execute(
        "insert into geosearch.space_toy (image_id, content_sha256, embedding)"
        " select %s, sha256('x'), array_agg(sin(i))::real[]::halfvec from generate_series(1, %s) i",
        [one, dimension],
    )
    assert spaces.get_space(conn, "toy").count == 1


@pytest.mark.parametrize("bad", ["[0,0,0]", "[1e-30,0,0]", "[1,2]", "[NaN,1,2]", "[Infinity,1,2]", None])
def test_a_vector_without_a_direction_cannot_be_stored(conn, bad):
    spaces.create_space(conn, "toy", 3)
    one = image(conn, archives.ensure_archive(conn, "a"))
    with pytest.raises(psycopg.Error):
        conn.execute("insert into geosearch.space_toy (image_id, embedding) values (%s, %s::text::halfvec)", [one, bad])


def test_an_unknown_space_is_answered_with_those_there_are(conn):
    with pytest.raises(UnknownNameError, match=r"there is no space yet. `geosearch space create`"):
        spaces.get_space(conn, "toy")
    spaces.create_space(conn, "real", 3)
    with pytest.raises(UnknownNameError, match="no space is named 'toy'; there is: real"):
        spaces.drop_space(conn, "toy")


def test_archives(conn):
    first = archives.ensure_archive(conn, "alps", title="The Alps", properties={"sensor": "ISS"})
    assert archives.ensure_archive(conn, "alps", licence="CC0") == first
    second = archives.ensure_archive(conn, "Gobi 'desert'; --")
    image(conn, first)
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m, problems)"
        " values (%s, 'y', 'POINT(7 46)', 2.5e6, array['no date'])",
        [first],
    )
    conn.execute("insert into geosearch.reject (archive_id, stage, reason) values (%s, 'catalog', 'broken')", [second])
    shown = archives.show_archive(conn, "alps")
    assert (shown.title, shown.licence, shown.properties) == ("The Alps", "CC0", {"sensor": "ISS"})
    assert (shown.images, shown.with_nadir, shown.with_footprint, shown.flagged, shown.rejected) == (2, 1, 0, 1, 0)
    assert [(a.name, a.images, a.rejected) for a in archives.list_archives(conn)] == [
        ("Gobi 'desert'; --", 0, 1),
        ("alps", 2, 0),
    ]
    assert archives.remove_archive(conn, "alps") == 2
    assert conn.execute("select count(*) from geosearch.image").fetchone() == (0,)
    for function in (archives.show_archive, archives.get_archive_id, archives.remove_archive):
        with pytest.raises(UnknownNameError, match="no archive is named 'alps'; there is: Gobi"):
            function(conn, "alps")
    with pytest.raises(InputError, match="has no colour"):
        archives.ensure_archive(conn, "alps", colour="red")
    with pytest.raises(InputError, match="cannot name an archive"):
        archives.ensure_archive(conn, "")


@pytest.mark.parametrize("reach", ["-1", "NaN", "Infinity", None])
def test_a_reach_is_a_number_of_metres(conn, reach):
    archive = archives.ensure_archive(conn, "a")
    with pytest.raises(psycopg.IntegrityError):
        conn.execute(
            "insert into geosearch.image (archive_id, name, reach_m) values (%s, 'x', %s::float8)", [archive, reach]
        )


@pytest.mark.parametrize(
    ("nadir", "footprint"),
    [
        ("st_makepoint('NaN', 'NaN')", "null"),
        ("st_makepoint('Infinity', 3)", "null"),
        ("st_makepoint(3, 'NaN')", "null"),
        ("st_geomfromtext('POINT EMPTY')", "null"),
        ("null", "st_multi(st_makepolygon(st_makeline(array[{a}, st_makepoint('NaN', 1), {b}, {a}])))"),
        ("null", "st_multi(st_makepolygon(st_makeline(array[{a}, st_makepoint(1, '-Infinity'), {b}, {a}])))"),
        ("null", "st_geomfromtext('MULTIPOLYGON EMPTY')"),
    ],
)
def test_a_place_has_coordinates_that_are_numbers(conn, nadir, footprint):
    """PostGIS takes all of these, and measures distance 0 from some of them to everywhere."""
    archive = archives.ensure_archive(conn, "a")
    footprint = footprint.format(a="st_makepoint(0, 0)", b="st_makepoint(1, 0)")
    insert = (
        "insert into geosearch.image (archive_id, name, reach_m, nadir, footprint)"
        f" values (%s, 'x', 0, ({nadir})::geography, ({footprint})::geography)"
    )
    with pytest.raises(psycopg.errors.CheckViolation), conn.transaction():
        conn.execute(insert, [archive])
    # Corners and the borders of the Earth are places.
    conn.execute(insert.replace(nadir, "st_makepoint(-180, 90)").replace(footprint, "null"), [archive])


def test_a_migration_can_change_the_table_of_every_space(conn, database_url):
    from geosearch_migrations.spaces import upgrade_spaces

    for name in ("one", "two", "three"):
        spaces.create_space(conn, name, 3)
    conn.execute("update geosearch.space set layout_version = 7 where name = 'three'")
    conn.commit()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database_url), poolclass=NullPool)
    with engine.begin() as connection:
        changed = upgrade_spaces(
            connection,
            2,
            3,
            lambda space: [f"alter table {space.table} add extra int default {space.dimension}"],
        )
    assert changed == 2
    assert {s.name: s.layout_version for s in spaces.list_spaces(conn)} == {"one": 3, "two": 3, "three": 7}
    rows = conn.execute(
        "select table_name from information_schema.columns where table_schema = 'geosearch' and column_name = 'extra'"
    ).fetchall()
    assert sorted(rows) == [("space_one",), ("space_two",)]
