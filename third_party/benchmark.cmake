# Google Benchmark: the system's (or CMAKE_PREFIX_PATH's), else the copy that
# `third_party/debian.sh libbenchmark-dev libbenchmark1debian` puts under .venv/debian.
find_package(benchmark QUIET)
if(NOT benchmark_FOUND)
  find_package(benchmark QUIET CONFIG PATHS ${PROJECT_SOURCE_DIR}/.venv/debian/usr NO_DEFAULT_PATH)
endif()
if(NOT benchmark_FOUND)
  message(FATAL_ERROR "Google Benchmark not found: install it (Debian: libbenchmark-dev), run "
                      "third_party/debian.sh libbenchmark-dev libbenchmark1debian, "
                      "or set DROPGEMM_BUILD_BENCH=OFF")
endif()
