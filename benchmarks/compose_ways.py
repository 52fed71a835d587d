"""WeiCom in SQL: as one writes it down, and as geosearch answers it.

The rivals rank by the tail 1 − Φ, as geosearch does, so that equal answers can be asked of all: near the top Φ is 1.
Φ is an SQL function, which PostgreSQL writes into the statement: Numerical Recipes' erfcc, of relative error 1.2e-7.
PostgreSQL 15 has no erf; a function that is called instead costs more.
"""

from __future__ import annotations

from typing import NamedTuple

OURS = "geosearch"

_T = "(1 / (1 + 0.35355339059327373 * abs(z)))"
_SUM = f"{_T} * 0.17087277"
for _number in ("- 0.82215223", "1.48851587", "- 1.13520398", "0.27886807", "- 0.18628806", "0.09678418", "0.37409196",
                "1.00002368"):  # fmt: skip
    _SUM = f"{_T} * ({_number} + {_SUM})"
_HALF = f"0.5 * {_T} * exp(- z * z / 2 - 1.26551223 + {_SUM})"
# In the second form t is given, computed once; PostgreSQL would write its expression ten times.
_GIVEN = _HALF.replace(_T, "t")
PHI = f"""
create or replace function byhand.tail(z float8) returns float8 language sql immutable parallel safe
as $$ select case when z >= 0 then {_HALF} else 1 - {_HALF} end $$;
create or replace function byhand.tail_given(z float8, t float8) returns float8 language sql immutable parallel safe
as $$ select case when z >= 0 then {_GIVEN} else 1 - {_GIVEN} end $$;
"""

# exp refuses what underflows, hence least(37, …).
_ROWS = """select s.image_id, 1 - (s.embedding <=> %(image)s::halfvec({d})) as si,
           1 - (s.embedding <=> %(text)s::halfvec({d})) as st
    from geosearch.space_{space} s{within}"""
_WITHIN = """ join geosearch.image i on i.id = s.image_id
    where st_dwithin(coalesce(i.footprint, i.nadir), st_makepoint(%(lon)s, %(lat)s)::geography, %(radius)s)"""
_WINDOW = """
select image_id, (1 - %(lam)s) * byhand.tail(least(37, (si - avg(si) over ()) / stddev_samp(si) over ()))
                 + %(lam)s * byhand.tail(least(37, (st - avg(st) over ()) / stddev_samp(st) over ())) as tail
from ({rows}) s order by tail, image_id limit %(k)s"""
_WINDOW_THEN = """
select * from (
    select image_id, (1 - %(lam)s) * byhand.tail(least(37, (si - avg(si) over ()) / stddev_samp(si) over ()))
                     + %(lam)s * byhand.tail(least(37, (st - avg(st) over ()) / stddev_samp(st) over ())) as tail
    from ({all}) s) s join geosearch.image i on i.id = s.image_id
where st_dwithin(coalesce(i.footprint, i.nadir), st_makepoint(%(lon)s, %(lat)s)::geography, %(radius)s)
order by tail, image_id limit %(k)s"""
_STATISTICS = """
with s as materialized ({over}),
m as (select avg(si) as ai, stddev_samp(si) as di, avg(st) as at, stddev_samp(st) as dt from s)"""
_CTE = (
    _STATISTICS
    + """
select s.image_id, (1 - %(lam)s) * byhand.tail(least(37, (si - ai) / di))
                   + %(lam)s * byhand.tail(least(37, (st - at) / dt)) as tail
from s cross join m{then} order by tail, s.image_id limit %(k)s"""
)
_STEPS = (
    _STATISTICS
    + """,
z as materialized (
    select s.image_id, least(37, (si - ai) / di) as zi, least(37, (st - at) / dt) as zt from s cross join m{then}),
t as materialized (
    select image_id, zi, zt, 1 / (1 + 0.35355339059327373 * abs(zi)) as ti,
           1 / (1 + 0.35355339059327373 * abs(zt)) as tt
    from z)
select image_id, (1 - %(lam)s) * byhand.tail_given(zi, ti) + %(lam)s * byhand.tail_given(zt, tt) as tail
from t order by tail, image_id limit %(k)s"""
)
_COMPOSE = """
select image_id from geosearch.compose('{space}', %(image)s::vector, %(text)s::vector, %(lam)s{near}, k => %(k)s,
    strategy => '{strategy}', population => %(population)s) order by rank"""
_NEAR = ", near => st_makepoint(%(lon)s, %(lat)s)::geography, radius_m => %(radius)s"


class Way(NamedTuple):
    """about: for the reader. form: of its statement. exact: whether its answers must be right. workers: in parallel."""

    about: str
    form: str
    exact: bool = True
    strategy: str = ""
    workers: str = "default"


WAYS = {
    "window functions": Way("mean and deviation as window functions, Φ in the same statement", "window"),
    "CTE": Way("both similarities in a materialised CTE, their statistics from it, then Φ", "cte"),
    "CTE, no workers": Way("the same without parallel workers", "cte", workers="0"),
    "CTE, Φ in steps": Way("the same, what Φ needs of each z computed once in further CTEs", "steps"),
    f"{OURS}, exact": Way("strategy exact", "compose", strategy="exact"),
    f"{OURS}, fast": Way("strategy fast", "compose", exact=False, strategy="fast"),
    f"{OURS}, auto": Way("strategy auto", "compose", exact=False, strategy="auto"),
}


def statement(way: Way, circle: bool, population: str, space: str, dimension: int) -> str:
    """Return the statement of a way. circle: near a place; population: space or candidates, of the statistics."""
    if way.form == "compose":
        return _COMPOSE.format(space=space, near=_NEAR if circle else "", strategy=way.strategy)
    everything = _ROWS.format(d=dimension, space=space, within="")
    over = _ROWS.format(d=dimension, space=space, within=_WITHIN) if population == "candidates" else everything
    later = circle and population == "space"
    if way.form == "window":
        return _WINDOW_THEN.format(all=everything) if later else _WINDOW.format(rows=over)
    form = _CTE if way.form == "cte" else _STEPS
    return form.format(over=over, then=_WITHIN.replace("\n    ", " ") if later else "")
