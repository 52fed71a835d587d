"""A distance prior with its weight beside a cosine: fitted on photographs of which the right tiles are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geosearch.geometry import Floats
from geosearch.nadir.prior import Blend, DistancePrior


@dataclass(frozen=True)
class FittedPrior:
    """A `nadir_ways.Prior`: cosine + weight / sharpness · log-ratio of the distance."""

    distance: DistancePrior
    blend: Blend

    def score(self, cosine: Floats, distance_m: Floats) -> Floats:
        """Return scores of the shape of both."""
        return self.blend.score(cosine, self.distance.log_ratio(distance_m))


Priors = Mapping[str, FittedPrior]  # by way: "prior", "concat+prior"
