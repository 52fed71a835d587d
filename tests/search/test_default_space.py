"""Which of several spaces a question means that names none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from geosearch.search.default_space import meant


@dataclass(frozen=True)
class Space:
    name: str
    model: str | None


MINI, FEATURES, COLOURS = Space("demo", "mini-clip"), Space("demo_features", "features:mini-clip"), Space("c", None)
OTHER = Space("other", "remoteclip:RN50")
NADIR, OWN = Space("nadir", "mini-nadir@0123456789ab"), Space("own", "nadir:local-dir:/models/own")


@pytest.mark.parametrize(
    ("spaces", "found"),
    [
        ([MINI, COLOURS, FEATURES], [MINI]),  # what the demo makes
        ([FEATURES, MINI], [MINI]),
        ([COLOURS, FEATURES], [FEATURES]),
        ([FEATURES], [FEATURES]),
        ([COLOURS], [COLOURS]),
        ([MINI, OTHER, FEATURES], [MINI, OTHER]),
        ([MINI, NADIR, OWN, FEATURES], [MINI]),
        ([COLOURS, NADIR], [NADIR]),
        ([NADIR, OWN], [NADIR, OWN]),
        ([], []),
    ],
)
def test_features_and_nadir_aware_models_are_never_meant_beside_another_model(
    spaces: list[Space], found: list[Space]
) -> None:
    assert meant(spaces) == found
