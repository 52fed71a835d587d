"""The JSON file that describes a model, of a folder that training has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geosearch.errors import ModelError, WeightsError


def read_json(path: Path, remedy: str) -> Any:
    """Return what a file holds. Raises WeightsError, with the remedy, where it is missing, ModelError for no JSON."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"there is no {path}; {remedy}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); write it again") from error
