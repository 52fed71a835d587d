"""What only the extra `evaluation` brings: imported when it is needed, with a remedy where it is not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from geosearch.errors import InputError


def sklearn(module: str) -> Any:
    """Return a module of scikit-learn, e.g. "linear_model". Raises InputError where it is not installed."""
    return _module("sklearn", module, "scikit-learn")


def matplotlib(module: str) -> Any:
    """Return a module of Matplotlib, e.g. "figure". Raises InputError where it is not installed."""
    return _module("matplotlib", module, "Matplotlib")


def _module(library: str, module: str, title: str) -> Any:
    try:
        return import_module(f"{library}.{module}")
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise InputError(f"{title} is not installed; get it with: pip install 'geosearch[evaluation]'") from error
