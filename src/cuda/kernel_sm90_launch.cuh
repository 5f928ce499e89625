// The body of launch_sm90, for the .cu files that instantiate it.
#pragma once

#include "cuda/kernel_sm90.cuh"

namespace dropgemm::cuda {

// The 1 (block a multiprocessor) lets the kernel move registers between its groups of threads.
template <class Kernel>
__global__ void __cluster_dims__(Kernel::kClusterM, Kernel::kClusterN, 1)
    __launch_bounds__(Kernel::kThreads, 1)
        gemm_sm90(const __grid_constant__ typename Kernel::Params params) {
  extern __shared__ __align__(1024) char shared[];
  const Sm90Place place = {static_cast<std::int32_t>(blockIdx.x) / Kernel::kClusterM,
                           static_cast<std::int32_t>(gridDim.x) / Kernel::kClusterM,
                           static_cast<std::int32_t>(blockIdx.x) % Kernel::kClusterM,
                           static_cast<std::int32_t>(blockIdx.y),
                           static_cast<std::int32_t>(threadIdx.x),
                           cutlass::canonical_warp_idx_sync(),
                           cutlass::canonical_warp_group_idx()};
  Kernel::run(params, place, shared);
}

template <class E, Major kMajorA, Major kMajorB, Sm90Shape kShape>
Status launch_sm90(std::int32_t clusters, void* stream, const Sm90Params<E>& params) {
  using Kernel = GemmSm90Kernel<E, kMajorA, kMajorB, kShape>;
  constexpr int kSharedBytes = sizeof(typename Kernel::Shared);
  static_assert(kSharedBytes <= 227 << 10);
  DROPGEMM_RETURN_IF_ERROR(check_launch(
      "gemm_sm90",
      cudaFuncSetAttribute(gemm_sm90<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           kSharedBytes)));
  const dim3 grid(static_cast<unsigned>(clusters * Kernel::kClusterM), Kernel::kClusterN);
  gemm_sm90<Kernel>
      <<<grid, Kernel::kThreads, kSharedBytes, static_cast<cudaStream_t>(stream)>>>(params);
  return check_launch("gemm_sm90", cudaGetLastError());
}

}  // namespace dropgemm::cuda
