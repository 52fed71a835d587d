"""Banks from what is there: a catalogued archive, land, a file; keys and values from spaces or from models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from geosearch.database.spaces import Space, get_space, list_spaces
from geosearch.encoders.base import Encoder
from geosearch.errors import InputError, ModelError, UnknownNameError
from geosearch.range.bank import Bank
from geosearch.range.queries import place_encoder
from geosearch.range.sample import sample_size, sampled, systematic
from geosearch.range.store import BankRow, bank_of, explained, list_banks, write_bank

Progress = Callable[[int, int], None]


def build(
    conn: psycopg.Connection[Any],
    name: str,
    *,
    encoder: str,
    keys: str,
    values: str | None = None,
    places: str,
    fraction: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> BankRow:
    """Make a bank in the database and return it. conn: in autocommit mode, so that nothing is held while models work.

    encoder: the location encoder that asks it. keys, values: a space, or a model that reads images (values: as keys).
    places: `archive:NAME` takes the images of an archive that have a place: their vectors of spaces as they are, and
    those of models from their files; `land:N` takes N tiles of Blue Marble over land, a space standing for its model.
    fraction: of the places, rounded; a stratified sample, the same for the same seed.
    Raises InputError, UnknownNameError, ModelError, WeightsError.
    """
    kind, _, what = places.partition(":")
    if kind not in ("archive", "land") or not what or (kind == "land" and not re.fullmatch(r"\d{1,9}", what)):
        raise InputError(f"places are archive:NAME or land:N, not {places!r}")
    _refuse_taken(conn, name)
    sample_size(1, fraction)
    key_space, value_space = _space(conn, keys), _space(conn, values or keys)
    in_sql = ensure_installed(conn, encoder)
    if kind == "archive" and key_space is not None and value_space is not None and in_sql:
        with explained(), conn.transaction():
            conn.execute(
                'select geosearch.build_bank(name => %s::text, keys => %s::text, encoder => %s::text, "values" =>'
                " %s::text, archive => %s::text, fraction => %s::float8, seed => %s::int)",
                [name, keys, encoder, values, what, fraction, seed],
            )
        return bank_of(conn, name)
    if kind == "land":
        bank = _of_land(conn, name, encoder, int(what), (keys, key_space), (values or keys, value_space), progress)
        return store(conn, thinned(bank, fraction, seed))
    from geosearch.range.archive_bank import archive_bank

    sources = key_space or _model(conn, keys, None), value_space or _model(conn, values or keys, None)
    return store(conn, archive_bank(conn, name, encoder, what, *sources, fraction, seed, progress))


def _of_land(
    conn: psycopg.Connection[Any],
    name: str,
    encoder: str,
    count: int,
    keys: tuple[str, Space | None],
    values: tuple[str, Space | None],
    progress: Progress | None,
) -> Bank:
    from geosearch.range.land import land_bank, land_places

    key_model, value_model = _model(conn, *keys), _model(conn, *values)
    place_encoder(encoder, key_model.info.dimension)
    return land_bank(name, land_places(count), encoder, key_model, value_model, progress)


def build_npz(
    conn: psycopg.Connection[Any],
    name: str,
    path: Path,
    *,
    encoder: str,
    key_model: str | None = None,
    value_model: str | None = None,
    fraction: float = 1.0,
    seed: int = 0,
) -> BankRow:
    """Make a bank of a file in the published layout (see `npz.read_npz`); key_model, value_model: names to be kept."""
    from geosearch.range.npz import read_npz

    _refuse_taken(conn, name)
    bank = read_npz(path, encoder, name, key_model, value_model)
    place_encoder(encoder, bank.keys.shape[1])
    ensure_installed(conn, encoder)
    return store(conn, thinned(bank, fraction, seed))


def ensure_installed(conn: psycopg.Connection[Any], encoder: str) -> bool:
    """Take a location encoder into the database, so that SQL can ask the bank; False for one without weights.

    Raises InputError where other weights of that name are there, and a bank uses them.
    """
    from geosearch.range.install import install_network

    loaded = place_encoder(encoder)
    try:
        loaded.network()
    except ModelError:
        return False  # a baseline of coordinates: its banks are asked by Python alone
    there = conn.execute(
        "select m.weights_sha256 from geosearch.model m where m.name = %s"
        " and exists (select from geosearch.location_weight w where w.model_id = m.id)",
        [loaded.info.name],
    ).fetchone()
    if there is None or there[0] != loaded.info.weights_sha256:
        with explained():
            install_network(conn, encoder)
    return True


def thinned(bank: Bank, fraction: float, seed: int = 0) -> Bank:
    """Return a stratified sample of a bank: round(fraction · places) of them."""
    count = sample_size(len(bank), fraction)
    if count == len(bank):
        return bank
    return bank.take(systematic(bank.lat, bank.lon, count, seed), sampled(fraction, seed, len(bank)))


def store(conn: psycopg.Connection[Any], bank: Bank) -> BankRow:
    """Write a bank and return it as the database has it."""
    write_bank(conn, bank)
    return bank_of(conn, bank.name)


def _refuse_taken(conn: psycopg.Connection[Any], name: str) -> None:
    # Said before an hour of work, and by the database again at its end.
    if any(bank.name == name for bank in list_banks(conn)):
        raise InputError(f"there is a bank {name} already; choose another name or `geosearch range drop {name}`")


def _space(conn: psycopg.Connection[Any], name: str) -> Space | None:
    try:
        return get_space(conn, name)
    except UnknownNameError:
        return None


def _model(conn: psycopg.Connection[Any], name: str, space: Space | None) -> Encoder:
    """Return the model of that name, or of a space. Raises UnknownNameError where it is neither's."""
    from geosearch.embedding.identity import encoder_of
    from geosearch.encoders import registry

    if space is not None:
        return encoder_of(conn, space)
    try:
        return registry.load(name)
    except UnknownNameError as error:
        if ":" in name:  # a model's name for sure, and the message tells which part of it is unknown
            raise
        spaces = [found.name for found in list_spaces(conn)]
        remedy = "These are the spaces; models: `geosearch model list`."
        raise UnknownNameError("space or model", name, spaces, remedy) from error
