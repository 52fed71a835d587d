"""Where a model's weights lie: found offline first, fetched only when downloads are allowed, named by their hash."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geosearch.encoders.spec import Spec
from geosearch.errors import ModelError, WeightsError

# Formats that hold tensors and nothing that runs: .pt, .pth and .bin are opened with weights_only=True.
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
CHECKPOINT = ".ckpt"  # PyTorch Lightning's, of the weights that `Spec.published` names
REMOTECLIP_HUB = "chendelong/RemoteCLIP"


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; remembered until the file changes."""
    facts = path.stat()
    return _sha256(str(path), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(spec: Spec, tag: dict[str, Any] | None = None) -> Path:
    """Return the weights file of a model, fetching it only if the setting `allow_downloads` says so.

    tag: open_clip's entry for the pretrained tag. Raises WeightsError, whose message says how to get them.
    """
    path = find_local(spec, tag)
    if path is None:
        path = _fetch(spec, tag)
    known = _suffixes(spec)
    if path.suffix not in known:
        raise WeightsError(f"{spec.name}: {path} is none of {', '.join(known)}; convert it to safetensors")
    if spec.pinned and not sha256(path).startswith(spec.pinned):
        raise WeightsError(
            f"{spec.name}: the weights at {path} have SHA-256 {sha256(path)[:12]}…, not {spec.pinned}…; "
            "put the file of that hash there, or name the model without @ to use what is there"
        )
    return path


def find_local(spec: Spec, tag: dict[str, Any] | None = None) -> Path | None:
    """Return the weights file if it is on this machine, else None; WeightsError if a named file or folder is not."""
    if spec.folder is not None:
        return _in_folder(spec)
    if spec.file is not None:
        if not spec.file.is_file():
            raise WeightsError(f"{spec.name}: there is no file {spec.file}; give the path of the weights")
        return spec.file
    stem = _stem(spec)
    for suffix in _suffixes(spec):
        path = home_weights() / f"{stem}{suffix}"
        if path.is_file():
            return path
    repository, names, url = _remote(spec, tag)
    if repository:
        from huggingface_hub import try_to_load_from_cache

        for name in names:
            cached = try_to_load_from_cache(repository, name)
            if isinstance(cached, str):
                return Path(cached)
    if spec.published and spec.published.package:
        library, inside = spec.published.package
        found = find_spec(library)  # looks for it without importing it
        for folder in (found and found.submodule_search_locations) or ():
            if (Path(folder) / inside).is_file():
                return Path(folder) / inside
    if url:
        path = Path.home() / ".cache" / "clip" / url.rpartition("/")[2]
        if path.is_file():
            return path
    return None


def home_weights() -> Path:
    """Return the folder where weights that the user fetched are looked for."""
    from geosearch.settings import settings

    return settings().home / "weights"


def _suffixes(spec: Spec) -> tuple[str, ...]:
    return (*SUFFIXES, CHECKPOINT) if spec.published else SUFFIXES


def _stem(spec: Spec) -> str:
    if spec.published:
        return spec.published.stem
    return f"RemoteCLIP-{spec.architecture}" if spec.family == "remoteclip" else f"{spec.architecture}-{spec.tag}"


def _remote(spec: Spec, tag: dict[str, Any] | None) -> tuple[str, list[str], str]:
    """Return (hub repository, names of the file there, best first; address elsewhere), empty where there is none."""
    if spec.published:
        return spec.published.repository, [spec.published.file], ""
    if spec.family == "remoteclip":
        return REMOTECLIP_HUB, [f"RemoteCLIP-{spec.architecture}.pt"], ""
    hub, url = (tag or {}).get("hf_hub", ""), (tag or {}).get("url", "")
    if not hub:
        return "", [], url
    repository, _, name = hub.rpartition("/")
    if not name:
        return repository, ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"], url
    return repository, [str(Path(name).with_suffix(".safetensors")), name], url


def _in_folder(spec: Spec) -> Path:
    folder = spec.folder
    assert folder is not None
    if not folder.is_dir():
        remedy = "reinstall geosearch" if spec.family.startswith("mini-") else "give the folder of the model"
        raise WeightsError(f"{spec.name}: there is no folder {folder}; {remedy}")
    found = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES)
    if len(found) != 1:  # open_clip would choose one by itself
        what = f"{len(found)} weights files ({', '.join(p.name for p in found)})" if found else "no weights file"
        raise WeightsError(f"{spec.name}: {folder} holds {what}; there must be one, of {', '.join(SUFFIXES)}")
    return found[0]


def _fetch(spec: Spec, tag: dict[str, Any] | None) -> Path:
    from geosearch.settings import settings

    repository, names, url = _remote(spec, tag)
    where = f"{names[-1]} of the hub repository {repository}" if repository else url
    if spec.published and not repository:
        raise WeightsError(
            f"the weights of {spec.name} are not on this machine. Copy {spec.published.place} to "
            f"{home_weights() / _stem(spec)}{Path(spec.published.file).suffix}"
        )
    if not settings().allow_downloads:
        raise WeightsError(
            f"the weights of {spec.name} are not on this machine and downloads are off. Either allow them "
            f"(GEOSEARCH_ALLOW_DOWNLOADS=1, or allow_downloads = true in the settings file), or copy {where} to "
            f"{home_weights() / _stem(spec)}{Path(names[-1] if names else url).suffix or '.pt'}, "
            f"or use {'mini-location' if spec.published else 'mini-clip'}, which needs nothing"
        )
    try:
        if repository:
            return _from_hub(repository, names)
        import open_clip

        return Path(open_clip.download_pretrained(tag))
    except Exception as error:  # of any of the libraries and sockets below
        raise WeightsError(
            f"fetching the weights of {spec.name} ({where}) failed: {error}. Is there a network?"
        ) from error


def _from_hub(repository: str, names: list[str]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    for name in names[:-1]:
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(repository, names[-1]))


def offline() -> None:
    """Keep the hub's library from the network unless downloads are allowed: it also fetches tokenizers and configs."""
    from huggingface_hub import constants

    from geosearch.settings import settings

    # The library reads its variable once, when it is imported, which may have been long ago.
    constants.HF_HUB_OFFLINE = not settings().allow_downloads or os.environ.get("HF_HUB_OFFLINE", "0") == "1"


def explain(spec: Spec, error: Exception) -> ModelError:
    """Return the error to raise when a model cannot be built from weights that were found."""
    if isinstance(error, ImportError):
        return ModelError(
            f"{spec.name} needs another library: {error}. Install it (`pip install {error.name or '…'}`)."
        )
    text = str(error)
    if len(text) > 600:
        text = f"{text[:600]} …"
    return ModelError(
        f"{spec.name} cannot be built: {text}. Are the architecture and the weights those of one model? "
        "What comes from a hub besides weights needs GEOSEARCH_ALLOW_DOWNLOADS=1 once."
    )
