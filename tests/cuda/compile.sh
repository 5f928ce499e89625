#!/usr/bin/env bash
# compile.sh COMMAND...: runs a compiler, and fails where it says that it has serialised wgmma or
# spoilt a pipeline (C7500 to C7599), which are no warnings to it and cost half of the speed.
set -uo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$@" >"$log" 2>&1
code=$?
cat "$log" >&2
if grep -q 'C75[0-9][0-9]' "$log"; then
  echo "compile.sh: expected code without C75xx, got the lines above" >&2
  exit 1
fi
exit "$code"
