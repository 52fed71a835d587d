"""Every command and option explains itself, and docs/reference/cli.md has all of them as they are now."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "reference" / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_cli = _load()
COMMANDS = dict(make_cli.commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_help_that_is_a_sentence(name: str) -> None:
    text = COMMANDS[name].help
    assert text, f"{name} has no help"
    assert text.strip().split("\n\n")[0].rstrip().endswith((".", ":", "?")), f"{name}: {text!r} is no sentence"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_line_breaks_of_its_source(name: str) -> None:
    assert "\n" not in COMMANDS[name].help.replace("\n\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_has_help(name: str) -> None:
    silent = [parameter.name for parameter in make_cli.parameters(COMMANDS[name]) if not parameter.help]
    assert not silent, f"{name}: no help for {', '.join(silent)}"


def test_reference_is_complete_and_current() -> None:
    written = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        assert f"\n## {name}\n" in written, f"docs/reference/cli.md lacks {name}: run `make reference`"
        for parameter in make_cli.parameters(command):
            assert all(f"`{option}`" in written for option in parameter.opts if option.startswith("-"))
    assert written == make_cli.reference(), "docs/reference/cli.md is behind the commands: run `make reference`"


def test_commands_of_the_design_are_there() -> None:
    groups = {name.split()[1] for name in COMMANDS if " " in name}
    assert {"db", "archive", "catalog", "model", "space", "embed", "search", "train", "demo", "doctor"} <= groups
    assert {f"geosearch db {name}" for name in ("start", "stop", "status", "migrate", "url", "psql")} <= set(COMMANDS)


def test_commands_that_answer_offer_json() -> None:
    """psql prints what psql prints; all others that are not groups can answer as one JSON document."""
    leaves = {name: command for name, command in COMMANDS.items() if not hasattr(command, "list_commands")}
    without = [name for name, command in leaves.items() if not any(p.name == "json" for p in command.params)]
    assert set(without) <= {"geosearch db psql"}
