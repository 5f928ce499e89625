# CUTLASS's headers: those of CUTLASS_INCLUDE_DIR, else the copy that
# `third_party/cutlass.sh` puts under .venv/cutlass (from the nvidia-cutlass package of PyPI).
set(CUTLASS_INCLUDE_DIR "$ENV{CUTLASS_INCLUDE_DIR}" CACHE PATH "Where cutlass/cutlass.h is")
set(cutlass_dir ${CUTLASS_INCLUDE_DIR})
if(NOT cutlass_dir)
  set(cutlass_dir ${PROJECT_SOURCE_DIR}/.venv/cutlass/cutlass_library/source/include)
endif()
if(NOT EXISTS ${cutlass_dir}/cutlass/version.h)
  message(FATAL_ERROR "CUTLASS's headers are not in ${cutlass_dir}: run third_party/cutlass.sh, or "
                      "set CUTLASS_INCLUDE_DIR")
endif()
file(STRINGS ${cutlass_dir}/cutlass/version.h cutlass_version REGEX "define CUTLASS_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9]+([0-9]+)[^0-9]+([0-9]+).*" "\\1.\\2" cutlass_version
       "${cutlass_version}")
if(NOT cutlass_version VERSION_EQUAL 4.2)
  message(FATAL_ERROR "CUTLASS in ${cutlass_dir}: expected version 4.2, got ${cutlass_version}")
endif()

add_library(cutlass INTERFACE)
target_include_directories(cutlass SYSTEM INTERFACE ${cutlass_dir})
