// The kernel without tensor cores: float32 and float64 as they are, of any strides.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

// A block a tile of kSide x kSide; 16 x 16 threads, each with kPer x kPer sums.
template <class E>
struct SimtKernel {
  using Params = Product<E>;
  static constexpr const char* kName = "gemm_simt";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kSide = sizeof(E) == 4 ? 128 : 64,
                                kDepth = 16;  // half a granule at a time
  static constexpr std::int32_t kPer = kSide / 16;
  static constexpr std::int32_t kStride = kSide + 4;  // of a depth in shared memory
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

// Bytes of shared memory: two operands' tiles, or the sums on their way out.
template <class E>
[[nodiscard]] constexpr std::size_t simt_shared() {
  using Kernel = SimtKernel<E>;
  constexpr std::size_t kTiles = 2 * Kernel::kDepth * Kernel::kStride * sizeof(E);
  constexpr std::size_t kSums = Kernel::kSide * Kernel::kStride * sizeof(E);
  return kTiles > kSums ? kTiles : kSums;
}

}  // namespace dropgemm::cuda
