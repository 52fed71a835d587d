"""`geosearch doctor`: looks at every part and says how to mend it."""

from __future__ import annotations

import typer

from .common import FAILED, JsonOption, emit


def doctor(json: JsonOption = False) -> None:
    """Check settings, disk, PostgreSQL, PostGIS, pgvector, permissions, schema, GPU and weights; say how to mend each.

    Starts and changes nothing. Exit status 1 when a check failed; a warning is no failure.
    """
    from geosearch.doctor import Check, examine

    checks: list[Check] = []
    for check in examine():
        checks.append(check)
        if not json:
            print(f"{check.state:<4}  {check.name}: {check.found}", flush=True)
            if check.state != "ok" and check.mend:
                print(f"      → {check.mend}")
    failed = [check.name for check in checks if check.state == "fail"]
    if json:
        emit({"ok": not failed, "checks": checks}, json)
    if failed:
        raise typer.Exit(FAILED)
