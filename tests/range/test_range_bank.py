"""What no bank may be made of: refused with the row named."""

from __future__ import annotations

import numpy as np
import pytest
from toy_bank import random_bank

from geosearch.errors import InputError
from geosearch.range.bank import Bank, check_arrays


def arrays(n: int = 6) -> dict[str, np.ndarray]:
    bank = random_bank(n, 4, 5)
    return {"lat": bank.lat.copy(), "lon": bank.lon.copy(), "keys": bank.keys * 3, "values": bank.values.copy()}


def test_keys_come_to_unit_length_and_values_stay() -> None:
    given = arrays()
    bank = Bank.of("b", "e", **given)
    np.testing.assert_allclose(np.linalg.norm(bank.keys, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(bank.values, given["values"])
    assert (len(bank), bank.dimension) == (6, 9)
    some = bank.take(np.array([4, 2]), {"share": 0.3})
    np.testing.assert_array_equal(some.lat, given["lat"][[4, 2]])
    assert some.properties == {"share": 0.3}


@pytest.mark.parametrize(
    ("array", "row", "value", "said"),
    [
        ("lat", 4, 90.001, "row 4: latitude 90.001"),
        ("lat", 2, np.nan, "row 2: latitude nan"),
        ("lon", 3, -180.5, "row 3: longitude -180.5"),
        ("keys", 5, np.nan, "row 5: its key holds NaN"),
        ("keys", 1, 0.0, "row 1: its key is zero"),
        ("values", 0, np.inf, "row 0: its value holds NaN or a number too large"),
    ],
)
def test_a_bad_row_is_named(array: str, row: int, value: float, said: str) -> None:
    given = arrays()
    given[array][row] = value
    with pytest.raises(InputError, match=said):
        check_arrays(**given)


def test_a_double_that_float4_cannot_hold_is_refused() -> None:
    given = arrays()
    given["values"] = given["values"].astype(np.float64)
    given["values"][2, 1] = 1e300
    with pytest.raises(InputError, match="row 2: its value"):
        check_arrays(**given)


def test_duplicates_are_a_place_and_a_key_together() -> None:
    given = arrays()
    given["lat"][5], given["lon"][5] = given["lat"][2], given["lon"][2]
    check_arrays(**given)  # two looks at one place
    given["keys"][5] = given["keys"][2]
    with pytest.raises(InputError, match="row 2 and row 5 are the same place"):
        check_arrays(**given)
    with pytest.raises(InputError, match="c and f are the same place"):
        check_arrays(**given, labels="abcdef")


def test_lengths_and_sizes() -> None:
    given = arrays()
    for name, said in (("lon", "6 latitudes, but 5 longitudes"), ("values", "6 latitudes, but 5 values")):
        with pytest.raises(InputError, match=said):
            check_arrays(**{**given, name: given[name][:5]})
    with pytest.raises(InputError, match="image ids of shape"):
        check_arrays(**given, image_ids=[1, 2])
    with pytest.raises(InputError, match="keys have 1 to 1900 numbers, not 1901"):
        check_arrays(**{**given, "keys": np.ones((6, 1901))})
    with pytest.raises(InputError, match="values have 2 axes"):
        check_arrays(**{**given, "values": np.ones(6)})
    with pytest.raises(InputError, match="at least one place"):
        check_arrays([], [], np.empty((0, 3)), np.empty((0, 3)))
    with pytest.raises(InputError, match="keys are numbers, not object"):
        check_arrays(**{**given, "keys": given["keys"].astype(object)})
