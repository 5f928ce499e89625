// The body of launch<Kernel>, for the .cu file that instantiates it.
#pragma once

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/runtime.h"

namespace dropgemm::cuda {

#if defined(__CUDACC__)

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, 1)
    kernel_entry(const __grid_constant__ typename Kernel::Params params) {
  extern __shared__ __align__(1024) char shared[];
  Kernel::run(params,
              Block{static_cast<std::int32_t>(blockIdx.x), static_cast<std::int32_t>(gridDim.x),
                    static_cast<std::int32_t>(threadIdx.x), shared});
}

template <class Kernel>
Status launch(std::int32_t blocks, std::size_t shared_bytes, void* stream,
              const typename Kernel::Params& params) {
  constexpr std::size_t kWithoutAsking = 48 << 10;
  if (shared_bytes > kWithoutAsking) {
    DROPGEMM_RETURN_IF_ERROR(check_launch(
        Kernel::kName,
        cudaFuncSetAttribute(kernel_entry<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes))));
  }
  kernel_entry<Kernel><<<static_cast<unsigned>(blocks), Kernel::kThreads, shared_bytes,
                         static_cast<cudaStream_t>(stream)>>>(params);
  return check_launch(Kernel::kName, cudaGetLastError());
}

#elif defined(DROPGEMM_CUDA_EMULATED)

template <class Kernel>
Status launch(std::int32_t blocks, std::size_t shared_bytes, void* /*stream*/,
              const typename Kernel::Params& params) {
  DROPGEMM_RETURN_IF_ERROR(check_launch(Kernel::kName, emulator::take_launch_error()));
  return emulator::run(
      blocks, Kernel::kThreads, shared_bytes,
      [](const void* context, std::int32_t block, std::int32_t count, std::int32_t thread,
         char* shared) {
        Kernel::run(*static_cast<const typename Kernel::Params*>(context),
                    Block{block, count, thread, shared});
      },
      &params);
}

#endif

}  // namespace dropgemm::cuda
