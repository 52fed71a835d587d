"""The statements of a client, their values as named parameters."""

from __future__ import annotations

import json
from typing import Any

from geosearch.search.query import Filters, ground


def values(query: Filters) -> dict[str, Any]:
    """Return what narrows a question as parameters of the statements below."""
    return {
        "area": None if query.area is None else json.dumps(ground(query.area)),
        "lat": query.near.lat if query.near else None,
        "lon": query.near.lon if query.near else None,
        "radius_m": query.radius_km * 1000.0 if query.area is None else 0.0,
        "k": query.k,
        "archive": query.archive,
        "strategy": query.strategy,
        "captured_from": query.captured_from,
        "captured_to": query.captured_to,
        "properties": None if query.properties is None else json.dumps(query.properties),
    }


# One call for the plan and the answers: each candidate is looked at once for the ranking and once to be counted.
SEARCH = """
    with asked as materialized (
        select * from geosearch.search_account(
            %(space)s, %(vector)s::vector,
            case when %(area)s::text is not null then st_geomfromgeojson(%(area)s::text)::geography
                 when %(lat)s::float8 is not null then st_makepoint(%(lon)s, %(lat)s)::geography end,
            %(radius_m)s, %(k)s::int, %(archive)s, %(strategy)s, %(captured_from)s::timestamptz,
            %(captured_to)s::timestamptz,
            case when %(properties)s::jsonb is not null then
                array(select id from geosearch.image where properties @> %(properties)s::jsonb) end)
    )
    select q.chosen, q.estimated, q.candidates, q.returned, b.n::int, i.id, i.name, a.name, 1 - b.distance,
           st_distance(coalesce(i.footprint, i.nadir), case
               when %(area)s::text is not null then st_geomfromgeojson(%(area)s::text)::geography
               when %(lat)s::float8 is not null then st_makepoint(%(lon)s, %(lat)s)::geography end),
           i.uri, a.root, st_asgeojson(coalesce(i.footprint, i.nadir), 6)
    from asked q
    left join lateral unnest(q.ids, q.distances) with ordinality b (id, distance, n) on true
    left join geosearch.image i on i.id = b.id
    left join geosearch.archive a on a.id = i.archive_id
    order by b.n
"""

# As SEARCH.
COMPOSE = """
    with given as materialized (
        select case when %(area)s::text is not null then st_geomfromgeojson(%(area)s::text)::geography
                    when %(lat)s::float8 is not null then st_makepoint(%(lon)s, %(lat)s)::geography end as near,
               case when %(properties)s::jsonb is not null then
                   array(select id from geosearch.image where properties @> %(properties)s::jsonb) end as among
    ), asked as materialized (
        select a.*, g.near
        from given g cross join lateral geosearch.compose_account(
            %(space)s, %(vectors)s::vector[], %(weights)s::float8[], g.near, %(radius_m)s, %(k)s::int, %(population)s,
            %(strategy)s, %(archive)s, %(captured_from)s::timestamptz, %(captured_to)s::timestamptz, g.among, %(late)s,
            %(method)s) a
    )
    select q.chosen, q.moments, q.candidates, q.touched, q.scored, q.means, q.deviations, q.similarities[b.n:b.n],
           b.n::int, i.id, i.name, a.name, 1 - b.tail, st_distance(coalesce(i.footprint, i.nadir), q.near),
           i.uri, a.root, st_asgeojson(coalesce(i.footprint, i.nadir), 6)
    from asked q
    left join lateral unnest(q.ids, q.tails) with ordinality b (id, tail, n) on true
    left join geosearch.image i on i.id = b.id
    left join geosearch.archive a on a.id = i.archive_id
    order by b.n
"""

DEFAULT_LAMBDA = "select geosearch.default_lambda(%s)"

SPACES = """
    select s.name, s.dimension, s.active, m.name, m.weights_sha256, m.preprocessing
    from geosearch.space s left join geosearch.model m on m.id = s.model_id
    where s.embeds = 'image' order by s.name
"""

BY_ID = """
    select i.id, a.name, i.name, i.uri, a.root
    from geosearch.image i join geosearch.archive a on a.id = i.archive_id where i.id = %s
"""

BY_NAME = """
    select i.id, a.name, i.name, i.uri, a.root from geosearch.archive a
    join geosearch.image i on i.archive_id = a.id and i.name in (
        %(like)s, case when starts_with(%(like)s, a.name || '/') then substr(%(like)s, length(a.name) + 2) end)
    order by a.name, i.name
"""
