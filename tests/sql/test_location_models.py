"""How a location encoder comes into the database: what is replaced, what is refused, and weights that are not whole."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from location_networks import SHA256, geoclip, name_model, numbers, put, satclip
from psycopg import sql

OTHER = "1" * 64
TINY = satclip(2, width=6, dimension=3, hidden=1)
WAVES = geoclip(waves=4, width=6, dimension=5)


def weights_of(conn, model_id):
    return conn.execute("select count(*) from geosearch.location_weight where model_id = %s", [model_id]).fetchone()[0]


def make_bank(conn, encoder):
    conn.execute(
        "insert into geosearch.bank (name, encoder, key_dimension, value_dimension) values ('alps', %s, 3, 3)",
        [encoder],
    )


@pytest.mark.parametrize("network", [TINY, WAVES, satclip(4, dimension=9, hidden=0)])
def test_a_whole_encoder_passes_and_its_numbers_are_counted(conn, network):
    put(conn, "x", network)
    assert conn.execute("select geosearch.check_location_model('x')").fetchone() == (numbers(network),)
    row = conn.execute("select family, dimension, weights_sha256, preprocessing from geosearch.model").fetchone()
    assert row == (network.family, network.dimension, SHA256, {"network": network.definition})


def test_the_same_one_again_replaces_its_weights(conn):
    first = put(conn, "x", TINY)
    conn.execute("update geosearch.model set revision = 'v1', preprocessing = preprocessing || '{\"more\": 1}'")
    make_bank(conn, "x")
    assert name_model(conn, "x", TINY) == first
    assert weights_of(conn, first) == 0
    assert put(conn, "x", TINY) == first
    assert weights_of(conn, first) == 9
    # What else was recorded of this very model stays.
    more = conn.execute("select revision, preprocessing -> 'more' from geosearch.model").fetchone()
    assert more == ("v1", 1)


def test_another_one_takes_the_name_where_no_bank_is_asked_with_it(conn):
    first = put(conn, "x", TINY)
    assert put(conn, "x", WAVES, OTHER) == first
    assert conn.execute("select geosearch.check_location_model('x')").fetchone() == (numbers(WAVES),)
    assert conn.execute("select family, weights_sha256 from geosearch.model").fetchone() == ("geoclip", OTHER)


def test_whatever_else_is_known_of_the_model_is_kept(conn):
    put(conn, "x", TINY)
    known = replace(TINY, definition={"network": TINY.definition, "aligned_with": {"model": "mini-clip"}})
    put(conn, "x", known)
    assert conn.execute("select preprocessing from geosearch.model").fetchone() == (known.definition,)
    put(conn, "x", TINY)  # the same network, of which less is said
    assert conn.execute("select preprocessing from geosearch.model").fetchone() == (known.definition,)
    assert conn.execute("select geosearch.check_location_model('x')").fetchone() == (numbers(TINY),)


@pytest.mark.parametrize(
    ("network", "sha256"),
    [(TINY, OTHER), (WAVES, SHA256), (replace(TINY, definition={**TINY.definition, "w0": 2.0}), SHA256)],
)
def test_another_one_is_refused_under_a_name_that_banks_use(conn, network, sha256):
    model_id = put(conn, "x", TINY)
    make_bank(conn, "x")
    with pytest.raises(psycopg.errors.ObjectInUse, match="banks are asked with it: alps") as caught, conn.transaction():
        name_model(conn, "x", network, sha256)
    assert "geosearch.drop_bank" in caught.value.diag.message_hint
    assert weights_of(conn, model_id) == 9


def test_an_unfinished_one_is_replaced_also_where_a_bank_waits_for_it(conn):
    name_model(conn, "x", TINY)
    make_bank(conn, "x")
    put(conn, "x", TINY, OTHER)
    assert conn.execute("select geosearch.check_location_model('x')").fetchone() == (numbers(TINY),)


def test_the_name_of_another_kind_of_model_is_refused(conn):
    conn.execute("insert into geosearch.model (name, family, dimension) values ('eye', 'open_clip', 3)")
    with pytest.raises(psycopg.errors.DuplicateObject, match="eye is the name of another model, of family open_clip"):
        name_model(conn, "eye", TINY)


SINES = '{"features": "spherical harmonics", "degree": 3, "activation": "sine", "first_w0": 30, "w0": 1}'


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["", "satclip", 3, SINES, SHA256], "needs a name", "model list"),
        ([None, "satclip", 3, SINES, SHA256], "needs a name", "model list"),
        (["x", "clip", 3, SINES, SHA256], "no family of location encoders is named 'clip'", "geoclip, satclip"),
        (["x", None, 3, SINES, SHA256], "no family", "geoclip, satclip"),
        (["x", "satclip", 0, SINES, SHA256], "cannot have 0 dimensions", "between 1 and 2000"),
        (["x", "satclip", None, SINES, SHA256], "cannot have null dimensions", "between 1 and 2000"),
        (["x", "satclip", 3, SINES, "abc"], "'abc' is no SHA-256", "64 digits"),
        (["x", "satclip", 3, SINES, None], "NULL is no SHA-256", "64 digits"),
        (["x", "satclip", 3, None, SHA256], "not one of SatCLIP's kind", "first_w0 and w0"),
        (["x", "satclip", 3, "{}", SHA256], "not one of SatCLIP's kind", "first_w0 and w0"),
        (["x", "satclip", 3, '["network"]', SHA256], "not one of SatCLIP's kind", "first_w0 and w0"),
        (["x", "satclip", 3, '{"network": null}', SHA256], "not one of SatCLIP's kind", "first_w0 and w0"),
        (["x", "satclip", 3, "3", SHA256], "not one of SatCLIP's kind", "first_w0 and w0"),
        (["x", "satclip", 3, SINES.replace("3,", "41,"), SHA256], "not one of SatCLIP's kind", "from 1 to 40"),
        (["x", "satclip", 3, SINES.replace("3,", "2.5,"), SHA256], "not one of SatCLIP's kind", "from 1 to 40"),
        (["x", "satclip", 3, SINES.replace("3,", '"3",'), SHA256], "not one of SatCLIP's kind", "from 1 to 40"),
        (["x", "satclip", 3, SINES.replace("30", "1e99"), SHA256], "not one of SatCLIP's kind", "first_w0"),
        (["x", "satclip", 3, SINES.replace("sine", "relu"), SHA256], "not one of SatCLIP's kind", "first_w0"),
        (["x", "geoclip", 3, SINES, SHA256], "not one of GeoCLIP's kind", "equal earth"),
    ],
)
def test_what_is_no_encoder_is_refused(conn, arguments, message, hint):
    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        conn.execute("select geosearch.install_location_model(%s, %s, %s, %s::jsonb, %s)", arguments)
    assert message in caught.value.diag.message_primary
    assert hint in caught.value.diag.message_hint


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("delete from geosearch.location_weight where net = 1", "net 1, layer 0 of x is missing"),
        ("delete from geosearch.location_weight where net = 0", "net 0, layer 0 of x is missing"),
        ("delete from geosearch.location_weight where layer = 2", "net 0, layer 2 of x is missing"),
        ("delete from geosearch.location_weight where net = 2 and layer = 4", "net 2 of x ends with 6 numbers, not 5"),
        ("delete from geosearch.location_weight where net = 1 and layer = 4", "net 1 of x ends with 6 numbers, not 5"),
        ("delete from geosearch.location_weight where net = 2 and layer > 0", "net 2 of x ends with 8 numbers, not 5"),
        (
            "delete from geosearch.location_weight where net = 1 and layer = 2 and unit in (3, 4)",
            "net 1, layer 2, unit 3 of x is missing",
        ),
        (
            "delete from geosearch.location_weight where net = 1 and layer = 2 and unit = 0",
            "net 1, layer 2, unit 0 of x is missing",
        ),
        (
            "delete from geosearch.location_weight where net = 2 and layer = 4 and unit = 4",
            "net 2 of x ends with 4 numbers, not 5",
        ),
        (
            "update geosearch.location_weight set weights = '[1,2,3]' where net = 1 and layer = 1 and unit = 2",
            "net 1, layer 1, unit 2 of x has 3 weights, not 8",
        ),
        (
            "update geosearch.location_weight set weights = '[1]' where net = 0 and layer = 0",
            "net 0, layer 0, unit 0 of x has 1 weights, not 2",
        ),
        (
            "update geosearch.location_weight set bias = 'NaN' where net = 0 and layer = 3 and unit = 5",
            "net 0, layer 3, unit 5 of x has the bias NaN",
        ),
        (
            "update geosearch.location_weight set bias = '-Infinity' where net = 0 and layer = 3 and unit = 5",
            "net 0, layer 3, unit 5 of x has the bias -Infinity",
        ),
        (
            "update geosearch.location_weight set bias = 1 where net = 0 and layer = 0 and unit = 1",
            "net 0, layer 0, unit 1 of x has the bias 1",
        ),
        ("update geosearch.model set dimension = 4", "net 0 of x ends with 5 numbers, not 4"),
        ("delete from geosearch.location_weight", "the weights of x are not in this database"),
    ],
)
def test_weights_that_are_not_whole_are_refused_by_name(conn, spoil, message):
    put(conn, "x", WAVES)
    conn.execute(sql.SQL(spoil))
    with pytest.raises((psycopg.errors.DataException, psycopg.errors.NoDataFound)) as caught:
        conn.execute("select geosearch.check_location_model('x')")
    assert caught.value.diag.message_primary == message
    assert "geosearch model install-sql x" in caught.value.diag.message_hint


def test_inputs_of_the_first_layer_are_the_harmonics_of_its_degree(conn):
    put(conn, "x", replace(TINY, definition={**TINY.definition, "degree": 3}))
    with pytest.raises(psycopg.errors.DataException, match="net 0, layer 0, unit 0 of x has 4 weights, not 9"):
        conn.execute("select geosearch.check_location_model('x')")


@pytest.mark.parametrize("name", ["nothing", "eye", None])
def test_only_location_encoders_are_checked(conn, name):
    conn.execute("insert into geosearch.model (name, family, dimension) values ('eye', 'open_clip', 3)")
    with pytest.raises(psycopg.errors.UndefinedObject, match="no location encoder is named") as caught:
        conn.execute("select geosearch.check_location_model(%s::text)", [name])
    assert "geosearch model install-sql" in caught.value.diag.message_hint


def test_weights_go_with_their_model(conn):
    model_id = put(conn, "x", TINY)
    conn.execute("delete from geosearch.model")
    assert weights_of(conn, model_id) == 0
