#!/usr/bin/env bash
# cuobjdump and the nvdisasm that it runs, from their packages of PyPI, into .venv/cuobjdump: what
# looks at compiled kernels. Those of a toolkit will do too; older ones than 13.2 misread its objects.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=.venv/cuobjdump
if [ -x "$target/nvidia/cu13/bin/cuobjdump" ]; then exit 0; fi
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile \
  --target "$target" 'nvidia-cuda-cuobjdump>=13.2' 'nvidia-cuda-nvdisasm>=13.2'
