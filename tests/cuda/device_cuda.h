// A GPU for staged.h, where the build has the CUDA backend.
#pragma once

#include <cstddef>

#include "dropgemm/backend.h"

namespace dropgemm::testing {

struct CudaDevice {
  struct Scope {
    Scope() {}  // not trivial, as an unused variable would be
  };
  static void* allocate(std::size_t bytes);
  static void release(void* memory);
  static void to_device(void* to, const void* from, std::size_t bytes);
  static void to_host(void* to, const void* from, std::size_t bytes);
  static Status synchronize();
  static const Backend* backend();  // null: it does not work here
};

}  // namespace dropgemm::testing
