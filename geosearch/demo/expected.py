"""The demo's RANGE: a bank of Blue Marble, and the tiles that look like what it expects at a place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import psycopg

from geosearch.embedding.run import embed
from geosearch.encoders.names import MINI_CLIP
from geosearch.errors import InputError
from geosearch.range.build import build
from geosearch.range.store import bank_of, drop_bank, list_banks
from geosearch.search.client import Client
from geosearch.search.ranking import Ranking

BANK, SPACE = "demo", "demo_features"
ENCODER, FEATURES = "mini-location", f"features:{MINI_CLIP}"
PLACES = (
    ("the Sahara", 23.0, 12.0),
    ("the Amazon", -5.0, -63.0),
    ("the Himalaya", 30.0, 85.0),
    ("the coast of Greenland", 66.0, -52.0),
)
ANSWERS = 8

Progress = Callable[[int, int], None]


class Expected(NamedTuple):
    """A place, and the tiles nearest to what RANGE+ expects there."""

    name: str
    lat: float
    lon: float
    ranking: Ranking


def fill_features(url: str | None, archive: str, progress: Progress) -> None:
    """Embed the tiles once more, with the features that the bank's values are; the space is there."""
    counts = embed(url, SPACE, archive, progress=progress)
    if counts.rejected:
        raise InputError(f"{counts.rejected} tiles could not be embedded into space {SPACE}")


def build_bank(conn: psycopg.Connection[Any], places: int, progress: Progress) -> None:
    """Build the bank of so many places of Blue Marble, unless an earlier run did."""
    there = next((bank for bank in list_banks(conn) if bank.name == BANK), None)
    if there is not None and there.key_model != MINI_CLIP:
        raise InputError(f"bank {BANK} was not made by the demo; drop it: geosearch range drop {BANK}")
    if there is not None and there.places == places and there.built_at is not None:
        progress(places, places)
        return
    if there is not None:
        drop_bank(conn, BANK)
    build(conn, BANK, encoder=ENCODER, keys=MINI_CLIP, values=FEATURES, places=f"land:{places}", progress=progress)


def ask(client: Client, archive: str, progress: Progress) -> list[Expected]:
    """Return, for each of PLACES, the tiles that look like what the bank expects there; distances are to the place."""
    dimension = bank_of(client.conn, BANK).value_dimension
    found = []
    for done, (name, lat, lon) in enumerate(PLACES, 1):
        row = client.conn.execute(
            "select subvector(geosearch.range_embedding(%s::text, st_makepoint(%s::float8, %s::float8)::geography),"
            " 1, %s::int)::real[]",
            [BANK, lon, lat, dimension],
        ).fetchone()
        assert row is not None
        ranking = client.search(vector=np.array(row[0]), k=ANSWERS, archive=archive, space=SPACE)
        found.append(Expected(name, lat, lon, ranking))
        progress(done, len(PLACES))
    return found
