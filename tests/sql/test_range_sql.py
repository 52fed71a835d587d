"""RANGE in SQL against NumPy in double precision; what it reads, its view, its searches and its account of changes."""

from __future__ import annotations

import re

import numpy as np
import psycopg
import pytest
from range_truth import Arrays, ask, encode, error, fill, install_encoder, make_bank, random_arrays, truth, units

KEYS, VALUES = 8, 5
SIZES = {"one": 1, "two": 2, "small": 300, "full": 4000, "blocks": 4321}
PLACES = [(10.0, 45.0), (-33.9, 151.2), (90.0, 0.0), (-90.0, 77.0), (12.5, 180.0), (12.5, -180.0), (0.0, 0.0)]
OPTIONS = [
    {},
    {"beta": 1.0},
    {"beta": 0.0},
    {"beta": 0.3, "tau_sem": 40.0, "tau_geo": 5.0},
    {"beta": 0.9999999, "tau_geo": 0.001},
    {"beta": 1e-9},
    {"tau_sem": 299.0, "tau_geo": 299.0},
    {"tau_sem": 301.0, "tau_geo": 2000.0},
    {"beta": 0.0, "tau_geo": 1e6},
    {"min_cos": 0.2},
    {"beta": 0.0, "min_cos": -0.3},
    {"beta": 1.0, "min_cos": 1.0},
    {"mode": "topk"},
    {"mode": "topk", "k": 7, "min_cos": 0.2},
    {"mode": "topk", "k": 1},
    {"mode": "topk", "k": 2**31 - 1},
    {"mode": "topk", "beta": 1.0, "tau_sem": 400.0},
    {"mode": "top1"},
    {"mode": "top1", "beta": 0.0},
    {"mode": "mean"},
    {"mode": "mean", "beta": 0.0, "k": 3},
]


def arrays_of(size: int) -> Arrays:
    """A bank of its own for each size; some of its places are where the asked ones are, poles among them."""
    arrays = random_arrays(size, KEYS, VALUES, seed=size)
    for row, (lat, lon) in zip(range(2, size), PLACES, strict=False):
        arrays.lat[row], arrays.lon[row] = lat, lon
    return arrays


@pytest.fixture(scope="module")
def banks(module_database_url):
    """A connection to a database with an encoder and the banks of SIZES."""
    from geosearch.database.connection import connect

    with connect(module_database_url, autocommit=True) as conn:
        install_encoder(conn, "toy", KEYS)
        for name, size in SIZES.items():
            make_bank(conn, name, arrays_of(size))
        yield conn


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bank", SIZES)
def test_embeddings_masses_and_counts_are_those_of_numpy(banks, bank, options):
    arrays = arrays_of(SIZES[bank])
    for lat, lon in PLACES:
        query = encode(banks, "toy", lat, lon)
        cosines = units(arrays.lat, arrays.lon) @ units(lat, lon)[0]
        if options.get("beta") != 1.0 and "min_cos" in options and cosines.max() < options["min_cos"]:
            with pytest.raises(psycopg.errors.NoDataFound, match=f"no place of bank {bank} lies within"):
                ask(banks, bank, lat, lon, **options)
            continue
        embedding, found = ask(banks, bank, lat, lon, **options)
        right = truth(arrays, query, lat, lon, **options)
        assert embedding.shape == (VALUES + KEYS,)
        # Cosines of keys are single precision; tau makes of that rounding what it makes of them.
        tau = options.get("tau_sem", 15.0)
        assert error(embedding[:VALUES], right.expected) <= max(1e-5, 1e-7 * tau)
        np.testing.assert_array_equal(embedding[VALUES:], query)
        assert found.mass_sem == pytest.approx(right.mass_sem, abs=1e-7 * (2 + tau))
        assert found.mass_geo == pytest.approx(right.mass_geo, abs=1e-9)
        assert found.places == right.places


def test_the_defaults_are_range_plus_and_those_of_range(banks):
    point = "st_makepoint(10, 45)::geography"
    for short, long in (
        ("", ", beta => 0.5, tau_sem => 12, tau_geo => 40, min_cos => null, mode => 'soft', k => 100"),
        (", 1", ", beta => 1, tau_sem => 15"),
        (", 0", ", beta => 0, tau_sem => 1, tau_geo => 40"),
        (", mode => 'topk'", ", 0.5, 12, 40, null, 'topk', 100"),
    ):
        row = banks.execute(
            f"select geosearch.range_embedding('blocks', {point}{short}) = e, e = a.embedding, a.places"
            f" from geosearch.range_embedding('blocks', {point}{long}) e,"
            f" geosearch.range_account('blocks', {point}{long}) a"
        ).fetchone()
        assert row[:2] == (True, True)


def test_a_constant_value_is_expected_everywhere(banks):
    """Weights are a share of 1 in every mode, also where tau makes all but one vanish, or all alike."""
    arrays = random_arrays(2500, KEYS, 1, seed=3)
    arrays.values[:] = 0.7
    with banks.transaction(force_rollback=True):
        make_bank(banks, "constant", arrays)
        for beta in (0.0, 1e-300, 0.25, 1.0):
            for tau in (1e-9, 12.0, 900.0, 1e6):
                for mode in ("soft", "topk", "top1", "mean"):
                    embedding, _ = ask(
                        banks, "constant", 31.0, -7.0, beta=beta, tau_sem=tau, tau_geo=tau, mode=mode, k=9
                    )
                    assert embedding[0] == pytest.approx(0.7, rel=2e-6)


def test_keys_that_are_a_little_longer_than_1_overflow_nothing(banks):
    """As finish_bank lets them: their cosines are above 1, and a large tau makes much of it."""
    arrays = random_arrays(300, KEYS, VALUES, seed=8)
    query = encode(banks, "toy", 10.0, 45.0)
    arrays.keys[7] = query * 1.0009
    with banks.transaction(force_rollback=True):
        make_bank(banks, "longer", arrays)
        for tau in (299.0, 301.0, 1e6):
            embedding, _ = ask(banks, "longer", 10.0, 45.0, beta=1.0, tau_sem=tau)
            right = truth(arrays, query, 10.0, 45.0, beta=1.0, tau_sem=tau)
            assert error(embedding[:VALUES], right.expected) <= 1e-7 * tau


def test_keys_of_any_length_are_asked_where_the_bank_says_so(banks):
    arrays = random_arrays(2100, KEYS, VALUES, seed=9)
    np.multiply(arrays.keys, np.geomspace(0.01, 30, 2100)[:, None], out=arrays.keys, casting="same_kind")
    with banks.transaction(force_rollback=True):
        banks.execute("select geosearch.create_bank('long', 'toy', %s, %s)", [KEYS, VALUES])
        banks.execute("update geosearch.bank set keys_normalised = false where name = 'long'")
        fill(banks, "long", arrays)
        banks.execute("select geosearch.finish_bank('long')")
        for options in ({"beta": 1.0}, {"mode": "topk", "k": 5}):
            embedding, _ = ask(banks, "long", 10.0, 45.0, **options)
            right = truth(arrays, encode(banks, "toy", 10.0, 45.0), 10.0, 45.0, **options)
            assert error(embedding[:VALUES], right.expected) <= 1e-4


def test_tau_goes_from_the_mean_of_all_to_the_nearest_one(banks):
    arrays = arrays_of(SIZES["blocks"])
    at = np.argmin(np.abs(arrays.lat))
    lat, lon = float(arrays.lat[at]) + 1e-7, float(arrays.lon[at])
    flat, _ = ask(banks, "blocks", lat, lon, beta=0.5, tau_sem=1e-9, tau_geo=1e-9)
    np.testing.assert_allclose(flat[:VALUES], arrays.values.astype(np.float64).mean(axis=0), rtol=1e-5)
    sharp, _ = ask(banks, "blocks", lat, lon, beta=0.0, tau_geo=1e6)
    np.testing.assert_allclose(sharp[:VALUES], arrays.values[at], rtol=1e-5)


def test_nothing_changes_at_the_poles_and_at_180_degrees(banks):
    """The geographic softmax sees places on a sphere: no longitude at a pole, no edge at 180 degrees."""

    def expected(lat: float, lon: float) -> np.ndarray:
        return ask(banks, "blocks", lat, lon, beta=0.0)[0][:VALUES]

    for lat in (-90.0, 90.0):
        np.testing.assert_allclose(expected(lat, 123.0), expected(lat, -20.0), rtol=1e-6)
        np.testing.assert_allclose(expected(lat, 0.0), expected(lat * (1 - 1e-9), 140.0), rtol=1e-5)
    np.testing.assert_allclose(expected(-20.0, 180.0), expected(-20.0, -180.0), rtol=1e-6)
    np.testing.assert_allclose(expected(-20.0, 180.0), expected(-20.0, -179.999999), rtol=1e-5)


def test_equal_weights_are_kept_in_the_order_of_places(banks):
    arrays = random_arrays(50, KEYS, VALUES, seed=4)
    arrays.keys[10:20] = arrays.keys[10]
    arrays.lat[10:20], arrays.lon[10:20] = 5.0, 6.0
    with banks.transaction(force_rollback=True):
        make_bank(banks, "twins", arrays)
        for beta in (0.0, 1.0):
            found, account = ask(banks, "twins", 5.0, 6.0, beta=beta, mode="mean", k=4)
            if beta == 0:
                np.testing.assert_allclose(found[:VALUES], arrays.values[10:14].mean(axis=0), rtol=1e-5)
            assert account.places == 4


def test_a_softmax_that_beta_leaves_out_is_not_computed(banks):
    """Its columns may as well be missing."""
    point = "st_makepoint(10, 45)::geography"
    for column, untouched, touching in (("x", (1,), (0, 0.5)), ("key", (0,), (1, 0.5))):
        for mode in ("soft", "topk", "top1", "mean"):
            with banks.transaction(force_rollback=True):
                banks.execute(f"alter table geosearch.bank_small drop column {column}")
                for beta in untouched:
                    for tau in (12, 500):
                        banks.execute(
                            f"select geosearch.range_embedding('small', {point}, {beta}, {tau}, {tau}, mode => %s)",
                            [mode],
                        )
                for beta in touching:
                    with pytest.raises(psycopg.errors.UndefinedColumn), banks.transaction():
                        banks.execute(f"select geosearch.range_embedding('small', {point}, {beta}, mode => %s)", [mode])


def test_few_places_are_read_from_their_own_blocks_alone(banks):
    arrays = arrays_of(SIZES["blocks"])
    lat, lon = 10.0, 45.0
    place = int(np.argmax(units(arrays.lat, arrays.lon) @ units(lat, lon)[0]))
    with banks.transaction(force_rollback=True):
        banks.execute("delete from geosearch.bank_blocks_values where block <> %s", [place // 2000])
        found, _ = ask(banks, "blocks", lat, lon, beta=0, mode="top1")
        np.testing.assert_array_equal(found[:VALUES], arrays.values[place].astype(np.float64))


def test_the_order_of_rows_in_the_tables_does_not_matter(banks):
    arrays = random_arrays(2100, KEYS, VALUES, seed=6)
    with banks.transaction(force_rollback=True):
        make_bank(banks, "shuffled", arrays)
        before, _ = ask(banks, "shuffled", 10.0, 45.0)
        for table in ("bank_shuffled", "bank_shuffled_values"):
            banks.execute(f"create temp table t as select * from geosearch.{table}")
            banks.execute(f"delete from geosearch.{table}")
            banks.execute(f"insert into geosearch.{table} select * from t order by random()")
            banks.execute("drop table t")
        after, _ = ask(banks, "shuffled", 10.0, 45.0)
        np.testing.assert_allclose(after, before, rtol=1e-6)


def test_settings_of_the_session_change_neither_answer_nor_themselves(banks):
    before, _ = ask(banks, "blocks", 10.0, 45.0)
    with banks.transaction(force_rollback=True):
        for setting in ("enable_indexscan", "enable_nestloop", "enable_hashagg", "enable_material"):
            banks.execute(f"set local {setting} = off")
        banks.execute("set local work_mem = '64kB'")
        banks.execute("set local extra_float_digits = -15")
        names = "select name, setting from pg_settings order by name"
        settings = banks.execute(names).fetchall()
        after, _ = ask(banks, "blocks", 10.0, 45.0)
        assert banks.execute(names).fetchall() == settings
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_all_of_it_runs_in_a_read_only_transaction_of_a_reader(banks):
    with banks.transaction(force_rollback=True):
        banks.execute("set local role geosearch_read")
        banks.execute("set transaction read only")
        for call in (
            "geosearch.range_embedding('small', 'POINT(1 2)')",
            "geosearch.range_account('small', 'POINT(1 2)', mode => 'topk')",
            "geosearch.range_state('small')",
            "geosearch.bank_of('small')",
            "geosearch.range_small",
            "geosearch.bank_small",
            "geosearch.bank_small_values",
            "geosearch.range_small_stored",
        ):
            banks.execute(f"select * from {call} limit 1")
        for refused in (
            "select geosearch.drop_bank('small')",
            "select geosearch.finish_bank('small')",
            "select geosearch.create_bank('mine', 'toy', 8, 5)",
            "select geosearch.build_bank('mine', 'toy', 'toy')",
            "select geosearch.create_bank_view('small')",
            "select geosearch.fill_bank('small', 'toy', 'toy', 1, 1, 1, 0)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), banks.transaction():
                banks.execute(refused)


def test_the_name_of_every_function_is_documented_with_the_cost_of_the_view(banks):
    """COMMENTs say what a row costs, and it grows with the bank."""
    comments = [
        banks.execute(
            "select pg_catalog.obj_description(%s::regclass, 'pg_class')", [f"geosearch.range_{name}"]
        ).fetchone()[0]
        for name in ("one", "blocks")
    ]
    assert all(re.search(r"about \d+ ms a row", comment) for comment in comments)
    assert "geosearch range refresh blocks" in comments[1]
