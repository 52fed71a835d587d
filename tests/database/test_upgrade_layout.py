"""Spaces of the first layout, with data, brought to this release: nothing lost, nothing else than made anew."""

from __future__ import annotations

import json

import numpy as np
import psycopg
import pytest

from geosearch.database.connection import connect
from geosearch.database.migrate import migrate
from geosearch.database.spaces import create_space

SPACES = {"look": 5, "long_one": 4000}

# As release 1 made them.
TABLE = """
create table geosearch.space_{name} (
    image_id bigint not null, content_sha256 bytea, embedding halfvec({dimension}) not null,
    embedded_at timestamptz not null default now(),
    constraint space_{name}_pkey primary key (image_id),
    constraint space_{name}_image_id_fkey foreign key (image_id) references geosearch.image (id) on delete cascade,
    constraint space_{name}_embedding_check check (l2_norm(embedding) > 0)
);
alter table geosearch.space_{name} alter column embedding set storage {storage};
comment on table geosearch.space_{name} is 'The vectors.';
comment on column geosearch.space_{name}.image_id is 'The image.';
insert into geosearch.space (name, dimension, layout_version) values ('{name}', {dimension}, 1);
"""
IMAGES = """
insert into geosearch.archive (name) values ('a'), ('b');
insert into geosearch.image (archive_id, name, nadir, footprint, reach_m, captured_at)
select 1 + g % 2, g::text, st_makepoint(g * 37 % 360 - 180, g * 17 % 170 - 85),
    case when g % 3 = 0 then st_multi(st_makeenvelope(g * 37 % 350 - 180, g * 17 % 170 - 85,
        g * 37 % 350 - 180 + g % 10 + 0.1, g * 17 % 170 - 84, 4326))::geography end,
    case when g % 5 = 1 then 2.5e6 else 0 end,
    case when g % 4 > 0 then timestamptz '2015-01-01Z' + g * interval '1 day' end
from generate_series(1, 300) g;
insert into geosearch.image (archive_id, name, reach_m) values (1, 'nowhere', 0);
"""
BRUTE = """
select s.image_id, 1 - (s.embedding <=> %(query)s::text::halfvec) from geosearch.space_{name} s
join geosearch.image i on i.id = s.image_id
where %(near)s::text is null
    or st_distance(coalesce(i.footprint, i.nadir), st_geogfromtext(%(near)s)) <= %(radius)s + i.reach_m
order by s.embedding <=> %(query)s::text::halfvec, s.image_id
"""
CIRCLES = [(None, 0.0), ("POINT(0 0)", 4e6), ("POINT(180 80)", 3e6), ("POINT(30 -90)", 2e6), ("POINT(-100 40)", 2e7)]


@pytest.fixture
def old(empty_database_url):
    """The URL of a database at revision 0001 with two filled spaces."""
    migrate(empty_database_url, "0001")
    with psycopg.connect(empty_database_url) as conn:
        conn.execute("set search_path = geosearch, public")
        conn.execute(IMAGES)
        rng = np.random.default_rng(50)
        for name, dimension in SPACES.items():
            storage = "plain" if dimension <= 3900 else "external"
            conn.execute(TABLE.format(name=name, dimension=dimension, storage=storage))
            ids = [row[0] for row in conn.execute("select id from geosearch.image order by id").fetchall()]
            with conn.cursor() as cursor:
                cursor.executemany(
                    f"insert into geosearch.space_{name} (image_id, content_sha256, embedding)"
                    " values (%s, sha256(%s::text::bytea), %s::text::halfvec)",
                    [(i, str(i), str(rng.standard_normal(dimension).round(3).tolist())) for i in ids],
                )
    return empty_database_url


def brute(conn, name, query, near, radius):
    return conn.execute(BRUTE.format(name=name), {"query": query, "near": near, "radius": radius}).fetchall()


def kept(conn, name):
    return conn.execute(
        f"select image_id, content_sha256, embedding::text, embedded_at from geosearch.space_{name} order by image_id"
    ).fetchall()


def test_vectors_and_answers_are_the_same_after_an_upgrade(old):
    rng = np.random.default_rng(51)
    queries = {name: str(rng.standard_normal(d).round(3).tolist()) for name, d in SPACES.items()}
    with psycopg.connect(old) as conn:
        before = {name: kept(conn, name) for name in SPACES}
        answers = {(name, *c): brute(conn, name, queries[name], *c) for name in SPACES for c in CIRCLES}
    done = migrate(old)
    assert done[0].startswith("upgraded the tables from revision 0001")
    assert migrate(old) == []
    with connect(old) as conn:
        for name, dimension in SPACES.items():
            assert kept(conn, name) == before[name]
            row = conn.execute(
                "select count(*), count(distinct version), min(version) > 0, count(distinct cell) > 50,"
                f" count(*) filter (where cell = 7 * 32768) from geosearch.space_{name}"
            ).fetchone()
            assert row == (301, 301, True, True, 1)
            for near, radius in CIRCLES:
                expected = answers[name, near, radius]
                assert brute(conn, name, queries[name], near, radius) == expected
                # The length of the query is not kept in half precision: similarities to its rounding.
                for strategy in ("exact", "auto"):
                    found = conn.execute(
                        "select image_id, similarity from geosearch.search(%s, %s, st_geogfromtext(%s), %s, 1000,"
                        " strategy => %s)",
                        [name, queries[name], near, radius, strategy],
                    ).fetchall()
                    assert {row[0] for row in found} == {row[0] for row in expected}, (near, radius)
                    np.testing.assert_allclose([r[1] for r in found], [r[1] for r in expected], atol=2e-6)
                candidates = conn.execute(
                    "select count(*) from geosearch.candidates(%s, st_geogfromtext(%s), %s)", [name, near, radius]
                )
                assert candidates.fetchone() == (len(expected),)
            if dimension > 3900:
                wrong = (
                    f"select count(*) from geosearch.space_{name} where code <> geosearch.sign_code(embedding, null)"
                )
                assert conn.execute(wrong).fetchone() == (0,)
        counted = conn.execute(
            "select s.name, s.counted, s.layout_version, sum(c.images)::int from geosearch.space s"
            " join geosearch.cell_count c on c.space_id = s.id group by 1, 2, 3"
        ).fetchall()
        assert sorted(counted) == [("long_one", 301, 2, 301), ("look", 301, 2, 301)]


def test_an_upgraded_space_is_what_create_space_makes(old, database_url, fingerprint):
    """Columns in the same order with the same comments, rights, keys, triggers."""
    migrate(old)
    with connect(database_url) as conn:
        for name, dimension in SPACES.items():
            create_space(conn, name, dimension)
    upgraded, made = fingerprint(old), fingerprint(database_url)
    for what in made:
        missing = [row for row in made[what] if row not in upgraded[what]]
        extra = [row for row in upgraded[what] if row not in made[what]]
        assert (missing, extra) == ([], []), what + ": " + json.dumps([missing, extra], default=str, indent=1)


def test_an_upgraded_space_keeps_up_with_its_images(old):
    migrate(old)
    with connect(old) as conn:
        conn.execute("update geosearch.image set footprint = null, nadir = 'POINT(77 7)', reach_m = 0 where id <= 3")
        for name, dimension in SPACES.items():
            rows = conn.execute(
                "select image_id from geosearch.search(%s, %s, 'POINT(77 7)', 10)", [name, str([1.0] * dimension)]
            ).fetchall()
            assert {row[0] for row in rows} >= {1, 2, 3}
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m) values (1, 'new', 'POINT(77 7)', 0)"
        )
        conn.execute(
            "insert into geosearch.space_look (image_id, embedding)"
            " select id, '[1,1,1,1,1]' from geosearch.image where name = 'new'"
        )
        assert conn.execute(
            "select name from geosearch.search('look', '[1,1,1,1,1]', 'POINT(77 7)', 0)"
        ).fetchone() == ("new",)
        conn.execute("delete from geosearch.image where name = 'new'")
        assert conn.execute("select count(*) from geosearch.space_look").fetchone() == (301,)
