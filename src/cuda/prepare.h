// What is done to operands before a product: copies that a kernel can load (dense lines at 16-byte
// boundaries), gathered from kept positions, or selected by a mask. One pass, on the device.
#pragma once

#include <cstdint>

#include "cuda/axis_mask.h"
#include "cuda/device.h"
#include "cuda/number.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

// The kept positions of one axis, in order, of which the device alone knows how many there are.
struct KeptAxis {
  AxisMask first, second;  // of (position, anything); kept where both keep it
  std::int32_t extent = 0;
  std::int32_t* index = nullptr;     // [extent]: the position of each kept one
  std::int32_t* position = nullptr;  // [extent]: its inverse, -1 where dropped
  std::int32_t* count = nullptr;
};

// The three axes of a compacted product: a block each.
struct KeptAxesKernel {
  struct Params {
    KeptAxis axes[3];
  };
  static constexpr const char* kName = "kept_axes";
  static constexpr std::int32_t kThreads = 1024;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

// A block a line of the copy.
template <class E>
struct CopyKernel {
  struct Params {
    Input<E> from;
    AxisMask mask;  // of (line, depth): what it drops is not read and becomes 0
    std::int32_t lines = 0, depth = 0;
    // Where these are not null, of the kept lines and depths alone; behind the last depth come
    // zeros up to a whole `granule`.
    const std::int32_t *line_index = nullptr, *depth_index = nullptr;
    const std::int32_t *line_count = nullptr, *depth_count = nullptr;
    std::int32_t granule = 1;
    E* to = nullptr;
    std::int64_t line_stride = 0, depth_stride = 1;  // of the copy, one of them 1
  };
  static constexpr const char* kName = "copy";
  static constexpr std::int32_t kThreads = 256;
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

}  // namespace dropgemm::cuda
