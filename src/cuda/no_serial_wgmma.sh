#!/usr/bin/env bash
# no_serial_wgmma.sh COMPILER ARGS...: compiles, and fails where ptxas says in passing that it has
# serialised wgmma or left registers where they were (C7506 to C7519): such a kernel is right and slow.
set -uo pipefail
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
"$@" 2>&1 | tee "$log" || exit "${PIPESTATUS[0]}"
if grep -q 'C75[0-9][0-9]' "$log"; then
  echo "error: ptxas gave up something that the kernel depends on (above)" >&2
  exit 1
fi
