"""What may be asked, and how the rest is refused."""

import numpy as np
import pytest

from geosearch.errors import InputError
from geosearch.item import Place
from geosearch.search.query import Query, parse_place, unit_vector


@pytest.mark.parametrize(
    ("text", "lat", "lon"),
    [
        ("48.2,16.4", 48.2, 16.4),
        ("-3,-60", -3, -60),
        (" -3 , -60.5 ", -3, -60.5),
        ("90,180", 90, 180),
        ("0,-180", 0, -180),
    ],
)
def test_places_as_people_write_them(text, lat, lon):
    assert parse_place(text) == Place(lat, lon)


@pytest.mark.parametrize("text", ["", "48", "48,16,3", "north,east", "48.2 16.4", "91,0", "0,181", "nan,0", "0,inf"])
def test_what_is_no_place_is_refused(text):
    with pytest.raises(InputError, match=r"place|latitude|longitude"):
        parse_place(text)


def test_exactly_one_way_to_ask():
    with pytest.raises(InputError, match="none was given"):
        Query.of()
    with pytest.raises(InputError, match="text and like were given"):
        Query.of(text="a", like="b")
    assert Query.of(text="a").text == "a"
    assert Query.of(vector=[1, 2]).vector is not None


def test_whole_numbers_of_numpy_are_whole_numbers():
    asked = Query.of(like=np.int64(7), k=np.int32(3))
    assert (asked.like, asked.k) == (7, 3)
    assert type(asked.k) is int  # the driver sends NumPy's small ones as smallint


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "  "},
        {"image": "/no/such/file.jpg"},
        {"text": "a", "radius_km": -1},
        {"text": "a", "radius_km": float("nan")},
        {"text": "a", "radius_km": float("inf")},
        {"text": "a", "k": 0},
        {"text": "a", "k": 2.5},
        {"text": "a", "k": True},
        {"text": 5},
        {"text": "a", "archive": 5},
        {"text": "a", "archive": "\0"},
        {"like": "a\0b"},
        {"like": 1.5},
        {"image": 5},
        {"text": "a", "k": 2**31},
        {"text": "a", "strategy": "fastest"},
        {"text": "a", "near": "48,16"},
        {"text": "a", "near": (91, 0)},
        {"text": "a", "near": (1, 2, 3)},
        {"vector": []},
        {"vector": [0.0, 0.0]},
        {"vector": [1.0, float("nan")]},
        {"vector": [[1.0, 2.0]]},
        {"vector": ["a"]},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(wrong):
    with pytest.raises(InputError):
        Query.of(**wrong)


def test_vectors_are_scaled_to_length_one():
    np.testing.assert_allclose(unit_vector([3, 4]), [0.6, 0.8], rtol=1e-7)
    # Tiny and huge ones too, which float32 alone could not square.
    np.testing.assert_allclose(unit_vector([3e-30, 4e-30]), [0.6, 0.8], rtol=1e-6)
