// sum over k of op(A) . Ma, one value a row of op(A): the bias gradient of a weight gradient's
// call.
#pragma once

#include <cstdint>

#include "cuda/axis_mask.h"
#include "cuda/device.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

// A block kLines lines, its threads in pairs of (line, part of the depth).
template <class E>
struct RowSumKernel {
  using Sum = typename Number<E>::Sum;
  struct Params {
    Input<E> a;
    AxisMask mask;  // of (line, depth)
    std::int32_t lines = 0, depth = 0;
    std::int32_t depth_tile = 0;  // of neighbours along the depth, one look at the mask
    E* to = nullptr;
  };
  static constexpr const char* kName = "row_sum";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kLines = 32, kParts = kThreads / kLines;
  static constexpr std::int32_t kShared = kThreads * static_cast<std::int32_t>(sizeof(Sum));
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

}  // namespace dropgemm::cuda
