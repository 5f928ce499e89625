// The backends that suites run on: those of this library, and the CUDA backend on the emulator.
#pragma once

#include <string>

#include "cuda/backend.h"
#include "dropgemm/backend.h"

namespace dropgemm {

constexpr const char* kEmulated = "cuda_emulated";

// find_backend() that knows the emulated one too.
[[nodiscard]] inline Status find_tested(const std::string& name, const Backend** backend) {
  if (name != kEmulated) return find_backend(name, backend);
  *backend = cuda::backend();
  return {};
}

}  // namespace dropgemm
