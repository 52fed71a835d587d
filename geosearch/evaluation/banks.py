"""The banks that are measured: of the database, or made of Blue Marble in memory without a database."""

from __future__ import annotations

from collections.abc import Callable

from geosearch.range.bank import Bank

Watch = Callable[[int, int], None]


def stored(name: str) -> Bank:
    """Return a bank of the database, read into memory. Raises UnknownNameError, DatabaseError."""
    from geosearch.database import connection
    from geosearch.range.store import read_bank

    with connection.connect() as conn:
        return read_bank(conn, name)


def blue_marble(
    places: int, ask: str, watch: Watch | None = None, keys: str = "mini-clip", values: str = "features:mini-clip"
) -> Bank:
    """Return a bank of tiles of Blue Marble, 300 km wide, evenly over land, the same each time.

    ask: the location encoder that asks it, trained against `keys`. keys, values: models that read images. watch: is
    told how many tiles are done, and of how many.
    """
    from geosearch.encoders import registry
    from geosearch.range.land import land_bank, land_places

    return land_bank("blue_marble", land_places(places), ask, registry.load(keys), registry.load(values), watch)
