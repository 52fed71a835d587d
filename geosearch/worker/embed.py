"""New images → vectors, between questions: every active space with a model, whenever the catalogue changes."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from geosearch.database.moments import edition_of
from geosearch.database.spaces import get_space
from geosearch.embedding.kept_moments import KeptMoments
from geosearch.embedding.missing import any_moved
from geosearch.embedding.run import EmbedCounts, embed
from geosearch.encoders.nadir_names import is_nadir
from geosearch.errors import GeosearchError
from geosearch.search.lookup import SearchedSpace, searched_spaces
from geosearch.settings import settings

AFTER_CHANGE_S = 2.0  # a catalogue that is being filled calls again and again
LOOK_AGAIN_S = 900.0  # without being called: a call is lost where nobody was listening
MOMENTS_S = 60.0  # to add one vector is to write all moments anew: 0.2 s and 8 MB of WAL with 768 dimensions
PLACES_SHARE = 0.02  # of the time, for comparing the places of vectors with those of the catalogue
CPU_BATCH = 16  # a question waits for one batch at most


class Embedder:
    """Knows when to look for images without a vector, and embeds them in runs that questions may interrupt."""

    def __init__(self, url: str, device: str | None, report: Callable[[str], None]) -> None:
        self.url, self.device, self.report = url, device, report
        self._next = 0.0  # the first look is at once
        self._moments: dict[str, KeptMoments] = {}
        self._moments_from = 0.0  # when they may be added to the database's again
        self._moved_from: dict[str, float] = {}  # by space, when its places may be compared again

    def images_changed(self) -> None:
        """Look soon."""
        self._next = min(self._next, time.monotonic() + AFTER_CHANGE_S)

    def due_in(self) -> float:
        """How many seconds until it is time to look, or to add to moments."""
        due = min(self._next, self._moments_from) if self._moments else self._next
        return max(0.0, due - time.monotonic())

    def run(self, conn: psycopg.Connection, go_on: Callable[[], bool]) -> EmbedCounts:
        """Embed what lacks a vector. conn: to look with. go_on: see `geosearch.embedding.run.embed`."""
        self._next = time.monotonic() + LOOK_AGAIN_S
        embedded = rejected = 0
        for space in searched_spaces(conn):
            if not space.active or space.model is None or not go_on():
                continue
            if not _lacking(conn, space) and not self._moved(conn, space):
                continue
            try:
                encoder = space.encoder(self.device)
                moments = self._added(conn, space.name)
                size = _batch_size(encoder)
                counts = embed(self.url, space.name, encoder=encoder, batch_size=size, go_on=go_on, moments=moments)
            except (GeosearchError, psycopg.Error) as error:
                # Weights that are not here, a right that is missing, a space that was dropped: questions go on.
                self.report(f"space {space.name} is not embedded: {error}")
                continue
            embedded, rejected = embedded + counts.embedded, rejected + counts.rejected
            if counts.embedded or counts.rejected:
                self.report(f"space {space.name}: {counts.embedded} images embedded, {counts.rejected} rejected")
        if time.monotonic() >= self._moments_from:
            self.finish(conn)
        return EmbedCounts(embedded, 0, rejected, 0)

    def finish(self, conn: psycopg.Connection) -> None:
        """Add what was embedded since to the moments of the spaces. conn: in autocommit mode."""
        added, self._moments = self._moments, {}
        for moments in added.values():
            moments.finish(conn, self.url, lambda _: None, only_tell=True)
        if added:
            self._moments_from = time.monotonic() + MOMENTS_S

    def _moved(self, conn: psycopg.Connection, space: SearchedSpace) -> bool:
        """Tell whether a vector of a space was made with another place than is known now; False where it is not due."""
        start = time.monotonic()
        if space.model is None or not is_nadir(
            space.model
        ):  # by its name: no model is loaded to see that nothing lacks
            return False
        if start < self._moved_from.get(space.name, 0.0):
            self._next = min(self._next, self._moved_from[space.name])
            return False
        moved = any_moved(conn, space.name, space.table)
        # It reads all places, 20 seconds for a million tiles, while questions wait: that much of the time and no more.
        self._moved_from[space.name] = start + (time.monotonic() - start) / PLACES_SHARE
        return moved

    def _added(self, conn: psycopg.Connection, name: str) -> KeptMoments:
        """Return the moments of what was added to a space since they were finished, with all that is added from now."""
        space, known = get_space(conn, name), self._moments.get(name)
        # Computed anew meanwhile, they have been read with what was added: that is of no use any more.
        if known is None or known.space.id != space.id or known.edition != edition_of(conn, space):
            known = self._moments[name] = KeptMoments(conn, space)
        return known


def _lacking(conn: psycopg.Connection, space: SearchedSpace) -> bool:
    table = sql.Identifier("geosearch", f"space_{space.name}")
    statement = sql.SQL(
        "select exists (select from geosearch.image i left join {} s on s.image_id = i.id where s.image_id is null"
        " or (i.content_sha256 is not null and s.content_sha256 is distinct from i.content_sha256))"
    )
    return conn.execute(statement.format(table)).fetchone() == (True,)


def _batch_size(encoder: object) -> int:
    device = getattr(getattr(encoder, "device", None), "type", "cpu")
    return min(CPU_BATCH, settings().batch_size) if device == "cpu" else settings().batch_size
