# `make` lists the targets. Everything is made in .venv/ and build/; nothing needs root.
PYTHON ?= python3
JOBS ?= 2
DEMO_ARGS ?=
PIP_ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(CURDIR)/$(VENV)/bin
DATASET := $(VENV)/debian/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

# [build-system] requires of pyproject.toml, with the cmake and ninja it would fetch by itself.
BUILD_REQUIREMENTS := "scikit-build-core>=1.0" "nanobind>=3.0" "cmake>=3.25" "ninja>=1.11"
PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check $(PIP_ARGS)
INSTALL_PACKAGE = $(PIP_INSTALL) --no-build-isolation -Cbuild-dir=build/python \
  -Ccmake.define.DROPGEMM_XLA_FFI_INCLUDE_DIR=$$(ls -d $(CURDIR)/$(VENV)/jaxlib/include 2>/dev/null)

PACKAGE_SOURCES := CMakeLists.txt pyproject.toml LICENSE $(wildcard README.md) \
  $(shell find src include python -type f -not -path '*/__pycache__/*' 2>/dev/null)
CXX_FILES := $(shell git ls-files --cached --others --exclude-standard '*.h' '*.cc' '*.cu' '*.cuh')
# Not the kernels of the instruction sets, which are written in GCC's vector extensions, nor what
# belongs to another build or needs the CUDA toolkit.
TIDY_FILES := $(filter-out src/cpu/kernel_%.cc src/cuda/api_cuda.cc tests/cuda/device_%.cc \
  bench/% tests/consumer/%,$(filter %.cc,$(CXX_FILES)))

# The tools of .venv come first, so that cmake, ninja and pytest are the pinned ones.
export PATH := $(BIN):$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(JOBS)
ifneq ($(shell command -v ccache 2>/dev/null),)
export CMAKE_CXX_COMPILER_LAUNCHER ?= ccache
export CMAKE_CUDA_COMPILER_LAUNCHER ?= ccache
endif

.DELETE_ON_ERROR:
.PHONY: help setup demo test test-cpp test-python lint lint-format lint-python lint-tidy tidy \
  sanitize format cuda gpu bench-programs bench results clean

help:
	@echo "make setup    .venv/ with dropgemm and what its tests need (torch included)"
	@echo "make demo     trains on Fashion-MNIST with and without dropgemm; DEMO_ARGS=... is passed on"
	@echo "make test     C++ tests (ctest), then Python tests (pytest; PYTEST_ARGS=...)"
	@echo "make sanitize C++ tests under address and undefined-behaviour sanitizers (up to half an hour)"
	@echo "make lint     clang-format, clang-tidy, ruff, mypy; changes nothing"
	@echo "make format   clang-format and ruff, in place"
	@echo "make cuda     compiles the CUDA backend with nvcc and looks at its kernels; needs no GPU"
	@echo "make gpu      everything that needs a GPU: tests, sanitizer, benchmarks"
	@echo "make bench    builds and runs the benchmarks of bench/; BENCH_ARGS=... goes to google-benchmark"
	@echo "make results  measures the tables of the READMEs again (20 minutes; SETS=... names some)"
	@echo "make clean    removes build/ (.venv/ stays)"
	@echo
	@echo "JOBS=$(JOBS) compilers at once, PYTHON=$(PYTHON), PIP_ARGS='$(PIP_ARGS)'"

# --- The environment and the package ---------------------------------------------------------------

$(STAMPS)/venv:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "make: no $(PYTHON): install Python 3.10 or newer, or say PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "make: expected Python 3.10 or newer, got `$(PYTHON) --version`: say PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) has no venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/build: $(STAMPS)/venv Makefile
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "make: no C++ compiler (Debian: apt-get install g++), or say CXX=..." >&2; exit 1; }
	@echo 'pip install' $(BUILD_REQUIREMENTS)
	@$(PIP_INSTALL) $(BUILD_REQUIREMENTS) || \
	  { echo "make: pip could not install the build tools: is there a network?" >&2; exit 1; }
	@touch $@

$(STAMPS)/jaxlib: $(STAMPS)/venv pyproject.toml third_party/jaxlib.sh
	PIP_ARGS='$(PIP_ARGS)' third_party/jaxlib.sh || \
	  echo "make: going on without the headers of XLA: functions that JAX compiles will not work" >&2
	@touch $@

# pyproject.toml pins torch: any other version may come with gigabytes of CUDA.
$(STAMPS)/install: $(STAMPS)/build $(STAMPS)/jaxlib $(PACKAGE_SOURCES)
	@echo 'pip install ".[test,demo]"'
	@$(INSTALL_PACKAGE) ".[test,demo]" || \
	  { echo "make: pip could not install dropgemm (a build error stands above; otherwise: is there a network?)" >&2; exit 1; }
	@touch $@

setup: $(STAMPS)/install

# --- Use -------------------------------------------------------------------------------------------

# Where Debian's package cannot be had the demo takes other real data, and says so.
demo: setup
	@test -e $(DATASET) || third_party/debian.sh dataset-fashion-mnist || true
	OMP_PROC_BIND=true $(BIN)/dropgemm demo $(DEMO_ARGS)

# --- Tests -----------------------------------------------------------------------------------------

# A system without apt may still have GoogleTest: cmake says so if it has not.
$(STAMPS)/gtest: $(STAMPS)/venv
	third_party/debian.sh libgtest-dev || echo "make: going on with the system's GoogleTest" >&2
	@touch $@

build/cpp/build.ninja: $(STAMPS)/build $(STAMPS)/gtest
	$(BIN)/cmake -S . -B build/cpp -G Ninja -DCMAKE_BUILD_TYPE=Release -DDROPGEMM_WERROR=ON

test-cpp: build/cpp/build.ninja
	$(BIN)/cmake --build build/cpp
	OMP_WAIT_POLICY=passive $(BIN)/ctest --test-dir build/cpp --output-on-failure -j $(JOBS)

test-python: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test: test-cpp test-python

# Every program of tests/cpp that reads or writes through an address, and CUDA's kernels on the
# emulator. Failures end a program.
SANITIZED ?= gemm_small gemm_stride gemm_context gemm_epilogue gemm compact compact_check sgd mask \
  mask_part pattern tile_mask plan emulator lists kernel_sm80 gemm_sm80

sanitize: $(STAMPS)/build $(STAMPS)/gtest
	$(BIN)/cmake -S . -B build/sanitize -G Ninja -DCMAKE_BUILD_TYPE=Debug \
	  -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" -DDROPGEMM_SANITIZE=ON
	$(BIN)/cmake --build build/sanitize --target $(SANITIZED:%=%_test)
	for name in $(SANITIZED); do build/sanitize/tests/$${name}_test --gtest_brief=1 || exit 1; done

# --- CUDA ------------------------------------------------------------------------------------------

CUTLASS = $(if $(CUTLASS_INCLUDE_DIR),,$(STAMPS)/cutlass)

$(STAMPS)/cutlass: $(STAMPS)/venv
	third_party/cutlass.sh
	@touch $@

$(STAMPS)/cuobjdump: $(STAMPS)/venv
	@command -v cuobjdump >/dev/null || third_party/cuobjdump.sh
	@touch $@

build/cuda/build.ninja: $(STAMPS)/build $(STAMPS)/gtest $(STAMPS)/cuobjdump $(CUTLASS)
	@command -v nvcc >/dev/null || \
	  { echo "make: no nvcc on the PATH: install CUDA's toolkit (13.0)" >&2; exit 1; }
	$(BIN)/cmake -S . -B build/cuda -G Ninja -DCMAKE_BUILD_TYPE=Release -DDROPGEMM_WERROR=ON \
	  -DDROPGEMM_CUDA=ON

# Its suites need no nvcc: on the emulator they are a part of `make test`. Here the programs of
# tests/cuda alone run once more, beside what nvcc made.
cuda: build/cuda/build.ninja build/cpp/build.ninja
	$(BIN)/cmake --build build/cuda --target dropgemm_cuda cute_test
	$(BIN)/ctest --test-dir build/cuda --output-on-failure -R '^(cute_test|cuda_kernels)$$'
	$(BIN)/cmake --build build/cpp
	$(BIN)/ctest --test-dir build/cpp --output-on-failure -L '^cuda$$' -j $(JOBS)

gpu:
	$(if $(COMMIT),COMMIT=$(COMMIT)) $(PYTHON) tests/cuda/gpu.py $(if $(OUT),--out $(OUT))

# --- Benchmarks ------------------------------------------------------------------------------------

# Pinned, since a pair of unpinned threads can land on one core of a busy machine. The results of
# the last run but one stay as build/bench/*.previous.json, for bench/compare.py; those of layers.py
# go to bench/results/local_*.json, which git ignores.
BENCH_ARGS ?= --benchmark_min_time=0.1
BENCHES := gemm_bench mask_bench search_bench compact_bench
RUN_LAYERS = OMP_PROC_BIND=true $(BIN)/python bench/layers.py

bench-programs: setup build/cpp/build.ninja
	third_party/debian.sh libbenchmark-dev libbenchmark1debian
	cmake -S . -B build/cpp -DDROPGEMM_BUILD_BENCH=ON
	cmake --build build/cpp --target $(BENCHES) machine_bench

bench: bench-programs
	@mkdir -p build/bench
	@for name in $(BENCHES); do \
	  out=build/bench/$$name.json; \
	  test ! -e $$out || mv $$out build/bench/$$name.previous.json; \
	  OMP_PROC_BIND=true build/cpp/bench/$$name $(BENCH_ARGS) --benchmark_out=$$out || exit 1; \
	done
	$(RUN_LAYERS) --set layer --seconds 45 --name local_layer --overwrite
	$(RUN_LAYERS) --set step --seconds 45 --name local_step --overwrite

# What the READMEs' tables are made of, measured again: twenty minutes, on a machine with
# nothing else to do. SETS=... names some.
SETS ?= layer pattern searched bf16 table7 step step_bf16 optimizer work breakeven lstm feedforward ensemble calls

results: bench-programs
	rm -f bench/results/machine.json
	OMP_PROC_BIND=true build/cpp/bench/machine_bench --benchmark_repetitions=9 \
	  --benchmark_out=bench/results/machine.json
	for set in $(SETS); do \
	  case $$set in \
	    lstm|calls) OMP_PROC_BIND=true $(BIN)/python bench/$$set.py --overwrite ;; \
	    feedforward|ensemble) \
	      OMP_PROC_BIND=true $(BIN)/python bench/models.py --set $$set --overwrite ;; \
	    *) $(RUN_LAYERS) --set $$set --overwrite ;; \
	  esac || exit 1; \
	done
	$(BIN)/python bench/plots.py work
	$(BIN)/python bench/tables.py

# --- Style -----------------------------------------------------------------------------------------

$(STAMPS)/lint: $(STAMPS)/install pyproject.toml
	@echo 'pip install ".[lint]"'
	@$(INSTALL_PACKAGE) ".[lint]"
	@touch $@

lint: lint-format lint-python lint-tidy

lint-format: $(STAMPS)/lint
	@echo "clang-format --dry-run -Werror, $(words $(CXX_FILES)) files"
	@$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

lint-python: $(STAMPS)/lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lint-tidy: $(STAMPS)/lint build/cpp/build.ninja
	@$(MAKE) --no-print-directory -k -j$(JOBS) tidy

# One stamp a file, so that only what changed is read again. The compilation databases are those of
# the tests and of the package; omp.h is the compiler's own, which clang-tidy does not look for.
tidy: $(TIDY_FILES:%=build/lint/%.tidy)
build/lint/%.tidy: % .clang-tidy tests/.clang-tidy $(filter %.h,$(CXX_FILES)) | build/lint/include/omp.h
	@echo clang-tidy $<
	@mkdir -p $(@D)
	@$(BIN)/clang-tidy --quiet -p $(if $(filter python/%,$<),build/python,build/cpp) \
	  --extra-arg=-isystem$(CURDIR)/build/lint/include $<
	@touch $@

build/lint/include/omp.h:
	@mkdir -p $(@D)
	@ln -sf "$$($${CXX:-c++} -print-file-name=include/omp.h)" $@

format: $(STAMPS)/lint
	$(BIN)/clang-format -i $(CXX_FILES)
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

clean:
	rm -rf build
