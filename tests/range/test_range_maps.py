"""What a map is drawn from."""

from __future__ import annotations

import numpy as np

from geosearch.range.maps import watched


def test_a_watched_function_answers_alike_and_says_how_far_it_is() -> None:
    said: list[tuple[int, int | None]] = []
    encode = watched(lambda lat, lon: np.stack([lat, lon], 1), lambda done, of: said.append((done, of)), 5)
    places = np.arange(3.0), np.arange(3.0) + 10
    np.testing.assert_array_equal(encode(*places), np.stack(places, 1))
    encode(*places)
    assert said == [(3, 5), (6, 6)]
