#!/bin/sh
# Makes .venv with what requirements/dev.txt locks; does nothing when that is done already.
# Finding a Python is all that needs a shell: the rest is venv.py.
set -eu
lock=requirements/dev.txt
if [ -x .venv/bin/python ] && cmp -s "$lock" .venv/installed.txt; then
    exit 0
fi

# Named pythons on PATH may be shims that fail: one counts only when it runs and says its version.
suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    candidates="python3.14 python3.13 python3.12 python3.11 python3 python"
fi
without=""
for python in $candidates; do
    suits "$python" || continue
    if "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        exec "$python" scripts/venv.py "$lock"
    fi
    without=$python
done
if [ -n "$without" ]; then
    echo "make: $without cannot create virtual environments: install its venv module (e.g. python3-venv)." >&2
else
    echo "make: no Python from 3.11 on among: $candidates. Install one, or name it: make PYTHON=/path/to/python" >&2
fi
exit 1
