"""Names of nadir-aware models, parsed into a Spec.

    mini-nadir                                             the nadir-aware model that comes with geosearch
    nadir:local-dir:/folder                                a folder with nadir.json and its weights, as training writes
    nadir:vit_small_patch14_reg4_dinov2.lvd142m/small/file:/path.safetensors
                                                           the whole model's weights: a tower of timm, SALAD's size
                                                           (small, base, large or full) and a file

Any may end in `@` and the first digits of the weights' SHA-256. Options of a file: `size=224` (pixels a side) and
those of `names`; DINOv2's towers take ImageNet's normalisation, others must state theirs.
"""

from __future__ import annotations

from pathlib import Path

from geosearch.encoders.file_options import NORMS, UNSTATED, query_of, read_file
from geosearch.encoders.spec import Spec, pin, shipped, split_pin
from geosearch.errors import ModelError, UnknownNameError

MINI_NADIR, NADIR = "mini-nadir", "nadir"
FAMILIES = (MINI_NADIR, NADIR)
SIZES = ("small", "base", "large", "full")
FORMS = [MINI_NADIR, f"{NADIR}:local-dir:PATH", f"{NADIR}:TOWER/SIZE/file:PATH"]


def parse(name: str) -> Spec | None:
    """Return what a name of these families means, None for a name of others.

    Raises UnknownNameError for a size of SALAD that is none, ModelError for options that are none.
    """
    bare, pinned = split_pin(name)
    if bare == MINI_NADIR:
        return Spec(name, MINI_NADIR, folder=shipped(MINI_NADIR), pinned=pinned)
    family, _, rest = bare.partition(":")
    if family != NADIR or not rest:
        return None
    if rest.startswith("local-dir:"):
        if rest == "local-dir:":
            return None
        folder = Path(rest.removeprefix("local-dir:")).expanduser().absolute()
        return Spec(pin(f"{NADIR}:local-dir:{folder}", pinned), NADIR, folder=folder, pinned=pinned)
    tower, _, sized = rest.partition("/")
    size, _, source = sized.partition("/")
    if not tower or not source.startswith("file:") or source == "file:":
        return None
    if size not in SIZES:
        raise UnknownNameError("size of SALAD", size, list(SIZES), f"Write {FORMS[-1]}.")
    file, options = read_file(name, source, also=("size",))
    if "mean" not in options:
        if "dinov2" not in tower:
            raise ModelError(f"{name}: {UNSTATED}")
        options["mean"], options["std"] = NORMS["imagenet"]
    spelled = f"{NADIR}:{tower}/{size}/file:{file}{query_of(source)}"
    return Spec(
        pin(spelled, pinned), NADIR, tower, file=file, options={"size": 224, **options, "salad": size}, pinned=pinned
    )


def is_nadir(name: str) -> bool:
    """Tell whether a name is one of a nadir-aware model."""
    return split_pin(name)[0] == MINI_NADIR or name.startswith(f"{NADIR}:")
