// The one symbol of a backend library, by which the core library finds the table.
#include <cstdint>

#include "cuda/backend.h"

extern "C" __attribute__((visibility("default"))) const dropgemm::Backend* dropgemm_backend(
    std::uint32_t abi_version) {
  return abi_version == dropgemm::kBackendAbi ? dropgemm::cuda::backend() : nullptr;
}
