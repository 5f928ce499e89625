#!/usr/bin/env bash
# Everything that needs a GPU, in one go: builds with nvcc, runs every test of the CUDA backend on
# the device under a timeout, a small set of them under compute-sanitizer, then the benchmarks.
# Needs nvcc, CMake, GoogleTest and CUTLASS's headers (CUTLASS_INCLUDE_DIR), no network. Results go
# to OUT (build/gpu), a short table ends the output. Goes on after a failure, and says so at the end.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=${OUT:-build/gpu}
build=build/gpu/tree
mkdir -p "$out"
failed=0
table=()

# step NAME SECONDS COMMAND...: the command's output goes to a file of its own.
step() {
  local name=$1 limit=$2 start=$SECONDS verdict=passed
  shift 2
  if ! timeout --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1; then
    verdict=FAILED
    failed=1
    tail -n 20 "$out/$name.log"
  fi
  table+=("$(printf '%-28s %-7s %5d s' "$name" "$verdict" $((SECONDS - start)))")
  [ "$verdict" = passed ]
}

describe() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
  nvcc --version | tail -n 2
  git log -1 --format=%H 2>/dev/null || true
  date -u +%Y-%m-%dT%H:%M:%SZ
}

build_all() {
  cmake -S . -B "$build" ${NINJA:+-G Ninja} -DCMAKE_BUILD_TYPE=Release -DDROPGEMM_CUDA=ON \
    -DDROPGEMM_BUILD_TESTS=ON -DDROPGEMM_BUILD_BENCH="${BENCH:-OFF}" &&
    cmake --build "$build" --parallel "$(nproc)"
}

# Each program alone, so that one that hangs takes no other with it.
tests_on_the_device() {
  local program name code=0
  for program in "$build"/tests/*_test; do
    name=$(basename "$program")
    GTEST_FILTER='*/cuda:Device*' timeout 120 "$program" \
      --gtest_output="json:$out/$name.json" || { echo "$name: failed with $?"; code=1; }
  done
  return $code
}

sanitized() {
  local name code=0
  for name in mask_test pattern_test sgd_test; do
    GTEST_FILTER='*/cuda' timeout 150 compute-sanitizer --error-exitcode 1 --leak-check no \
      "$build/tests/$name" || code=1
  done
  return $code
}

benchmarks() {
  local program
  for program in "$build"/bench/cuda_*_bench; do
    timeout 120 "$program" --benchmark_out="$out/$(basename "$program").json" || return 1
  done
}

command -v ninja >/dev/null && NINJA=1
step machine 30 describe
if step build 300 build_all; then
  step tests 240 tests_on_the_device
  if command -v compute-sanitizer >/dev/null; then step sanitizer 240 sanitized; fi
  if compgen -G "$build/bench/cuda_*_bench" >/dev/null; then step benchmarks 240 benchmarks; fi
fi
cat "$out/machine.log"
printf '%s\n' "${table[@]}" | tee "$out/table.txt"
exit $failed
