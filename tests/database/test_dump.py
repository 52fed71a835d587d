"""pg_dump and pg_restore give an equal database that works."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from geosearch.database.connection import connect
from geosearch.database.migrate import migrate
from geosearch.database.moments import compute_moments


def program(name: str, server: int) -> str:
    """pg_dump and its kin of the server's own version: an older pg_dump refuses a newer server."""
    versioned = Path(f"/usr/lib/postgresql/{server // 10000}/bin/{name}")
    found = str(versioned) if versioned.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not re.search("error|warning", done.stderr, re.IGNORECASE), done.stderr


SEARCHES = [
    "select rank, image_id, name, similarity, distance_m, st_asewkt(geom)"
    " from geosearch.search('toy', '[3,2,1]', 'POINT(7 46)', 3e6)",
    # Not the estimate: a dump has no statistics.
    "select strategy, candidates, requested, returned, exhausted"
    " from geosearch.search_plan('toy', '[3,2,1]', 'POINT(7 46)', 3e6)",
    "select * from geosearch.image_map order by id",
    "select a.name, i.name, i.nadir, i.footprint, i.problems, i.properties, i.content_sha256, i.added_at"
    " from geosearch.image i join geosearch.archive a on a.id = i.archive_id order by i.id",
    "select image_id, embedding::text, embedded_at from geosearch.space_toy order by image_id",
    "select geosearch.encode_place('tiny', 'POINT(7.4 46.9)')::text, geosearch.check_location_model('tiny'),"
    " geosearch.change_count('image')",
    "select id, archive, name, geom, embedding::text from geosearch.range_earth order by id limit 5",
    "select geosearch.range_embedding('earth', 'POINT(7 46)', mode => 'topk', k => 9)::text",
    "select rank, image_id, similarity from geosearch.range_similar('earth', 'POINT(7 46)')",
    "select * from geosearch.range_state('earth')",
    "select * from geosearch.range_earth_stored order by image_id",
    # Moments are as current as they were: the count of changes comes with the dump, the triggers after the rows.
    "select * from geosearch.moments_state('toy') where current",
    "select rank, image_id, similarity from geosearch.compose('toy', '[3,2,1]', '[1,2,3]', 0.4, late => 'refuse')",
]
TINY = """
select geosearch.install_location_model('tiny', 'satclip', 2,
    '{"features": "spherical harmonics", "degree": 2, "activation": "sine", "first_w0": 30, "w0": 1}', repeat('0', 64));
insert into geosearch.location_weight (model_id, net, layer, unit, bias, weights)
select m.id, 0, 0, unit, 0.5, weights::vector
from geosearch.model m, (values (0, '[1,0,2,0]'), (1, '[0,1,0,-1]')) w (unit, weights);
"""


@pytest.fixture
def filled(database_url):
    with connect(database_url) as conn:
        conn.execute("insert into geosearch.archive (name) values ('a')")
        conn.execute(
            "insert into geosearch.image (archive_id, name, nadir, reach_m, content_sha256, problems)"
            " select a.id, 'i' || n, st_makepoint(n % 360 - 180, n % 180 - 90), 2.5e6 * (n % 2), sha256('x'),"
            " array['odd', 'date'] from geosearch.archive a, generate_series(1, 300) n"
        )
        conn.execute("select geosearch.create_space('toy', 3)")
        conn.execute(
            "insert into geosearch.space_toy (image_id, embedding)"
            " select id, array[sin(id), cos(id), id % 7]::real[]::halfvec from geosearch.image"
        )
        conn.execute(TINY)
        # A bank of RANGE, whose view and functions a dump must bring in an order that works.
        conn.execute("select geosearch.create_space('flat', 2)")
        conn.execute(
            "insert into geosearch.space_flat (image_id, embedding)"
            " select image_id, subvector(embedding, 1, 2) from geosearch.space_toy"
        )
        conn.execute("select geosearch.build_bank('earth', 'flat', 'tiny', 'toy')")
        conn.execute(
            "insert into geosearch.range_earth_stored select id, embedding, geom from geosearch.range_earth limit 9"
        )
    compute_moments(database_url, "toy")
    return database_url


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_a_restored_dump_is_equal_and_works(server, filled, fingerprint, tmp_path, form):
    name = f"gsrestored_{uuid.uuid4().hex[:12]}"
    superuser_source = make_conninfo(filled, **_login(server))
    target = make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as admin:
        version = admin.info.server_version
        admin.execute(sql.SQL("create database {} owner geosearch template template0").format(sql.Identifier(name)))
    try:
        dump = str(tmp_path / "dump")
        run(program("pg_dump", version), "--format", form, "--file", dump, "--dbname", superuser_source)
        if form == "custom":
            run(program("pg_restore", version), "--exit-on-error", "--dbname", target, dump)
        else:
            psql = [
                program("psql", version),
                "--quiet",
                "--no-psqlrc",
                "--set",
                "ON_ERROR_STOP=1",
                "--output",
                "/dev/null",
            ]
            run(*psql, "--dbname", target, "--file", dump)
        restored = make_conninfo(filled, dbname=name)
        assert fingerprint(restored) == fingerprint(filled)
        assert migrate(restored) == []
        with connect(filled) as one, connect(restored) as other:
            for statement in SEARCHES:
                rows = one.execute(statement).fetchall()
                assert rows
                assert rows == other.execute(statement).fetchall()
            # It can be written to and extended as well: keys go on where they were.
            last = other.execute("select max(id) from geosearch.image").fetchone()[0]
            made = other.execute(
                "insert into geosearch.image (archive_id, name, reach_m) select id, 'new', 0 from geosearch.archive"
                " returning id"
            ).fetchone()[0]
            assert made > last
            assert other.execute("select current from geosearch.moments_state('toy')").fetchone()[0]
            other.execute("delete from geosearch.space_toy where image_id = %s", [last])
            assert not other.execute("select current from geosearch.moments_state('toy')").fetchone()[0]
            other.execute("select geosearch.create_space('another', 5)")
            other.execute("select geosearch.drop_space('toy')")
            other.execute("select geosearch.drop_bank('earth')")
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_the_owner_restores_a_dump_without_a_superuser(server, filled, tmp_path):
    """As the guide says, `--schema geosearch`, into a database whose extensions are there; searches are among it."""
    name = f"gsrestored_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as admin:
        version = admin.info.server_version
        admin.execute(sql.SQL("create database {} owner geosearch template template0").format(sql.Identifier(name)))
    try:
        with psycopg.connect(make_conninfo(server, dbname=name), autocommit=True) as admin:
            admin.execute("create extension postgis")
            admin.execute("create extension vector")
        dump = str(tmp_path / "dump")
        run(program("pg_dump", version), "--format", "custom", "--schema", "geosearch", "--file", dump, "--dbname",
            filled)  # fmt: skip
        restored = make_conninfo(filled, dbname=name)
        run(program("pg_restore", version), "--exit-on-error", "--dbname", restored, dump)
        with connect(filled) as one, connect(restored) as other:
            for statement in SEARCHES:
                assert one.execute(statement).fetchall() == other.execute(statement).fetchall()
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_grants_that_a_dump_left_out_come_back_with_a_migration(server, filled, fingerprint, tmp_path):
    """pg_restore --no-acl, or a server without the groups: the schema counts as older until it is migrated."""
    name = f"gsrestored_{uuid.uuid4().hex[:12]}"
    target = make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as admin:
        version = admin.info.server_version
        admin.execute(sql.SQL("create database {} owner geosearch template template0").format(sql.Identifier(name)))
    try:
        dump = str(tmp_path / "dump")
        run(program("pg_dump", version), "--format", "custom", "--file", dump, "--dbname",
            make_conninfo(filled, **_login(server)))  # fmt: skip
        run(program("pg_restore", version), "--exit-on-error", "--no-acl", "--dbname", target, dump)
        restored = make_conninfo(filled, dbname=name)
        assert fingerprint(restored) != fingerprint(filled)
        assert len(migrate(restored)) > 3
        assert fingerprint(restored) == fingerprint(filled)
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _login(server: str) -> dict[str, str]:
    from psycopg.conninfo import conninfo_to_dict

    known = conninfo_to_dict(server)
    return {key: str(known[key]) for key in ("user", "password") if key in known}
