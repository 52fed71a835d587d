"""Names of location encoders, parsed into a Spec.

    mini-location                                  the location encoder that comes with geosearch
    satclip:ViT16-L40                              SatCLIP's published checkpoint
    satclip:ViT16-L40/file:/path.ckpt              the same from a file of your own
    satclip:local-dir:/folder                      a folder with location.json and its weights
    geoclip                                        GeoCLIP's published location encoder
    geoclip/file:/path.pth                         the same from a file of your own
    coordinates:harmonics-10                       coordinates alone, without weights: a baseline

Any may end in `@` and the first digits of the weights' SHA-256.
"""

from __future__ import annotations

from pathlib import Path

from geosearch.encoders.spec import Published, Spec, pin, shipped, split_pin
from geosearch.errors import UnknownNameError

MINI_LOCATION, SATCLIP, GEOCLIP, COORDINATES = "mini-location", "satclip", "geoclip", "coordinates"
FAMILIES = (MINI_LOCATION, SATCLIP, GEOCLIP, COORDINATES)
SATCLIP_ARCHITECTURES = tuple(f"{vision}-L{n}" for vision in ("ViT16", "ResNet18", "ResNet50") for n in (10, 40))
FORMS = [MINI_LOCATION, *(f"{SATCLIP}:{a}" for a in SATCLIP_ARCHITECTURES), f"{SATCLIP}:local-dir:PATH", GEOCLIP,
         f"{COORDINATES}:KIND"]  # fmt: skip
_GEOCLIP_FILE = "geoclip/model/weights/location_encoder_weights.pth"


def parse(name: str) -> Spec | None:
    """Return what a name of these families means, None for a name of others.

    Raises UnknownNameError with the names that exist.
    """
    bare, pinned = split_pin(name)
    head, _, source = bare.partition("/file:")
    family, _, rest = head.partition(":")
    file = Path(source).expanduser().absolute() if source else None
    tail = f"/file:{file}" if file else ""
    if bare == MINI_LOCATION:
        return Spec(name, MINI_LOCATION, folder=shipped(MINI_LOCATION), pinned=pinned)
    if bare.startswith(f"{SATCLIP}:local-dir:") and rest != "local-dir:":
        folder = Path(bare.removeprefix(f"{SATCLIP}:local-dir:")).expanduser().absolute()
        return Spec(pin(f"{SATCLIP}:local-dir:{folder}", pinned), SATCLIP, folder=folder, pinned=pinned)
    if family == SATCLIP:
        if rest not in SATCLIP_ARCHITECTURES or (bare != head and not source):
            raise UnknownNameError("SatCLIP encoder", bare.removeprefix(f"{SATCLIP}:"), list(SATCLIP_ARCHITECTURES),
                                   "Write satclip:ViT16-L40, satclip:ViT16-L40/file:/path.ckpt, or "
                                   "satclip:local-dir:/folder.")  # fmt: skip
        stem = f"satclip-{rest.lower()}"
        published = Published(stem, f"{stem}.ckpt", f"microsoft/SatCLIP-{rest}")
        return Spec(
            pin(f"{SATCLIP}:{rest}{tail}", pinned), SATCLIP, rest, file=file, pinned=pinned, published=published
        )
    if head == GEOCLIP and (bare == head or source):
        published = Published(GEOCLIP, "location_encoder_weights.pth", place=f"{_GEOCLIP_FILE} of GeoCLIP's package "
                              "(github.com/VicenteVivan/geo-clip, or pip's geoclip)",
                              package=("geoclip", _GEOCLIP_FILE.removeprefix("geoclip/")))  # fmt: skip
        return Spec(pin(f"{GEOCLIP}{tail}", pinned), GEOCLIP, file=file, pinned=pinned, published=published)
    if family == COORDINATES:
        from geosearch.encoders.baselines import features_of, kinds

        if features_of(rest) is None or bare != head:
            raise UnknownNameError("encoder of coordinates", bare.partition(":")[2], kinds(),
                                   "Harmonics have any degree from 1 to 40.")  # fmt: skip
        return Spec(name, COORDINATES, rest, pinned=pinned)
    return None
