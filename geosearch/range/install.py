"""Takes a location encoder into a database, or writes a script that does, for a psql without Python.

Either way it is one transaction: the row of geosearch.model, the weights, the check that they are whole. Nets, layers
and units are counted from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import sql
from psycopg.types.json import Jsonb

from geosearch.encoders.base import ModelInfo
from geosearch.encoders.network import PlaceNetwork
from geosearch.errors import InputError, ModelError

# A row with its weights must fit a page of PostgreSQL (8 kB), since it is stored inline.
MOST_INPUTS = 2000
_MODEL = "select geosearch.install_location_model({name}, {family}, {dimension}, {definition}, {weights_sha256})"
_CHECK = "select geosearch.check_location_model({name})"
_COPY = "copy geosearch.location_weight (model_id, net, layer, unit, bias, weights) from stdin with (format binary)"
# A psql script. COPY cannot fill in the model's id, which nobody knows before, hence the temporary table.
_HEAD = r"""-- {title}, for geosearch.encode_place; written by `geosearch model install-sql`.
-- An admin of geosearch runs it: psql --file FILE. It is one transaction: all of it happens, or nothing.
\set ON_ERROR_STOP on
\encoding UTF8
begin;
create temporary table location_weight_rows (like geosearch.location_weight including storage) on commit drop;
{call} as model_id \gset
alter table pg_temp.location_weight_rows alter column model_id set default :model_id;
copy pg_temp.location_weight_rows (net, layer, unit, bias, weights) from stdin;
"""
_TAIL = r"""\.
insert into geosearch.location_weight (model_id, net, layer, unit, bias, weights)
select model_id, net, layer, unit, bias, weights from pg_temp.location_weight_rows order by net, layer, unit;
{call} as numbers;
commit;
"""


@dataclass(frozen=True)
class Installed:
    """What was installed or written: numbers counts weights and biases, file is the script (None: a database)."""

    name: str
    family: str
    dimension: int
    nets: int
    numbers: int
    file: str | None = None


def install_network(conn: psycopg.Connection[Any], name: str) -> Installed:
    """Take the location encoder of that name (of the registry) into the database; replaces an older copy of it.

    Needs the rights of geosearch_admin. Raises UnknownNameError, ModelError for a model that is none with weights.
    """
    info, network = _load(name)
    with conn.transaction():
        model_id = _one(conn, _model_call(info, network))
        with conn.cursor().copy(_COPY) as copy:
            copy.set_types(["int4", "int2", "int2", "int2", "float8", "vector"])
            for net, layer, unit, bias, weights in _rows(network):
                copy.write_row((model_id, net, layer, unit, bias, Vector(weights)))
        numbers = _one(conn, _check_call(info))
    return Installed(info.name, network.family, network.dimension, len(network.nets), numbers)


def write_sql(name: str, path: Path) -> Installed:
    """Write a script for psql that installs the location encoder of that name, as one transaction.

    Every number is written with as many digits as bring it back exactly. Raises as install_network does, and InputError
    where the file cannot be written.
    """
    info, network = _load(name)
    numbers = 0
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            # Names may be paths; a line break in one would end the comment.
            title = info.name.encode("unicode_escape").decode("ascii")
            file.write(_HEAD.format(title=title, call=_model_call(info, network).as_string()))
            for net, layer, unit, bias, weights in _rows(network):
                file.write(f"{net}\t{layer}\t{unit}\t{bias!r}\t[{','.join(weights.astype(str))}]\n")
                numbers += 1 + len(weights)
            file.write(_TAIL.format(call=_check_call(info).as_string()))
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}. Give another file with --out") from error
    return Installed(info.name, network.family, network.dimension, len(network.nets), numbers, str(path))


def _load(name: str) -> tuple[ModelInfo, PlaceNetwork]:
    from geosearch.encoders import registry

    encoder = cast(Any, registry.load(name, "cpu"))
    if not encoder.info.reads_alone("place"):
        raise ModelError(
            f"{encoder.info.name} reads {', '.join(sorted(encoder.info.reads))}, no places alone: SQL does the "
            "arithmetic of location encoders only (`geosearch model list`)"
        )
    network: PlaceNetwork = encoder.network()
    for n, net in enumerate(network.nets):
        for k, layer in enumerate(net):
            if layer.weights.shape[1] > MOST_INPUTS:
                raise ModelError(
                    f"{name}: net {n}, layer {k} has {layer.weights.shape[1]} inputs; a row of a table holds at most "
                    f"{MOST_INPUTS}. Use an encoder of lower degree or narrower layers"
                )
            if not (np.isfinite(layer.weights).all() and np.isfinite(layer.bias).all()):
                raise ModelError(f"{name}: net {n}, layer {k} has weights that are not finite; get the weights again")
    return encoder.info, network


def _rows(network: PlaceNetwork) -> Iterator[tuple[int, int, int, float, NDArray[np.float32]]]:
    """Yield (net, layer, unit, bias, weights (inputs,)) in the order of the key."""
    for n, net in enumerate(network.nets):
        for k, layer in enumerate(net):
            weights = np.asarray(layer.weights, np.float32)
            for unit, (bias, row) in enumerate(zip(layer.bias, weights, strict=True)):
                yield n, k, unit, float(bias), row


def _model_call(info: ModelInfo, network: PlaceNetwork) -> sql.Composed:
    return sql.SQL(_MODEL).format(
        name=sql.Literal(info.name),
        family=sql.Literal(network.family),
        dimension=sql.Literal(network.dimension),
        definition=sql.Literal(Jsonb({**info.preprocessing, "network": network.definition})),
        weights_sha256=sql.Literal(info.weights_sha256),
    )


def _check_call(info: ModelInfo) -> sql.Composed:
    return sql.SQL(_CHECK).format(name=sql.Literal(info.name))


def _one(conn: psycopg.Connection[Any], statement: sql.Composed) -> int:
    row = conn.execute(statement).fetchone()
    assert row is not None
    return int(row[0])
