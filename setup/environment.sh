#!/bin/sh
# Makes the virtual environment $1, or brings it up to date: geosearch in place, with what its tests need.
set -eu
venv=$1
cd "$(dirname "$0")/.."
if [ ! -x "$venv/bin/python" ]; then
    python=$(setup/find-python.sh) || {
        echo "no Python 3.11 to 3.13 with its venv module was found: run setup/system.sh python, or name one in PYTHON" >&2
        exit 1
    }
    echo "Making $venv with $("$python" --version)" >&2
    "$python" -m venv "$venv"
fi
# What was seen working together; the bounds of pyproject.toml are wider. No index is named: pip asks the user's own.
echo "Installing Python packages into $venv (about 2 minutes and 7 GB the first time)" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint setup/constraints.txt --editable '.[dev]'
