"""What a caller may say about a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from geosearch.errors import InputError


@dataclass(frozen=True)
class Options:
    """Options of the readers; each reader says which it understands (`geosearch catalog readers`)."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """What the source's columns are called: {"lat": "LATITUDE"}."""
    longitudes: Literal["180", "360"] = "180"
    """How a table counts longitudes: −180 … 180, or 0 … 360. Never guessed."""
    reach_km: float | None = None
    """How far an image without a footprint may lie from its recorded place; None: 2 500 km."""
    files: Path | None = None
    """A folder with the image files that the source names, found by file name."""
    layer: str | None = None
    """The layer of a GeoPackage with several."""
    asset: str | None = None
    """The key of the STAC asset that is the image."""
    placeless: bool = False
    """Take photographs whose file says no place."""

    def __post_init__(self) -> None:
        if self.longitudes not in ("180", "360"):
            raise InputError(f"longitudes are counted to '180' or to '360', not to {self.longitudes!r}")
        if self.reach_km is not None and not 0 <= self.reach_km <= 20_040:
            raise InputError(f"a reach of {self.reach_km} km is not within 0 … 20040 km, half the Earth's girth")
        object.__setattr__(self, "files", None if self.files is None else Path(self.files).absolute())
        if self.files is not None and not self.files.is_dir():
            raise InputError(f"{self.files} is not a folder of image files")

    def given(self) -> set[str]:
        """Return the names of the options that differ from their defaults."""
        default = Options()
        return {f.name for f in fields(self) if getattr(self, f.name) != getattr(default, f.name)}
