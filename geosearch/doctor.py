"""What `geosearch doctor` looks at: each part, what was found, and how to mend it. Starts and changes nothing."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.resources import files
from pathlib import Path

from geosearch.checks import Check
from geosearch.errors import GeosearchError
from geosearch.settings import settings, settings_file

GIB = 2**30
WEIGHTS = "model.safetensors"
SHIPPED = {"mini-clip": "open_clip_config.json", "mini-location": "location.json", "mini-nadir": "nadir.json"}


def examine() -> Iterator[Check]:
    """Yield the checks one by one, in the order in which to mend. A check that breaks is a failed check."""
    from geosearch.database import doctor as database

    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("settings", _settings),
        ("python", _python),
        ("disk", _disk),
        *database.parts(),
        ("torch", _torch),
        ("weights", _weights),
    ]
    for name, part in parts:
        try:
            yield from part()
        except GeosearchError as error:
            yield Check(name, "fail", str(error), "See the message.")
        except Exception as error:  # the doctor must reach the end whatever is broken
            yield Check(name, "fail", f"{type(error).__name__}: {error}", "This is unexpected: please report it.")


def _settings() -> Iterator[Check]:
    try:
        home = settings().home
    except ValueError as error:
        yield Check(
            "settings", "fail", str(error), f"Correct the GEOSEARCH_… variable or the line of {settings_file()}."
        )
        return
    file = settings_file()
    yield Check("settings", "ok", f"data folder {home}; settings file {file if file.exists() else 'none'}")


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", "ok", f"{version}, geosearch {metadata.version('geosearch')}")


def _disk() -> Iterator[Check]:
    folder = settings().home.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GIB
    found = f"{free:.1f} GiB free at {folder}"
    if free < 1:
        yield Check("disk", "fail", found, "Free some, or name a folder on another disk in GEOSEARCH_HOME.")
    elif free < 5:
        yield Check("disk", "warn", found, "A million images with one space of 768 dimensions take about 3 GiB.")
    else:
        yield Check("disk", "ok", found)


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch", "fail", str(error), "pip install torch torchvision, in the environment of geosearch")
        return
    try:
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        # "operator torchvision::nms does not exist": builds of the two that do not belong together.
        yield Check(
            "torch",
            "fail",
            f"torch {torch.__version__}, but torchvision does not load: {error}",
            "pip install --force-reinstall torch torchvision, both in one command: their versions belong together",
        )
        return
    yield Check("torch", "ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}")
    yield from _gpu(torch.__version__)


def _gpu(version: str) -> Iterator[Check]:
    import torch

    wanted = settings().device
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        yield Check("gpu", "ok", ", ".join(f"{p.name} ({p.total_memory / GIB:.0f} GiB)" for p in names))
        return
    if torch.backends.mps.is_available():
        yield Check("gpu", "ok", "Apple GPU (mps)")
        return
    present = Path("/proc/driver/nvidia/version").exists()
    if wanted.startswith(("cuda", "mps")):
        mend = "Install the GPU's driver, or set GEOSEARCH_DEVICE=auto."
        yield Check("gpu", "fail", f"GEOSEARCH_DEVICE asks for {wanted}, and torch {version} finds none", mend)
    elif present:
        mend = "Install a torch built for this driver: a +cpu build or one for a newer CUDA does not see the GPU."
        yield Check("gpu", "warn", f"the machine has an NVIDIA driver, but torch {version} sees no GPU", mend)
    else:
        yield Check("gpu", "ok", "none: models run on the CPU")


def _weights() -> Iterator[Check]:
    counts = []
    for model, config in SHIPPED.items():
        folder = files("geosearch.weights") / model
        missing = [name for name in (config, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            yield Check(
                "weights",
                "fail",
                f"{model} lacks {', '.join(missing)} ({folder})",
                "Reinstall geosearch: its weights travel with the package.",
            )
            return
        try:
            json.loads((folder / config).read_text(encoding="utf-8"))
            from safetensors import safe_open

            with safe_open(str(folder / WEIGHTS), framework="np") as tensors:
                counts.append(f"{model} ({len(list(tensors.keys()))} tensors)")
        except Exception as error:  # truncated file, damaged header, JSON: all mean the same here
            yield Check("weights", "fail", f"{model} in {folder} is damaged: {error}", "Reinstall geosearch.")
            return
    hub = "allowed" if settings().allow_downloads else "not allowed (GEOSEARCH_ALLOW_DOWNLOADS=true allows them)"
    yield Check("weights", "ok", f"{', '.join(counts)}; downloads of other models {hub}")
