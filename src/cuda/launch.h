// Launching a kernel. A kernel is a struct:
//
//   struct XKernel {
//     struct Params {...};                    // plain, passed by value
//     static constexpr const char* kName = "x";
//     static constexpr std::int32_t kThreads = 256;
//     DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
//   };
//
// and one .cu file instantiates launch<XKernel> (launch_kernel.h has its body), so that builds
// parallelise and the host code that calls it needs no nvcc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dropgemm/status.h"

namespace dropgemm::cuda {

// Starts `blocks` blocks on the stream of the current device. Asynchronous.
// Errors: kBackendError with the kernel's name and the runtime's words; runtime.h says which.
template <class Kernel>
Status launch(std::int32_t blocks, std::size_t shared_bytes, void* stream,
              const typename Kernel::Params& params);

}  // namespace dropgemm::cuda
