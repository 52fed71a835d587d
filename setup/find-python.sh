#!/bin/sh
# Prints the Python to make the environment with: $PYTHON, or the first of version 3.11 to 3.13 that can make one.
# 3.14 is left out until all that setup/constraints.txt pins has been seen on it.
for python in ${PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    # Run, not only looked up: a version manager's shim may lead nowhere. ensurepip is what Debian's python3-venv brings.
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
        command -v "$python"
        exit 0
    fi
done
exit 1
