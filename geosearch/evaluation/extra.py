"""scikit-learn, which only the extra `evaluation` brings: imported when it is needed, with a remedy where it is not."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from geosearch.errors import InputError


def sklearn(module: str) -> Any:
    """Return a module of scikit-learn, e.g. "linear_model". Raises InputError where it is not installed."""
    try:
        return import_module(f"sklearn.{module}")
    except ModuleNotFoundError as error:
        if error.name != "sklearn":
            raise
        raise InputError("scikit-learn is not installed; get it with: pip install 'geosearch[evaluation]'") from error
