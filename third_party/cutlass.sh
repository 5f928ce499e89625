#!/usr/bin/env bash
# CUTLASS's headers, from the nvidia-cutlass package of PyPI, into .venv/cutlass. Without what the
# package depends on: that is 347 MB of other things.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=.venv/cutlass
if [ -e "$target/cutlass_library/source/include/cutlass/version.h" ]; then exit 0; fi
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile \
  --target "$target" 'nvidia-cutlass==4.2.*'
# Only the headers are of use.
find "$target" -mindepth 1 -maxdepth 1 -not -name cutlass_library -exec rm -rf {} +
