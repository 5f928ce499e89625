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
  # A function runs in a shell of its own, so that it can be ended.
  if ! timeout --kill-after=10 "$limit" bash -c '"$@"' _ "$@" >"$out/$name.log" 2>&1; then
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

# Benchmarks need Google Benchmark, which may be missing where there is no network.
configure() {
  cmake -S . -B "$build" ${NINJA:+-G Ninja} -DCMAKE_BUILD_TYPE=Release -DDROPGEMM_CUDA=ON \
    -DDROPGEMM_BUILD_TESTS=ON -DDROPGEMM_BUILD_BENCH="$1"
}

build_all() {
  { configure ON || configure OFF; } && cmake --build "$build" --parallel "$(nproc)"
}

# The package beside the libraries of this build, and the tests that want torch.cuda.
python_tests() {
  local overlay=$PWD/build/gpu/overlay
  python3 -m pip install --quiet --no-build-isolation --no-deps --upgrade \
    -Ccmake.define.DROPGEMM_CUDA=OFF --target "$overlay" . &&
    PYTHONPATH=$overlay DROPGEMM_CUDA_LIBRARY=$PWD/$build/src/libdropgemm_cuda.so \
      timeout 200 python3 -m pytest -q tests/python/test_cuda.py
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

benchmarks() { "$build/bench/cuda_bench" --benchmark_out="$out/cuda_bench.json"; }

if command -v ninja >/dev/null; then NINJA=1; fi
export out build NINJA
export -f describe configure build_all tests_on_the_device sanitized python_tests benchmarks
step machine 30 describe
if step build 300 build_all; then
  step tests 240 tests_on_the_device
  if command -v compute-sanitizer >/dev/null; then step sanitizer 240 sanitized; fi
  if python3 -c 'import nanobind, scikit_build_core, pytest' 2>/dev/null; then
    step python 300 python_tests
  fi
  if [ -x "$build/bench/cuda_bench" ]; then step benchmarks 240 benchmarks; fi
fi
cat "$out/machine.log"
printf '%s\n' "${table[@]}" | tee "$out/table.txt"
exit $failed
