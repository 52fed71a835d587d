"""The `geosearch` command: one module a group, imported when its command is called or its help is shown."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from inspect import cleandoc
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .common import fail, known_failure, note

# In the order of the work: a name is a module beside this one, which defines `app` or a function of that name.
GROUPS = (
    "db", "archive", "catalog", "model", "space", "embed", "worker", "search", "compose", "range", "train", "evaluate",
    "demo", "doctor",
)  # fmt: skip


class Groups(TyperGroup):
    """Command groups that are imported one by one, and errors that become a message and exit status 1."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all groups."""
        return list(GROUPS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return a group; None where there is none of that name."""
        if cmd_name not in GROUPS:
            return None
        module = import_module(f".{cmd_name}", __package__)
        if hasattr(module, "app"):
            command: Any = typer.main.get_group(module.app)
        else:
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(getattr(module, cmd_name))
            command = typer.main.get_command(single)
        command.name = cmd_name
        _reflow(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run the command; errors that can be explained are, on standard error, with exit status 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            note("interrupted")
            raise typer.Exit(128 + signal.SIGINT) from None
        except Exception as error:
            message = known_failure(error)
            if message is None:
                raise
            raise fail(message) from error


def _reflow(command: Any) -> None:
    """Join the lines of each paragraph of help: a terminal breaks them where it ends, not where the source does."""
    paragraphs = cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for child in getattr(command, "commands", {}).values():
        _reflow(child)


app = typer.Typer(
    cls=Groups,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but some input was rejected.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from geosearch import __version__

        print(f"geosearch {__version__}")
        raise typer.Exit


@app.callback()
def geosearch(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Search archives of Earth images in PostgreSQL: where they are and what they look like, in one query."""


def main() -> None:
    """Run the command line; the entry point of the `geosearch` script."""
    # Threads of torch that wait must sleep: other threads decode, and the database works, on the same cores. Spinning,
    # they cost a two-core machine most of its speed. Read by OpenMP when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)
    app()


def _terminated(number: int, frame: Any) -> None:
    # A shutdown or a batch system's limit ends a command as Ctrl-C does: no half-written file is left.
    raise SystemExit(128 + number)
