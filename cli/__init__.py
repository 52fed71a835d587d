"""The typer application: one file a command group, no logic of its own."""
