"""Settings: what wins, what is refused, and that the reference has all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from geosearch.errors import InputError
from geosearch.settings import Settings, settings

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "settings.md"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    monkeypatch.setenv("GEOSEARCH_SETTINGS", str(path))
    return path


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("batch_size = 8\ndevice = 'cpu'\n")
    monkeypatch.setenv("GEOSEARCH_BATCH_SIZE", "16")
    assert (settings().batch_size, settings().device) == (16, "cpu")


def test_a_file_that_is_named_must_be_there(file: Path) -> None:
    with pytest.raises(InputError, match=r"settings\.toml is not there"):
        settings()


@pytest.mark.parametrize("content", [b"batch_size = tr ue\n", b"device = '\xff'\n"], ids=["no TOML", "no UTF-8"])
def test_a_file_that_cannot_be_read_is_named(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"settings\.toml cannot be read"):
        settings()


def test_a_setting_that_does_not_exist_is_refused(file: Path) -> None:
    file.write_text("allow_downlods = true\n")
    with pytest.raises(ValidationError, match="allow_downlods"):
        settings()


def test_the_reference_has_every_setting() -> None:
    written = re.findall(r"^\| `(\w+)` \|", REFERENCE.read_text("utf-8"), re.MULTILINE)
    assert written == list(Settings.model_fields)
