#!/usr/bin/env bash
# Builds the wheel and the sdist, installs each without extras in a new environment outside of the repository, and measures with it.
#
#   tests/packaging/distributions.sh PYTHON      PYTHON has the package `build`
set -euo pipefail
python=$(realpath --no-symlinks "$1")
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m build --outdir "$work/dist" "$root" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
for file in "$work"/dist/*; do
    echo "--- $(basename "$file")"
    rm -rf "$work/venv" "$work/elsewhere"
    mkdir "$work/elsewhere"
    "$python" -m venv "$work/venv"
    TIMEFORMAT="installed in %0R s, of which the processor worked %0U s"
    time "$work/venv/bin/pip" install --quiet --disable-pip-version-check --constraint "$root/constraints.txt" "$file"
    du --summarize --block-size=1M "$work/venv" | cut --fields=1 | sed 's/$/ MiB are installed, with Python and pip/'
    du --summarize --block-size=1M "$work"/venv/lib/python3*/site-packages/* | sort --numeric-sort --reverse | sed --quiet '1,4s|\S*/||p'
    (cd "$work/elsewhere" && "$work/venv/bin/python" "$root/tests/packaging/installed.py" "$root/pyproject.toml")
done
