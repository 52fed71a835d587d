"""Writes cli.md, the reference of all commands, from the commands themselves: `make reference`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from geosearch_cli.main import app

TARGET = Path(__file__).with_name("cli.md")
HEAD = """# Commands

Written by `make reference` from the commands' own help; do not edit.

Results go to standard output, progress and messages to standard error. With `--json` standard output is exactly one
JSON document. Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but some input was rejected.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (full name, command) of every group and command that is not hidden, groups before what is in them."""
    yield from _below("geosearch", typer.main.get_command(app))


def parameters(command: Any) -> list[Any]:
    """Return a command's own arguments and options, without those every command has."""
    common = {"help", "install_completion", "show_completion"}
    return [p for p in command.params if p.name not in common and not getattr(p, "hidden", False)]


def reference() -> str:
    """Return the text of cli.md."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in commands())])


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    if hasattr(command, "list_commands"):
        for child in command.list_commands(None):
            found = command.get_command(None, child)
            if not found.hidden:
                yield from _below(f"{name} {child}", found)


def _section(name: str, command: Any) -> str:
    own = parameters(command)
    group = hasattr(command, "list_commands")
    arguments = [p for p in own if p.param_type_name == "argument"]
    usage = [name, *(["[OPTIONS]"] if len(arguments) < len(own) else []), *map(_usage, arguments)]
    lines = [f"## {name}", "", _paragraphs(command.help or ""), ""]
    lines += ["```", " ".join([*usage, *(["COMMAND …"] if group else [])]), "```", ""]
    if own:
        lines += ["| | |", "|---|---|"]
        lines += [f"| {_names(p)} | {_meaning(p)} |" for p in own]
        lines.append("")
    return "\n".join(lines)


def _usage(parameter: Any) -> str:
    shown = _metavar(parameter) + ("…" if parameter.nargs == -1 else "")
    return shown if parameter.required else f"[{shown}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_metavar(parameter)}`"
    names = " / ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} `{_metavar(parameter)}`"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _meaning(parameter: Any) -> str:
    text = _paragraphs(parameter.help or "").replace("\n", " ").replace("|", "\\|")
    notes = []
    if parameter.required and parameter.param_type_name == "option":
        notes.append("required")
    default = parameter.default
    if default is not None and default != () and not callable(default) and not parameter.is_flag:
        notes.append(f"default: `{getattr(default, 'value', default)}`")
    if getattr(parameter, "multiple", False):
        notes.append("may be given several times")
    return f"{text} ({'; '.join(notes)})" if notes else text


def _paragraphs(text: str) -> str:
    """Join the lines of each paragraph; \\b and \\f are marks for the terminal."""
    text = text.partition("\f")[0].replace("\b", "")
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
