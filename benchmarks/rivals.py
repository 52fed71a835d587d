"""What is timed: each way answers the same questions.

A way is made once a run, asked many times, and may be forked for clients that ask at the same time. The ways in SQL
are here; FAISS and LanceDB have files of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from cases import Question
from load import SPACE
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector

Ids = NDArray[np.int64]


class Way(ABC):
    """One way to answer. `name` as in the tables; `exact`: its answers are those of an exhaustive search."""

    name: str
    about: str
    exact = True

    @abstractmethod
    def ask(self, question: Question) -> Ids:
        """Return the ids of the answers, best first. Positive; fewer than k where the way found no more."""

    def prepare(self, question: Question) -> None:  # noqa: B027 (most ways need nothing)
        """Make what is not timed, before the question is asked."""

    def parts_ms(self) -> dict[str, float]:
        """Return the milliseconds of parts of the last answer by name, where parts are reported as well."""
        return {}

    @abstractmethod
    def fork(self) -> Way:
        """Return a way for one more client, which shares what can be shared."""

    def memory(self) -> dict[str, int]:
        """Return bytes by what holds them."""
        return {}

    def note(self, question: Question) -> str | None:
        """Return what is worth knowing of how a question is answered, such as the index that is used."""
        return None

    def close(self) -> None:  # noqa: B027 (most ways hold nothing)
        """Give back what the way holds."""


class SqlWay(Way):
    """A statement in a session of its own. Nothing is prepared: each query is planned with its own values.

    statement: with a circle; whole: without one. Both take lon, lat, radius, k and query. settings: of the session.
    """

    def __init__(
        self, url: str, name: str, about: str, statement: str, whole: str, exact: bool = True, **settings: str
    ) -> None:
        self.url, self.name, self.about, self.exact, self.settings = url, name, about, exact, settings
        self.statement, self.whole = statement, whole
        self.conn = psycopg.connect(url, autocommit=True, prepare_threshold=None, options="-c jit=off")
        register_vector(self.conn)
        self.conn.execute("select '[1]'::vector")  # loads the library, before which hnsw.* cannot be set
        for key, value in settings.items():
            self.conn.execute("select set_config(%s, %s, false)", [key.replace("__", "."), value])

    def ask(self, question: Question) -> Ids:
        """Return the ids of the answers, best first."""
        rows = self.conn.execute(self._text(question), self._values(question), binary=True).fetchall()
        return np.fromiter((row[0] for row in rows), np.int64, len(rows))

    def _text(self, question: Question) -> str:
        return self.whole if question.near is None else self.statement

    def _values(self, question: Question) -> dict[str, Any]:
        values: dict[str, Any] = {"query": HalfVector(question.vector), "k": question.k}
        if question.near is not None:
            values |= {"lat": question.near[0], "lon": question.near[1], "radius": question.radius_m}
        return values

    def fork(self) -> SqlWay:
        """Return a way for one more client."""
        return SqlWay(self.url, self.name, self.about, self.statement, self.whole, self.exact, **self.settings)

    def memory(self) -> dict[str, int]:
        """Return bytes by what holds them."""
        status = Path(f"/proc/{self.conn.info.backend_pid}/status")
        if not status.exists():  # the server runs elsewhere
            return {}
        fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines() if ":" in line)
        return {"session": int(fields["RssAnon"].split()[0]) * 1024}

    def cpu_ms(self) -> float:
        """Return the processor time of the session's process so far, NaN where this cannot be seen."""
        try:
            text = Path(f"/proc/{self.conn.info.backend_pid}/schedstat").read_text(encoding="ascii")
        except OSError:
            return float("nan")
        return int(text.split()[0]) / 1e6

    def note(self, question: Question) -> str:
        """Return the scans of the plan."""
        rows = self.conn.execute("explain (costs off) " + self._text(question), self._values(question)).fetchall()
        return " / ".join(row[0].strip() for row in rows if " Scan" in row[0] or "Gather" in row[0])

    def close(self) -> None:
        """Close the session."""
        self.conn.close()


_NEAR = "st_makepoint(%(lon)s, %(lat)s)::geography"
_PLACE = "coalesce(footprint, nadir)"


def by_hand(url: str, far: bool, **settings: str) -> SqlWay:
    """Return the query that one writes by hand, with the server's defaults or without parallel workers."""
    within = f"st_dwithin({_PLACE}, {_NEAR}, %(radius)s::float8)"
    if far:  # the index takes only a distance that is the same for all rows
        wide = f"st_dwithin({_PLACE}, {_NEAR}, %(radius)s::float8 + 2500000)"
        within = f"(reach_m = 0 and {within} or reach_m > 0 and {wide})"
    alone = settings.get("max_parallel_workers_per_gather") == "0"
    order = "order by embedding <=> %(query)s limit %(k)s"
    return SqlWay(
        url,
        "by hand, no workers" if alone else "by hand",
        "st_dwithin … order by embedding <=> query limit k, over a GiST index"
        + ("; max_parallel_workers_per_gather = 0" if alone else "; the server's defaults"),
        f"select id from byhand.image where {within} {order}",
        f"select id from byhand.image {order}",
        **settings,
    )


def pgvector(url: str, dimension: int, iterative: bool) -> SqlWay:
    """Return pgvector's HNSW as its manual has it: with iterative scans in relaxed order put right, or with none."""
    # st_distance, which no index serves: with st_dwithin the planner takes the GiST index at every radius.
    within = f"where st_distance({_PLACE}, {_NEAR}) <= %(radius)s::float8 + reach_m"
    inner = (
        f"select id, embedding::halfvec({dimension}) <=> %(query)s as distance from byhand.image {{}}"
        " order by distance limit %(k)s"
    )
    if iterative:
        text = f"with relaxed as materialized ({inner}) select id from relaxed order by distance"
        return SqlWay(
            url,
            "pgvector HNSW, iterative",
            "hnsw.iterative_scan = relaxed_order, sorted in a materialized CTE; else defaults",
            text.format(within),
            text.format(""),
            exact=False,
            hnsw__iterative_scan="relaxed_order",
        )
    return SqlWay(
        url, "pgvector HNSW", "defaults: ef_search 40, no iterative scan", inner.format(within), inner.format(""), False
    )


def strategies(conn: psycopg.Connection[Any], questions: list[Question]) -> dict[str, int]:
    """Return how many of the questions `auto` answers with which strategy."""
    found: dict[str, int] = {}
    for q in questions:
        lat, lon = q.near or (None, None)
        row = conn.execute(
            f"select strategy from geosearch.search_plan('{SPACE}', %(query)s::vector, near => case when"
            f" %(lat)s::float8 is not null then {_NEAR} end, radius_m => %(radius)s::float8, k => %(k)s::int)",
            {"query": HalfVector(q.vector), "lat": lat, "lon": lon, "radius": q.radius_m or 0.0, "k": q.k},
        ).fetchone()
        assert row is not None
        found[row[0]] = found.get(row[0], 0) + 1
    return dict(sorted(found.items()))


def ours(url: str, strategy: str) -> SqlWay:
    """Return geosearch.search with a strategy."""
    search = (
        f"select image_id from geosearch.search('{SPACE}', %(query)s::vector, {{}} k => %(k)s::int,"
        f" strategy => '{strategy}') order by rank"
    )
    circle = f"near => {_NEAR}, radius_m => %(radius)s::float8,"
    about = f"geosearch.search(…, strategy => '{strategy}')"
    return SqlWay(url, f"geosearch, {strategy}", about, search.format(circle), search.format(""), strategy == "exact")
