"""geosearch.tail, its inverse and the bound, against math.erfc and the Python that they are written after."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.polynomial import chebyshev, polynomial

from geosearch.compose.bound import least_combined
from geosearch.compose.normal import tail

SQL = (Path(__file__).resolve().parents[2] / "sql" / "81_normal.sql").read_text("utf-8")


def log_ratio(v: float) -> float:
    """ln(4 Q(z) exp(x²) / (v + 1)) with x = z / √2 and v = 4 / (2 + x) − 1: what the polynomial stands for."""
    x = 4 / (v + 1) - 2
    if x < 20:
        return math.log(2 * math.erfc(x)) + x * x - math.log(v + 1)
    fraction = 0.0  # Laplace's continued fraction: erfc(x) exp(x²) √π = 1 / (x + (1/2) / (x + (2/2) / (x + …)))
    for n in range(80, 0, -1):
        fraction = n / 2 / (x + fraction)
    return math.log(2 / math.sqrt(math.pi) / (x + fraction)) - math.log(v + 1)


def test_the_polynomial_is_the_one_that_a_fit_gives():
    """Chebyshev's at 400 nodes; powers of v magnify how erfc is rounded there, what they sum up to does not."""
    nodes = np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    fitted = chebyshev.cheb2poly(chebyshev.chebfit(nodes, [log_ratio(v) for v in nodes.tolist()], 20))
    body = SQL[SQL.index("exp(-z * z / 2") :]
    written = [float(sign + digits) for sign, digits in re.findall(r"([+-]?) ?(\d\.\d{14})", body.split(";")[0])]
    assert len(written) == 21
    np.testing.assert_allclose(written[::-1], fitted, rtol=0, atol=1e-8)
    grid = np.linspace(-1, 1, 2001)[1:]
    ours = polynomial.polyval(grid, np.array(written[::-1]))
    np.testing.assert_allclose(ours, [log_ratio(v) for v in grid.tolist()], atol=1e-12)


def test_q_is_right_to_ten_digits(conn):
    z = np.concatenate([np.linspace(-40, 37, 3001), np.random.default_rng(1).standard_normal(500), [1e-300, -5e-324]])
    found = conn.execute("select array_agg(geosearch.tail(z) order by n) from unnest(%s) with ordinality u (z, n)",
                         [z.tolist()]).fetchone()[0]  # fmt: skip
    np.testing.assert_allclose(found, tail(z), rtol=1e-10)


@pytest.mark.parametrize(
    ("z", "expected"),
    [("37.6", 0.0), ("1e308", 0.0), ("infinity", 0.0), ("-41", 1.0), ("-infinity", 1.0), ("0", 0.5)],
)
def test_q_at_its_ends_is_no_error(conn, z, expected):
    assert conn.execute("select geosearch.tail(%s::float8)", [z]).fetchone()[0] == expected


def test_what_is_no_number_has_none(conn):
    row = conn.execute(
        "select geosearch.tail('NaN'), geosearch.tail(null), geosearch.tail_inverse('NaN'),"
        " geosearch.tail_inverse(null)"
    ).fetchone()
    assert math.isnan(row[0]) and row[1] is None and math.isnan(row[2]) and row[3] is None


def test_the_inverse_goes_back(conn):
    p = np.concatenate([10.0 ** np.linspace(-300, -0.31, 500), np.linspace(0.01, 0.99, 99), [0.5]])
    found = np.array(
        conn.execute(
            "select array_agg(geosearch.tail_inverse(p) order by n) from unnest(%s) with ordinality u (p, n)",
            [p.tolist()],
        ).fetchone()[0]
    )
    np.testing.assert_allclose(tail(found), p, rtol=1e-9)
    ends = conn.execute(
        "select geosearch.tail_inverse(0), geosearch.tail_inverse(-1), geosearch.tail_inverse(1),"
        " geosearch.tail_inverse(2), geosearch.tail_inverse(1e-308)"
    ).fetchone()
    assert ends == (math.inf, math.inf, -math.inf, -math.inf, 37.5)
    # To its very end: a bound above a row's own z would lose that row.
    last = conn.execute(
        "select max(geosearch.tail_inverse(geosearch.tail(z)) - z) from generate_series(37.4, 37.5, 0.0001) s,"
        " lateral (select s::float8) l (z)"
    ).fetchone()[0]
    assert last < 1e-8


def test_the_bound_is_the_one_of_python(conn):
    rng = np.random.default_rng(8)
    for case in range(300):
        weights = rng.uniform(0, 1, rng.integers(1, 7)) ** rng.choice([1, 4])
        weights = weights / weights.sum() * rng.choice([1, 0.7])
        if case % 3 == 0:
            weights = np.full(len(weights), 1 / len(weights))
        worst, lowest = float(10 ** rng.uniform(-12, 0)), float(-rng.uniform(0.5, 40))
        mine = conn.execute(
            "select geosearch.least_combined(%s, %s, %s)", [worst, weights.tolist(), lowest]
        ).fetchone()[0]  # fmt: skip
        assert mine == pytest.approx(least_combined(worst, weights.tolist(), lowest), rel=1e-7, abs=1e-7), (
            worst, weights, lowest,
        )  # fmt: skip
    assert conn.execute("select geosearch.least_combined(0.2, '{}', -9)").fetchone()[0] == -math.inf
