#!/usr/bin/env bash
# third_party/jaxlib.sh - puts the headers of the oldest jaxlib that dropgemm works with, the one
# that pyproject.toml builds against, under .venv/jaxlib. Needs the pip of .venv; installs nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$root/.venv/jaxlib
requirement=$(sed -n 's/^ *"\(jaxlib==[0-9.]*\);.*/\1/p' "$root/pyproject.toml")
[[ ! -e $target/$requirement ]] || exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$root/.venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  ${PIP_ARGS:-} --dest "$scratch" "$requirement"
"$root/.venv/bin/python" - "$scratch"/*.whl "$scratch" <<'EOF'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2], [name for name in wheel.namelist() if "/xla/ffi/api/" in name])
EOF
rm -rf "$target"
mv "$scratch/jaxlib" "$target"
touch "$target/$requirement"
