"""What may be asked in a composed question, how it is weighed, and how the rest is refused."""

import numpy as np
import pytest
from PIL import Image

from geosearch.errors import InputError
from geosearch.search.compose import Composition
from geosearch.search.query import parse_place

TEXT, OTHER, UNWANTED = "a desert", "the sea", "clouds"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"text": "  "},
        {"text": 5},
        {"without": [TEXT, ""]},
        {"text": [None]},
        {"text": "a\0b"},
        {"like": [None]},
        {"like": 1.5},
        {"like": [b"a"]},
        {"like": True},
        {"image": "/no/such/file.jpg"},
        {"image": [5]},
        {"image": 5},
        {"text": TEXT, "lam": 1.01},
        {"text": TEXT, "lam": -0.1},
        {"text": TEXT, "lam": float("nan")},
        {"text": TEXT, "lam": "0.5"},
        {"text": TEXT, "lam": True},
        {"text": TEXT, "lam": 10**400},
        {"text": TEXT, "weights": [1, 2]},
        {"text": TEXT, "weights": []},
        {"text": TEXT, "weights": [0]},
        {"text": TEXT, "weights": [-1]},
        {"text": TEXT, "weights": ["x"]},
        {"text": TEXT, "weights": [float("inf")]},
        {"text": TEXT, "weights": [float("nan")]},
        {"text": [TEXT, OTHER], "weights": [1e308, 1e308]},
        {"image": Image.new("RGB", (0, 3))},
        {"text": TEXT, "weights": 5.5},
        {"text": TEXT, "weights": [1], "lam": 0.5},
        {"text": TEXT, "method": "median"},
        {"text": TEXT, "method": "image"},
        {"like": "a", "method": "text"},
        {"text": TEXT, "population": "all"},
        {"text": TEXT, "late": "ignore"},
        {"text": TEXT, "strategy": "hnsw"},
        {"text": TEXT, "k": 0},
        {"text": TEXT, "radius_km": -1},
        {"text": TEXT, "near": (91, 0)},
        {"text": TEXT, "archive": 5},
        {"text": TEXT, "captured_from": "2024-02-01", "captured_to": "2024-02-01"},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_refused(wrong):
    with pytest.raises(InputError):
        Composition.of(**wrong)


def test_one_and_several_are_the_same_question():
    assert Composition.of(text=TEXT, like=np.int64(7)) == Composition.of(text=[TEXT], like=(7,))
    assert Composition.of(text=TEXT, near=(46, 8)).near == parse_place("46,8")


def test_weights_are_signed_and_sum_to_one():
    for given in (
        {"text": [TEXT, OTHER], "without": UNWANTED, "like": ["a", "b"], "lam": 0.25},
        {"text": [TEXT, OTHER], "without": UNWANTED, "like": ["a", "b"], "weights": [1, 2, 3, 4, 5]},
        {"text": [TEXT, OTHER], "without": UNWANTED, "like": ["a", "b"], "method": "text"},
        {"without": UNWANTED},
        {"like": ["a", "b"]},
    ):
        asked = Composition.of(**given)
        weights = asked.shares(0.5)
        assert sum(map(abs, weights)) == pytest.approx(1)
        assert all((weight < 0) == (part.kind == "without") for weight, part in zip(weights, asked.parts, strict=True))
