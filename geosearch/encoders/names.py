"""Model names: what each form means, parsed into a Spec. Nothing is loaded here.

    mini-clip                                          the model that comes with geosearch
    remoteclip:ViT-B-32                                RemoteCLIP's published checkpoint
    remoteclip:ViT-B-32/file:/path.pt                  the same from a file of your own
    open_clip:ViT-B-32/laion2b_s34b_b79k               any architecture and tag of open_clip
    open_clip:ViT-B-32/file:/path.pt?norm=openai       weights in a file; their normalisation must be stated
    open_clip:local-dir:/folder                        a folder with open_clip_config.json and its weights
    features:mini-clip                                 the image tower of any of these, before its projection

`location_names` has those of location encoders, `nadir_names` those of nadir-aware models. Any may end in `@` and the
first digits (8 or more) of the weights' SHA-256, which are then insisted upon.
Options of a file: `norm=openai|imagenet|inception` or `mean=r,g,b&std=r,g,b`; `interpolation=bicubic|bilinear`,
`resize_mode=shortest|longest|squash`, `quick_gelu=true|false`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from geosearch.encoders import location_names, nadir_names
from geosearch.encoders.file_options import UNSTATED, query_of, read_file
from geosearch.encoders.spec import Spec, pin, shipped, split_pin
from geosearch.errors import ModelError, UnknownNameError

MINI_CLIP, FEATURES = "mini-clip", "features"
REMOTECLIP = ("RN50", "ViT-B-32", "ViT-L-14")
FORMS = [MINI_CLIP, *(f"remoteclip:{a}" for a in REMOTECLIP), "open_clip:ARCHITECTURE/TAG",
         "open_clip:ARCHITECTURE/file:PATH?norm=…", "open_clip:local-dir:PATH", f"{FEATURES}:MODEL",
         *location_names.FORMS, *nadir_names.FORMS]  # fmt: skip


def parse(name: str) -> Spec:
    """Return what a name means; raises UnknownNameError with the forms that exist, ModelError for wrong options."""
    other = location_names.parse(name) or nadir_names.parse(name)
    if other is not None:
        return other
    if name.startswith(f"{FEATURES}:"):
        return _features(name)
    bare, pinned = split_pin(name)
    if bare == MINI_CLIP:
        return Spec(name, MINI_CLIP, folder=shipped(MINI_CLIP), pinned=pinned)
    family, _, rest = bare.partition(":")
    if family == "open_clip" and rest.startswith("local-dir:") and rest != "local-dir:":
        folder = Path(rest.removeprefix("local-dir:")).expanduser().absolute()
        return Spec(pin(f"open_clip:local-dir:{folder}", pinned), family, folder=folder, pinned=pinned)
    architecture, _, source = rest.partition("/")
    if family == "remoteclip" and architecture in REMOTECLIP and (not source or source.startswith("file:")):
        file, options = read_file(name, source) if source else (None, {})
        canonical = f"remoteclip:{architecture}" + (f"/file:{file}" if file else "")
        spelled = canonical + query_of(source)
        return Spec(pin(spelled, pinned), family, architecture, None, file, None, options, pinned)
    if family == "open_clip" and architecture and source.startswith("file:"):
        file, options = read_file(name, source)
        if "mean" not in options:
            raise ModelError(f"{name}: {UNSTATED} (open_clip would take OpenAI's silently)")
        spelled = f"open_clip:{architecture}/file:{file}" + query_of(source)
        return Spec(pin(spelled, pinned), family, architecture, None, file, None, options, pinned)
    if family == "open_clip" and architecture and source:
        return Spec(name, family, architecture, source, pinned=pinned)
    raise unknown(name)


def unknown(name: str, close: list[str] | None = None) -> UnknownNameError:
    """Return the error for a name that means nothing; close: names that resemble it."""
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return UnknownNameError("model", name, FORMS, f"{hint}`geosearch model list --all` shows every tag.")


def _features(name: str) -> Spec:
    base = parse(name.removeprefix(f"{FEATURES}:"))
    if base.family not in (MINI_CLIP, "remoteclip", "open_clip"):
        raise ModelError(f"{name}: {base.name} has no image tower; name mini-clip, remoteclip:… or open_clip:…")
    return replace(base, name=f"{FEATURES}:{base.name}", family=FEATURES)
