"""What the shapes of SALAD and of the nadir's encoder may be."""

from __future__ import annotations

from geosearch.errors import ModelError

MOST = 16_000  # clusters, channels, frequencies: as many numbers as a vector of pgvector may have


def check_count(name: str, value: object) -> None:
    """Raise ModelError for what is no sensible number of clusters, channels or frequencies."""
    if type(value) is not int or not 1 <= value <= MOST:
        raise ModelError(f"{name} must be a whole number from 1 to {MOST}, it is {value!r}")


def check_patches(patches: int, clusters: int) -> None:
    """Raise ModelError where there are no more patches than clusters."""
    if patches <= clusters:
        raise ModelError(
            f"SALAD shares {patches} patches out to {clusters} clusters: there must be more patches; "
            "use larger pictures or fewer clusters"
        )
