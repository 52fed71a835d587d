"""Location encoders in SQL: features and vectors against SciPy and NumPy in float64, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import psycopg
import pytest
from location_networks import PLACES, geoclip, harmonics, projected, put, reference, satclip
from psycopg import sql

from geosearch.database.connection import connect

POINT = "st_makepoint(7, 46)::geography"


def encode(conn, name, lat, lon):
    row = conn.execute("select geosearch.encode_place(%s, st_makepoint(%s, %s))", [name, lon, lat]).fetchone()
    return row[0].to_numpy()


@pytest.fixture(scope="module")
def encoders(module_database_url):
    """A database with encoders of the published shapes, and a small one of each kind."""
    networks = {
        "L10": satclip(10),
        "L40": satclip(40),
        "geo": geoclip(),
        "small": satclip(3, width=20, dimension=6, hidden=1),
        "linear": satclip(4, dimension=7, hidden=0),
        "geo small": geoclip(waves=8, width=24, dimension=5),
    }
    with connect(module_database_url, autocommit=True) as conn:
        for name, network in networks.items():
            put(conn, name, network)
        yield conn, networks


@pytest.mark.parametrize("degree", [1, 2, 10, 40])
def test_harmonics_are_those_of_scipy_everywhere(conn, degree):
    for lat, lon in PLACES:
        found = conn.execute("select geosearch.spherical_harmonics(%s, %s, %s)", [lat, lon, degree]).fetchone()[0]
        np.testing.assert_allclose(found, harmonics(lat, lon, degree), rtol=0, atol=1e-12)


def test_harmonics_have_the_signs_of_the_published_code(conn):
    """Its formulae for l = 1 and 2; those for m = 0 are π times as long there, which first layers make up for."""
    lat, lon = 31.0, -77.0
    theta, phi = math.radians(lat + 90), math.radians(lon + 180)
    sine, cosine = (1 - math.cos(theta) ** 2) ** 0.5, math.cos(theta)
    expected = [
        0.886226925452758 / math.pi,
        0.48860251190292 * sine * math.sin(phi),
        1.53499006191973 * cosine / math.pi,
        0.48860251190292 * sine * math.cos(phi),
        0.18209140509868 * (3 - 3 * cosine**2) * math.sin(2 * phi),
        1.09254843059208 * sine * math.sin(phi) * cosine,
        (2.97249547320451 * cosine**2 - 0.990831824401503) / math.pi,
        1.09254843059208 * sine * math.cos(phi) * cosine,
        0.18209140509868 * (3 - 3 * cosine**2) * math.cos(2 * phi),
    ]
    found = conn.execute("select geosearch.spherical_harmonics(%s, %s, 3)", [lat, lon]).fetchone()[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_harmonics_of_a_degree_have_the_same_length_everywhere(conn):
    """Unsöld's theorem: the squares of a degree l add up to (2 l + 1) / 4π at any place."""
    for lat, lon in PLACES:
        found = conn.execute("select geosearch.spherical_harmonics(%s, %s, 40)", [lat, lon]).fetchone()[0]
        for order in range(40):
            total = sum(value**2 for value in found[order**2 : (order + 1) ** 2])
            assert total == pytest.approx((2 * order + 1) / (4 * math.pi), rel=1e-11)


def test_python_and_sql_compute_the_same_features(conn):
    from geosearch.encoders.harmonics import spherical_harmonics
    from geosearch.encoders.projections import equal_earth

    lats, lons = np.array(PLACES).T
    written, plane = spherical_harmonics(lats, lons, 40), equal_earth(lats, lons)
    for i, place in enumerate(PLACES):
        row = conn.execute(
            "select geosearch.spherical_harmonics(lat, lon, 40), geosearch.equal_earth(lat, lon)"
            " from (values (%s::float8, %s::float8)) p (lat, lon)",
            place,
        ).fetchone()
        np.testing.assert_allclose(written[i], row[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(plane[i], row[1], rtol=0, atol=1e-14)


def test_the_projection_is_equal_earth_with_geoclips_scale(conn):
    for lat, lon in PLACES:
        found = conn.execute("select geosearch.equal_earth(%s, %s)", [lat, lon]).fetchone()[0]
        np.testing.assert_allclose(found, projected(lat, lon), rtol=1e-14, atol=1e-40)
    new_york = conn.execute("select geosearch.equal_earth(40.7128, -74.006)").fetchone()[0]
    np.testing.assert_allclose(new_york, [-0.36276159, 0.29079120], atol=5e-9)


@pytest.mark.parametrize("name", ["L10", "L40", "geo", "small", "linear", "geo small"])
def test_vectors_are_those_of_double_precision(encoders, name):
    conn, networks = encoders
    rng = np.random.default_rng(3)
    lats, lons = np.degrees(np.arcsin(rng.uniform(-1, 1, 20))), rng.uniform(-180, 180, 20)
    for lat, lon in [*PLACES, *zip(lats, lons, strict=True)]:
        found = encode(conn, name, float(lat), float(lon))
        expected = reference(networks[name], lat, lon)
        # Relative, both being of length 1.
        assert np.linalg.norm(found - expected) <= 1e-5, (lat, lon)
        assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["L40", "geo small"])
def test_many_places_in_one_statement_are_what_each_is_alone(encoders, name):
    conn, _ = encoders
    lats, lons = (list(values) for values in zip(*PLACES, strict=True))
    together = conn.execute(
        "select geosearch.encode_place(%s, st_makepoint(lon, lat)::geography)"
        " from unnest(%s::float8[], %s::float8[]) with ordinality p (lat, lon, n) order by n",
        [name, lats, lons],
    ).fetchall()
    for (found,), (lat, lon) in zip(together, PLACES, strict=True):
        np.testing.assert_array_equal(found.to_numpy(), encode(conn, name, lat, lon))


def test_harmonics_meet_at_the_date_line_and_at_the_poles(encoders):
    conn, _ = encoders
    for one, other in [((45, 180), (45, -180)), ((90, 0), (90, 77)), ((-90, 180), (-90, -1))]:
        np.testing.assert_array_equal(encode(conn, "L40", *one), encode(conn, "L40", *other))


def test_a_latitude_beyond_the_pole_is_what_postgis_makes_of_it(encoders):
    """It says so in a notice; the function sees the place that PostGIS hands over."""
    conn, _ = encoders
    lon, lat = conn.execute(
        "select st_x(g::geometry), st_y(g::geometry) from (select st_makepoint(0, 100)::geography as g) p"
    ).fetchone()
    assert abs(lat) <= 90
    np.testing.assert_array_equal(encode(conn, "small", 100, 0), encode(conn, "small", lat, lon))


def test_the_plan_of_a_layer_walks_along_the_key(encoders):
    """With rows in any order on disk, and never analysed, the sums still come in the order of the units."""
    conn, _ = encoders
    conn.execute(
        "insert into geosearch.model (name, family, dimension, preprocessing)"
        " select 'shuffled', family, dimension, preprocessing from geosearch.model where name = 'small'"
    )
    conn.execute(
        "insert into geosearch.location_weight select n.id, w.net, w.layer, w.unit, w.bias, w.weights"
        " from geosearch.location_weight w join geosearch.model m on m.id = w.model_id and m.name = 'small',"
        " geosearch.model n where n.name = 'shuffled' order by md5(w.unit::text)"
    )
    np.testing.assert_array_equal(encode(conn, "shuffled", 46, 7), encode(conn, "small", 46, 7))


def test_parallel_workers_encode_places(encoders):
    conn, _ = encoders
    name = conn.execute(
        "select name from pg_settings where name in ('force_parallel_mode', 'debug_parallel_query')"
    ).fetchone()[0]
    with conn.transaction(force_rollback=True):
        conn.execute(sql.SQL("set local {} = on").format(sql.Identifier(name)))
        plan = conn.execute(f"explain (costs off) select geosearch.encode_place('small', {POINT})").fetchall()
        assert "Gather" in plan[0][0]
        in_worker = encode(conn, "small", 46, 7)
    np.testing.assert_array_equal(in_worker, encode(conn, "small", 46, 7))


def test_settings_are_as_before(encoders):
    conn, _ = encoders
    before = conn.execute("select name, setting from pg_settings order by name").fetchall()
    conn.execute(f"select geosearch.encode_place('small', {POINT})")
    assert conn.execute("select name, setting from pg_settings order by name").fetchall() == before


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ("'small', null", "the place is null", "st_makepoint(lon, lat)"),
        ("'small', 'POINT EMPTY'", "the place is empty", "Give a point"),
        ("'small', 'LINESTRING(0 0, 1 1)'", "the place is a LINESTRING", "Give a point"),
        ("'small', 'POLYGON((0 0, 1 0, 1 1, 0 0))'", "the place is a POLYGON", "Give a point"),
        ("'small', st_makepoint('NaN', 0)", "not a number", "Give a point"),
        ("'small', st_makepoint(0, 'NaN')", "not a number", "Give a point"),
        ("'small', st_makepoint('Infinity', 0)", "not a number", "Give a point"),
        ("'small', 'SRID=4269;POINT(0 0)'", "the place has SRID 4269", "WGS 84"),
        (f"'nothing', {POINT}", "no location encoder is named 'nothing'", "geosearch model install-sql NAME"),
        (f"null, {POINT}", "no location encoder is named NULL", "L10, L40, geo"),
    ],
)
def test_what_cannot_be_encoded_is_refused(encoders, arguments, message, hint):
    conn, _ = encoders
    with pytest.raises(psycopg.Error) as caught:
        conn.execute(f"select geosearch.encode_place({arguments})")
    assert message in caught.value.diag.message_primary
    assert hint in caught.value.diag.message_hint


def test_no_encoder_is_installed_yet(conn):
    with pytest.raises(psycopg.errors.UndefinedObject) as caught:
        conn.execute(f"select geosearch.encode_place('mini-location', {POINT})")
    assert caught.value.diag.message_hint == (
        "Location encoders here: none yet. `geosearch model install-sql NAME` brings another one in."
    )


def test_a_model_that_is_no_location_encoder_is_refused(conn):
    conn.execute("insert into geosearch.model (name, family, dimension) values ('eye', 'open_clip', 3)")
    with pytest.raises(psycopg.errors.UndefinedObject, match="model 'eye' is no location encoder") as caught:
        conn.execute(f"select geosearch.encode_place('eye', {POINT})")
    assert "geosearch model install-sql" in caught.value.diag.message_hint


@pytest.mark.parametrize(
    "missing",
    ["true", "net = 1", "layer = 4", "layer = 0", "layer = 2", "layer = 1 and unit = 3", "net = 2 and layer = 4"],
)
def test_weights_that_are_missing_are_noticed(conn, missing):
    put(conn, "geo", geoclip(waves=4, width=6, dimension=5))
    conn.execute(sql.SQL("delete from geosearch.location_weight where {}").format(sql.SQL(missing)))
    with pytest.raises(psycopg.errors.NoDataFound, match="weights of geo are not in this database") as caught:
        conn.execute(f"select geosearch.encode_place('geo', {POINT})")
    assert "geosearch model install-sql geo" in caught.value.diag.message_hint


def test_a_vector_of_length_0_has_no_direction(conn):
    network = satclip(1, dimension=3, hidden=0)
    put(conn, "zero", network)
    conn.execute("update geosearch.location_weight set bias = 0, weights = '[0]'")
    with pytest.raises(psycopg.errors.DataException, match="zero has no direction for latitude 46, longitude 7"):
        conn.execute(f"select geosearch.encode_place('zero', {POINT})")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("91, 0, 3", "latitude 91, longitude 0 is no place"),
        ("-90.0001, 0, 3", "is no place"),
        ("0, 180.5, 3", "is no place"),
        ("'NaN', 0, 3", "latitude NaN"),
        ("0, 'NaN', 3", "longitude NaN"),
        ("0, '-Infinity', 3", "longitude -Infinity"),
        ("0, 0, 0", "harmonics of degree 0 are not computed"),
        ("0, 0, 41", "harmonics of degree 41 are not computed"),
    ],
)
def test_features_of_no_place_are_refused(conn, arguments, message):
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=message) as caught:
        conn.execute(f"select geosearch.spherical_harmonics({arguments})")
    assert caught.value.diag.message_hint
    if "degree" not in message:
        conn.rollback()
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=message):
            conn.execute(f"select geosearch.equal_earth({arguments.rpartition(',')[0]})")
