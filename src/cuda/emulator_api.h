// The machine that the emulator pretends to be. Tests change it to see what is said of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dropgemm::cuda::emulator {

struct Machine {
  int driver = 13000;  // the CUDA that the driver serves; 0: none is installed
  // One a device; DROPGEMM_EMULATED_ARCH=90 makes Hoppers of them.
  std::vector<std::int32_t> archs = {80, 80};
  std::int32_t current = 0;  // device
  // What the next call that can fail for an earlier one's sake answers (a cudaError_t), and, where
  // it is the kind that loses the context, all that follow.
  int error = 0;
  bool has_dense_library = false;    // cuBLAS
  bool has_dense_epilogues = false;  // and cublasLt
  std::int32_t dense_calls = 0;      // of its products
  std::size_t free_bytes = std::size_t{4} << 30;
};

Machine& machine();

// Memory of a device: the program's own, and known as the device's until it is freed.
void* device_malloc(std::int32_t device, std::size_t bytes);
void device_free(void* memory);
// Memory that nobody registered counts as device 0's unless this says that it is the host's.
void set_host_memory_refused(bool refused);

}  // namespace dropgemm::cuda::emulator
