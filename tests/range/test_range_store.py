"""Banks in PostgreSQL: written and read whole, and three ways to ask one: float64, torch, SQL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
import pytest
from range_database import location_encoder
from toy_bank import random_bank, random_places, relative

from geosearch.errors import InputError, UnknownNameError
from geosearch.range.bank import Bank
from geosearch.range.build import ensure_installed
from geosearch.range.options import Retrieval
from geosearch.range.reference import embed
from geosearch.range.soft import SoftRetrieval
from geosearch.range.store import bank_of, drop_bank, list_banks, read_bank, write_bank

N, DK, DV = 4321, 12, 20  # two full blocks of values and a part


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    plain = random_bank(N, DK, DV)
    ids = np.where(np.arange(N) % 3 == 0, 0, np.arange(N) + 7)  # some places are of no image
    facts = {"key_model": "k", "value_model": "v", "source": "a test", "properties": {"fraction": 0.5}}
    encoder = location_encoder(tmp_path / "encoder")
    return Bank.of("toy", encoder, plain.lat, plain.lon, plain.keys, plain.values, ids, **facts)


def test_what_was_written_is_read(conn: psycopg.Connection, bank: Bank) -> None:
    assert write_bank(conn, bank) == N
    found = read_bank(conn, "toy")
    np.testing.assert_allclose(found.lat, bank.lat, atol=1e-12)
    np.testing.assert_allclose(found.lon, bank.lon, atol=1e-12)
    for array in ("keys", "values", "image_ids"):
        np.testing.assert_array_equal(getattr(found, array), getattr(bank, array))
        assert getattr(found, array).dtype == getattr(bank, array).dtype
    for fact in ("name", "encoder", "key_model", "value_model", "source", "properties"):
        assert getattr(found, fact) == getattr(bank, fact)
    row = bank_of(conn, "toy")
    assert (row.places, row.key_dimension, row.value_dimension, row.dimension) == (N, DK, DV, DK + DV)
    assert (row.keys_normalised, row.values_normalised) == (True, False)
    assert [other.name for other in list_banks(conn)] == ["toy"]


def test_sql_reads_the_values_that_python_wrote(conn: psycopg.Connection, bank: Bank) -> None:
    """Place and component of single numbers, straight from the tables."""
    write_bank(conn, bank)
    for place, component in ((0, 0), (1999, 3), (2000, 3), (4320, 19)):
        row = conn.execute(
            "select (v.values::real[])[%s], b.x, b.key, b.image_id from geosearch.bank_toy b"
            " join geosearch.bank_toy_values v on v.block = b.block where b.place = %s and v.component = %s",
            [place % 2000 + 1, place, component],
        ).fetchone()
        assert row is not None
        assert row[0] == bank.values[place, component]
        assert row[1] == pytest.approx(np.cos(np.radians(bank.lat[place])) * np.cos(np.radians(bank.lon[place])))
        np.testing.assert_array_equal(row[2].to_numpy(), bank.keys[place])
        assert row[3] == (bank.image_ids[place] or None)  # type: ignore[index]


@pytest.mark.parametrize(
    "options",
    [
        Retrieval(),
        Retrieval(beta=1),
        Retrieval(beta=0),
        Retrieval(beta=0.2, tau_sem=30, tau_geo=7, min_cos=0.3),
        Retrieval(mode="topk", k=20),
        Retrieval(mode="top1"),
        Retrieval(mode="mean", k=10),
    ],
    ids=str,
)
def test_reference_torch_and_sql_agree(conn: psycopg.Connection, bank: Bank, options: Retrieval) -> None:
    assert ensure_installed(conn, bank.encoder)
    write_bank(conn, bank)
    found = read_bank(conn, "toy")
    lat, lon = random_places(np.random.default_rng(5), 6)
    lat, lon = np.r_[lat, 90, -90, 0], np.r_[lon, 0, 180, -180]
    truth = embed(found, lat, lon, options)
    soft = SoftRetrieval(found, options).retrieve(lat, lon)
    of_sql, mass = [], []
    for at in zip(lat, lon, strict=True):
        row = conn.execute(
            "select embedding, mass_sem, mass_geo from geosearch.range_account('toy',"
            " st_makepoint(%s, %s)::geography, %s, %s, %s, %s, %s, %s)",
            [at[1], at[0], options.beta, options.tau_sem, options.tau_geo, options.min_cos, options.mode, options.k],
        ).fetchone()
        assert row is not None
        of_sql.append(row[0].to_numpy())
        mass.append(row[1:])
    assert relative(soft.embedding.numpy(), truth.embedding) < 1e-5
    assert relative(np.array(of_sql), truth.embedding) < 1e-5
    np.testing.assert_allclose(np.array(mass, float).T, [truth.mass_sem, truth.mass_geo], rtol=1e-4)


def test_one_place_one_number(conn: psycopg.Connection) -> None:
    write_bank(conn, Bank.of("tiny", "no-encoder", [10.0], [20.0], [[3.0]], [[-2.5]]))
    found = read_bank(conn, "tiny")
    assert (found.keys.tolist(), found.values.tolist(), found.image_ids) == ([[1.0]], [[-2.5]], None)


def test_a_write_that_fails_leaves_nothing(conn: psycopg.Connection, bank: Bank) -> None:
    write_bank(conn, bank)
    with pytest.raises(InputError, match="there is a bank toy already"):
        write_bank(conn, bank)
    wrong = random_bank(50)
    wrong.keys[7] *= 2  # not of unit length: the database looks at the end
    with pytest.raises(InputError, match="the key of place 7 of bank"):
        write_bank(conn, Bank(**{**vars(wrong), "name": "wrong"}))
    with pytest.raises(InputError, match="cannot name a bank"):
        write_bank(conn, Bank(**{**vars(random_bank(5)), "name": "Not A Name"}))
    assert [row.name for row in list_banks(conn)] == ["toy"]
    assert conn.execute("select to_regclass('geosearch.bank_wrong')").fetchone() == (None,)


def test_drop_and_unknown_names(conn: psycopg.Connection, bank: Bank) -> None:
    with pytest.raises(UnknownNameError, match="there is no bank yet"):
        read_bank(conn, "toy")
    write_bank(conn, bank)
    for ask in (bank_of, read_bank, drop_bank):
        with pytest.raises(UnknownNameError, match="there is: toy"):
            ask(conn, "other")
    assert drop_bank(conn, "toy") == N
    assert list_banks(conn) == []


def test_an_unfinished_bank_is_not_read(conn: psycopg.Connection) -> None:
    conn.execute("select geosearch.create_bank('half', 'none', 3, 4)")
    with pytest.raises(InputError, match="bank half is not finished"):
        read_bank(conn, "half")
