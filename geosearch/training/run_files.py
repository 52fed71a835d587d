"""What a run of training leaves beside its model: a checkpoint, whole or not at all, and a log of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a run's state beside its file and move it there."""
    torch.save(dict(state), path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def append_record(log: Path, record: Mapping[str, float]) -> None:
    """Add a line to a log, numbers with five decimals."""
    with log.open("a") as file:
        file.write(json.dumps({k: round(v, 5) for k, v in record.items()}) + "\n")
