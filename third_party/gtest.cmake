# GoogleTest: the system's (or CMAKE_PREFIX_PATH's), else the copy that
# `third_party/debian.sh libgtest-dev` puts under .venv/debian.
find_package(GTest QUIET)
if(NOT GTest_FOUND)
  find_package(GTest QUIET CONFIG PATHS ${PROJECT_SOURCE_DIR}/.venv/debian/usr NO_DEFAULT_PATH)
endif()
if(NOT GTest_FOUND)
  message(FATAL_ERROR "GoogleTest not found: install it (Debian: libgtest-dev), run "
                      "third_party/debian.sh libgtest-dev, or set DROPGEMM_BUILD_TESTS=OFF")
endif()
