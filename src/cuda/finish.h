// The epilogue as a pass of its own: over sums that wait in a staging array, of products whose
// items share tiles of D, and where there are no sums at all.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/epilogue.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

// A block a row of D, or a column where columns are contiguous.
template <class E>
struct FinishKernel {
  struct Params {
    std::int32_t m = 0, n = 0;
    Epilogue<E> epilogue;
    Staging<typename Number<E>::Sum> staging;  // no data: sums of nothing
  };
  static constexpr const char* kName = "finish";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

}  // namespace dropgemm::cuda
