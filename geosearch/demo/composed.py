"""The demo's composed questions: a tile and some words in one, "like this coast, but desert"."""

from __future__ import annotations

from collections.abc import Callable

from geosearch.errors import InputError
from geosearch.search.client import Client
from geosearch.search.composed import ComposedRanking

# What the tile that shows a place is to be changed into.
QUESTIONS = (
    ("the coast of Greenland", 66.0, -52.0, "desert"),
    ("the Amazon", -5.0, -63.0, "a lake"),
    ("the Sahara", 23.0, 12.0, "coast"),
)
ANSWERS = 8

_SHOWS = """
    select i.id from geosearch.image i join geosearch.archive a on a.id = i.archive_id
    where a.name = %s order by coalesce(i.footprint, i.nadir) <-> st_makepoint(%s, %s)::geography, i.id limit 1
"""


def ask(client: Client, archive: str, space: str, progress: Callable[[int, int], None]) -> list[ComposedRanking]:
    """Return the answers to each of QUESTIONS, with the model's own weight of the words. Raises InputError."""
    found = []
    for done, (_, lat, lon, text) in enumerate(QUESTIONS, 1):
        row = client.conn.execute(_SHOWS, [archive, lon, lat]).fetchone()
        if row is None:
            raise InputError(f"archive {archive} has no images; run the demo again")
        found.append(client.compose(like=row[0], text=text, k=ANSWERS, archive=archive, space=space))
        progress(done, len(QUESTIONS))
    return found
