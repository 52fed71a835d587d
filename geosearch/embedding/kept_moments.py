"""What a run does for the moments of its space: it adds what it wrote, or has them computed anew, or says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from geosearch.compose.moments import Moments
from geosearch.database.moments import compute_moments, edition_of, fold, merge_moments, moments_state
from geosearch.database.moments_tables import LONGEST_KEPT
from geosearch.database.spaces import Space
from geosearch.embedding.write import Written
from geosearch.errors import GeosearchError, UnknownNameError

# Computing them reads all vectors, some 50 000 a second with 768 dimensions: little beside encoding a tenth as many.
CHEAP_ROWS, CHEAP_TIMES = 200_000, 10
_TOGETHER = 2048  # rows: adding few at a time costs d² operations each time


class KeptMoments:
    """The moments of the vectors that one run has added, batch by batch, and the statements that brought them.

    Made before the first batch is written. What a batch changed is only known where all its rows are new; any other
    leaves the moments of the space late, as does a run that ends in an error or is killed: the database counts all.
    """

    def __init__(self, conn: psycopg.Connection[Any], space: Space) -> None:
        self.space, self.statements, self.written = space, 0, 0
        self.edition = edition_of(conn, space) if space.dimension <= LONGEST_KEPT else None
        self._added = Moments.none(space.dimension) if self.edition is not None else None
        self._waiting: list[NDArray[np.float16]] = []

    def add(self, vectors: NDArray[np.floating], written: Written) -> None:
        """Take a batch (n, d), as it was written and after it was committed."""
        self.written += written.added + written.updated
        if self._added is None or not len(vectors) or written.added != len(vectors):
            return
        self.statements += 1
        self._waiting.append(np.asarray(vectors).astype(np.float16))  # as they are stored
        if sum(map(len, self._waiting)) >= _TOGETHER:
            self._add_waiting()

    def finish(
        self, conn: psycopg.Connection[Any], url: str | None, say: Callable[[str], None], *, only_tell: bool = False
    ) -> None:
        """Bring the moments of the space up to date. conn: in autocommit mode. url: to compute them with.

        Where they stay late and computing them is cheap beside the run they are, unless only_tell is set; else `say`
        is told the command to run later. Never fails the run.
        """
        name = self.space.name
        try:
            if self.edition is not None and self.statements:
                self._add_waiting()
                merge_moments(conn, self.space, self.edition, self._sum(), self.statements)
            if self.written:
                fold(conn, self.space)
            state = moments_state(conn, name)
            rows = self.space.count + self.written
            if state.current or (not rows and state.counted is None):
                return
            cheap = rows <= CHEAP_TIMES * self.written + CHEAP_ROWS and self.space.dimension <= LONGEST_KEPT
            if cheap and not only_tell:
                compute_moments(url, name)
                return
            why = ""
        except UnknownNameError:
            return  # dropped meanwhile
        except (GeosearchError, psycopg.Error) as error:
            why = f" ({str(error).strip()})"
        late = f"the moments of space {name} are late, which makes composed searches slower"
        say(f"{late}; run: geosearch space moments {name}{why}")

    def _add_waiting(self) -> None:
        if self._waiting:
            self._added = self._sum() + Moments.of(np.concatenate(self._waiting))
            self._waiting = []

    def _sum(self) -> Moments:
        assert self._added is not None
        return self._added
