"""Banks in the database: read and written whole, by binary COPY; listed and dropped by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from geosearch.errors import DatabaseError, InputError, UnknownNameError
from geosearch.geometry import lat_lon
from geosearch.range.bank import Bank
from geosearch.range.records import Layout

BLOCK = 2000  # places whose values lie in one row for each component

_COLUMNS = """
    select b.id, b.name, b.encoder, b.places, b.key_dimension, b.value_dimension, b.key_model, b.value_model,
           k.name as key_space, v.name as value_space, b.keys_normalised, b.values_normalised, b.source, b.properties,
           b.built_at, b.stored_at, b.stored_changes, b.stored_with
    from geosearch.bank b
    left join geosearch.space k on k.id = b.key_space_id
    left join geosearch.space v on v.id = b.value_space_id
"""


@dataclass(frozen=True)
class BankRow:
    """What the database says of a bank; key_space, value_space: the spaces that it was built from, while they exist.

    stored_at, stored_changes, stored_with: when `geosearch range refresh` ended, what it had seen, what it worked with.
    """

    id: int
    name: str
    encoder: str
    places: int
    key_dimension: int
    value_dimension: int
    key_model: str | None
    value_model: str | None
    key_space: str | None
    value_space: str | None
    keys_normalised: bool
    values_normalised: bool
    source: str | None
    properties: dict[str, Any]
    built_at: datetime | None
    stored_at: datetime | None
    stored_changes: int | None
    stored_with: dict[str, Any] | None

    @property
    def dimension(self) -> int:
        """Numbers of an embedding."""
        return self.value_dimension + self.key_dimension

    @property
    def keys_table(self) -> sql.Identifier:
        """The table of places and keys, to be put into ``sql.SQL(...).format``."""
        return sql.Identifier("geosearch", f"bank_{self.name}")

    @property
    def values_table(self) -> sql.Identifier:
        """The table of transposed values."""
        return sql.Identifier("geosearch", f"bank_{self.name}_values")

    @property
    def stored_table(self) -> sql.Identifier:
        """The table of stored embeddings."""
        return sql.Identifier("geosearch", f"range_{self.name}_stored")


def list_banks(conn: psycopg.Connection[Any]) -> list[BankRow]:
    """Return all banks by name."""
    cursor = conn.cursor(row_factory=class_row(BankRow))
    return cursor.execute(sql.SQL(_COLUMNS + "order by b.name")).fetchall()


def bank_of(conn: psycopg.Connection[Any], name: str) -> BankRow:
    """Return one bank. Raises UnknownNameError."""
    cursor = conn.cursor(row_factory=class_row(BankRow))
    found = cursor.execute(sql.SQL(_COLUMNS + "where b.name = %s"), [name]).fetchone()
    if found is not None:
        return found
    known = [bank.name for bank in list_banks(conn)]
    raise UnknownNameError("bank", name, known, "`geosearch range build` makes one.")


@dataclass(frozen=True)
class StoredState:
    """images: catalogued, with a place; stored: embeddings; changed: images were added, removed or moved since."""

    images: int
    stored: int
    changed: bool


def stored_state(conn: psycopg.Connection[Any], name: str) -> StoredState:
    """Return what is stored by a bank and whether it is up to date. Raises UnknownNameError."""
    bank_of(conn, name)
    cursor = conn.cursor(row_factory=class_row(StoredState))
    found = cursor.execute("select images, stored, changed from geosearch.range_state(%s::text)", [name]).fetchone()
    assert found is not None
    return found


def drop_bank(conn: psycopg.Connection[Any], name: str) -> int:
    """Remove a bank with all that was stored by it, and return how many places it had. Raises UnknownNameError."""
    places = bank_of(conn, name).places
    with explained(), conn.transaction():
        conn.execute("select geosearch.drop_bank(%s::text)", [name])
    return places


def read_bank(conn: psycopg.Connection[Any], name: str) -> Bank:
    """Return a bank with its keys and values: (256 + 1 024) float32 of 82 000 places are 420 MB.

    Raises UnknownNameError, InputError for a bank that was never finished, DatabaseError.
    """
    with conn.transaction():
        row = bank_of(conn, name)
        if row.built_at is None or not row.places:
            raise InputError(
                f"bank {name} is not finished: whoever fills it must call geosearch.finish_bank, or drop it"
            )
        places = Layout(x="float8", y="float8", z="float8", key=row.key_dimension, image_id="int8").read_all(
            conn,
            sql.SQL("select x, y, z, key, coalesce(image_id, 0) from {} order by place").format(row.keys_table),
        )
        if len(places) != row.places:
            raise DatabaseError(f"bank {name} has {len(places)} places, not {row.places}; drop it and build it anew")
        values = _read_values(conn, row)
    lat, lon = lat_lon(np.stack([places[axis] for axis in "xyz"], axis=1))
    ids = places["image_id"].astype(np.int64)
    return Bank(
        name,
        row.encoder,
        lat,
        lon,
        places["key"].astype(np.float32),
        values,
        ids if ids.any() else None,
        row.key_model,
        row.value_model,
        row.source,
        row.properties,
    )


def write_bank(conn: psycopg.Connection[Any], bank: Bank) -> int:
    """Write a bank, wholly or not at all, and return its number of places.

    Raises InputError for a name that is taken or none, or for an encoder of the database that does not fit the keys.
    """
    dk, dv = bank.keys.shape[1], bank.values.shape[1]
    with explained(), conn.transaction():
        conn.execute(
            "select geosearch.create_bank(%s::text, %s::text, %s::int, %s::int, %s::text, %s::text, %s::text,"
            " %s::jsonb)",
            [bank.name, bank.encoder, dk, dv, bank.key_model, bank.value_model, bank.source, Jsonb(bank.properties)],
        )
        row = bank_of(conn, bank.name)
        _write_places(conn, row, bank)
        columns = Layout(block="int4", component="int4", values=BLOCK)
        for start in range(0, len(bank), BLOCK):
            part = bank.values[start : start + BLOCK]
            if len(part) < BLOCK:
                columns = Layout(block="int4", component="int4", values=len(part))
            rows = columns.empty(dv)
            rows["block"], rows["component"], rows["values"] = start // BLOCK, np.arange(dv), part.T
            columns.write(conn, row.values_table, rows)
        found = conn.execute("select geosearch.finish_bank(%s::text)", [bank.name]).fetchone()
    assert found is not None
    return int(found[0])


def _write_places(conn: psycopg.Connection[Any], row: BankRow, bank: Bank) -> None:
    columns: dict[str, str | int] = {"place": "int4", "block": "int4", "x": "float8", "y": "float8", "z": "float8"}
    columns["key"] = row.key_dimension
    with_image = np.zeros(len(bank), bool) if bank.image_ids is None else bank.image_ids != 0
    positions, number = bank.positions(), np.arange(len(bank))
    for has_image in (False, True):
        some = np.flatnonzero(with_image == has_image)
        if not len(some):
            continue
        layout = Layout(**columns, **({"image_id": "int8"} if has_image else {}))
        rows = layout.empty(len(some))
        rows["place"], rows["block"], rows["key"] = number[some], number[some] // BLOCK, bank.keys[some]
        rows["x"], rows["y"], rows["z"] = positions[some].T
        if has_image:
            assert bank.image_ids is not None
            rows["image_id"] = bank.image_ids[some]
        layout.write(conn, row.keys_table, rows)


def _read_values(conn: psycopg.Connection[Any], row: BankRow) -> np.ndarray:
    """Return values (places, dv) float32 of the blocks in which they lie transposed."""
    values = np.empty((row.places, row.value_dimension), np.float32)
    filled = 0
    select = sql.SQL("select component, values from {} where block = %(block)s order by component")
    for start in range(0, row.places, BLOCK):
        part = values[start : start + BLOCK]
        columns = Layout(component="int4", values=len(part))
        for rows in columns.read(conn, select.format(row.values_table), {"block": start // BLOCK}):
            part[:, rows["component"]] = rows["values"].T
            filled += len(rows)
    if filled != row.value_dimension * -(-row.places // BLOCK):
        raise DatabaseError(f"bank {row.name} lacks values of some of its places; drop it and build it anew")
    return values


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the SQL functions refuse into InputError or UnknownNameError, with the hint that they give."""
    try:
        yield
    except (
        psycopg.DataError,
        psycopg.errors.UndefinedObject,
        psycopg.errors.DuplicateObject,
        psycopg.errors.UniqueViolation,
        psycopg.errors.ObjectNotInPrerequisiteState,
        psycopg.errors.NoDataFound,
    ) as error:
        hint = error.diag.message_hint
        raise InputError(f"{error.diag.message_primary or error}" + (f". {hint}" if hint else "")) from error
