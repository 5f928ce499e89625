// The kernel of every chip from sm_80 on: cp.async brings kept granules into shared memory, stages
// ahead; mma.sync multiplies; one block a tile of 128 x 128, over the items of a list.
#pragma once

#include <cstdint>

#include "cuda/config.h"
#include "cuda/copy.h"
#include "cuda/tensor_core.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

// How a block orders what it copies and reads. A test plants others, which must be noticed.
struct InOrder {
  template <int kPending>
  static DROPGEMM_DEVICE void wait() {
    cp_async_wait<kPending>();
  }
  static DROPGEMM_DEVICE void barrier() { sync_block(); }
};

constexpr std::int32_t kSm80Side = 128, kSm80Depth = 32;

template <class E, Major kMajorA, Major kMajorB, class Order = InOrder>
struct Sm80Kernel {
  using Params = Product<E>;
  static constexpr const char* kName = "gemm_sm80";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kStages = sizeof(E) == 2 ? 4 : 3;
  // Of one operand's tile.
  static constexpr std::int32_t kTileBytes =
      kSm80Side * kSm80Depth * static_cast<std::int32_t>(sizeof(E));
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

// Bytes of shared memory: the stages, or the sums on their way out.
template <class E>
[[nodiscard]] constexpr std::size_t sm80_shared() {
  constexpr std::size_t kStaged = sizeof(E) == 2 ? 4 * 2 * 128 * 32 * 2 : 3 * 2 * 128 * 32 * 4;
  constexpr std::size_t kSums = 128 * (128 + 4) * sizeof(float);
  return kStaged > kSums ? kStaged : kSums;
}

}  // namespace dropgemm::cuda
