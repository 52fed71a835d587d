"""Which images lack a vector: found page by page, each page held by one run at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from geosearch.database.spaces import Space
from geosearch.item import Place

PAGE = 4096  # ids a page: what a run holds in memory and what two runs share out between them
WAIT_S = 0.2  # between two looks at a page that another run holds
_LOCKS = 0x67730000  # first key of the advisory locks; the space's id is added

# A metre is less than a nadir is known to, and more than another version of PostGIS may compute. `offset 0`: so that
# the place is computed once an image.
_PLACES = """
            left join geosearch.embedded_place e on e.image_id = i.id and e.space_id = %(space)s {of_page}
            cross join lateral (
                select geosearch.encoded_place(i.nadir, i.footprint, i.problems) as place offset 0) p
            cross join lateral (
                select s.image_id is not null and coalesce((e.lat is null) <> (p.place is null)
                    or st_distance(st_point(e.lon, e.lat, 4326)::geography, p.place, false) > 1, false) as moved) m
"""
# Said of each table joined, or each page reads the whole of it: a planner does not carry a range over an outer join.
_OF_PAGE = "and {}.image_id between %(low)s and %(high)s"
_PLACE = "st_y(p.place::geometry) as lat, st_x(p.place::geometry) as lon, m.moved"
_NO_PLACE = "null::float8 as lat, null::float8 as lon, false as moved"


class Missing(NamedTuple):
    """An image to embed. stored_sha256: of the file its present vector was made from.

    lat, lon: of the place that a model which reads places gets with it, in degrees; None where none is known, and for
    every other model. moved: its present vector was made with another place.
    """

    image_id: int
    archive_id: int
    name: str
    uri: str | None
    root: str | None
    stored_sha256: bytes | None
    lat: float | None = None
    lon: float | None = None
    moved: bool = False

    @property
    def place(self) -> Place | None:
        """The place to encode it with."""
        return None if self.lat is None or self.lon is None else Place(self.lat, self.lon)


class Page(NamedTuple):
    """The images to embed among one range of ids, and how many of the range need nothing."""

    number: int
    images: list[Missing]
    unchanged: int


def _places(of_page: str = "") -> sql.Composed:
    return sql.SQL(_PLACES).format(of_page=sql.SQL(of_page.format("e")))


def any_moved(conn: psycopg.Connection, space: str, table: sql.Identifier) -> bool:
    """Tell whether a space, of a model that reads places, has a vector made with another place than is known now."""
    statement = sql.SQL(
        "select exists (select from geosearch.image i join {table} s on s.image_id = i.id {places} where m.moved)"
    ).format(table=table, places=_places())
    row = conn.execute("select id from geosearch.space where name = %s", [space]).fetchone()
    return row is not None and conn.execute(statement, {"space": row[0]}).fetchone() == (True,)


class MissingImages:
    """Finds images without a vector, or with a vector of other pixels than the catalogue's, in bounded memory.

    places: the model reads places too; then also those whose vector was made with another place than
    geosearch.encoded_place says now. Two runs over one space share the pages: an advisory lock, which ends with the
    session however that ends, gives each page to one of them. conn: in autocommit mode, of this run alone.
    """

    def __init__(
        self,
        conn: psycopg.Connection,
        space: Space,
        archive_id: int | None,
        recheck: bool = False,
        places: bool = False,
    ) -> None:
        self.conn, self.lock_key = conn, _LOCKS + space.id % 0x10000
        self.scope = {"archive": archive_id, "recheck": recheck, "space": space.id}
        self._table, self._places = space.table, places

    def _join(self, of_page: str = "") -> sql.Composed:
        """Return the images to be looked at, with all that says so; of_page: of one page only."""
        return sql.SQL(
            """
            from geosearch.image i
            join geosearch.archive a on a.id = i.archive_id
            left join {table} s on s.image_id = i.id {of_page}
            {places}
            where (%(archive)s::int is null or i.archive_id = %(archive)s)
              and (%(recheck)s or s.image_id is null
                   or (i.content_sha256 is not null and s.content_sha256 is distinct from i.content_sha256)
                   or {moved})
            """
        ).format(
            table=self._table,
            of_page=sql.SQL(of_page.format("s")),
            places=_places(of_page) if self._places else sql.SQL(""),
            moved=sql.SQL("m.moved" if self._places else "false"),
        )

    def count(self) -> int:
        """Return how many images are to be looked at: for a progress bar, not for the account."""
        row = self.conn.execute(sql.SQL("select count(*) {}").format(self._join()), self.scope).fetchone()
        assert row is not None
        return int(row[0])

    def pages(self, before_waiting: Callable[[], None], go_on: Callable[[], bool] | None = None) -> Iterator[Page]:
        """Yield every page once, those that another run holds at the end, when it has let them go.

        before_waiting is called first: it must finish and release what this run holds, or two runs wait for each other.
        go_on is called again and again while this waits, and ends it by returning False.
        """
        held_elsewhere: list[int] = []
        after = -(2**63)
        while (first := self._next_id(after)) is not None:
            number = first // PAGE
            after = (number + 1) * PAGE - 1
            if self._try_lock(number):
                yield self._page(number)
            else:
                held_elsewhere.append(number)
        for number in held_elsewhere:
            before_waiting()
            if go_on is None:
                self.conn.execute("select pg_advisory_lock(%s, %s)", [self.lock_key, number])
            else:
                while not self._try_lock(number):
                    if not go_on():
                        return
                    time.sleep(WAIT_S)
            yield self._page(number)

    def release(self, number: int) -> None:
        """Let a page go, when all of it is committed."""
        self.conn.execute("select pg_advisory_unlock(%s, %s)", [self.lock_key, number])

    def _next_id(self, after: int) -> int | None:
        row = self.conn.execute(
            "select min(id) from geosearch.image where id > %(after)s"
            " and (%(archive)s::int is null or archive_id = %(archive)s)",
            {**self.scope, "after": after},
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _try_lock(self, number: int) -> bool:
        row = self.conn.execute("select pg_try_advisory_lock(%s, %s)", [self.lock_key, number]).fetchone()
        return bool(row and row[0])

    def _page(self, number: int) -> Page:
        bounds = {**self.scope, "low": number * PAGE, "high": (number + 1) * PAGE - 1}
        query = sql.SQL(
            "select i.id as image_id, i.archive_id, i.name, i.uri, a.root, s.content_sha256 as stored_sha256, {} {}"
            " and i.id between %(low)s and %(high)s order by i.id"
        ).format(sql.SQL(_PLACE if self._places else _NO_PLACE), self._join(_OF_PAGE))
        with self.conn.transaction():  # one snapshot for both
            self.conn.execute("set transaction isolation level repeatable read, read only")
            images = self.conn.cursor(row_factory=class_row(Missing)).execute(query, bounds).fetchall()
            row = self.conn.execute(
                "select count(*) from geosearch.image where id between %(low)s and %(high)s"
                " and (%(archive)s::int is null or archive_id = %(archive)s)",
                bounds,
            ).fetchone()
        assert row is not None
        return Page(number, images, int(row[0]) - len(images))
