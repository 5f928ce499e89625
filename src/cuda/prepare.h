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
  AxisMask operand, other;  // of (position, anything): of A or B; of D, or for K of B
  bool other_is_d = false;  // what this drops is to become 0
  std::int32_t extent = 0;
  // Of [extent]; null where nothing is dropped. The position of each kept one; and its inverse,
  // kNoSum or kZero (work.h) where there is none.
  std::int32_t *index = nullptr, *position = nullptr;
  std::int32_t* count = nullptr;

  [[nodiscard]] bool present() const { return operand.present() || other.present(); }
};

// The three axes of a compacted product: kPart positions a block, which counts what is kept before
// them by itself.
struct KeptAxesKernel {
  struct Params {
    KeptAxis axes[3];
  };
  static constexpr const char* kName = "kept_axes";
  static constexpr std::int32_t kThreads = 1024;
  static constexpr std::int32_t kPart = 8 * kThreads;
  static constexpr std::size_t kShared = (kThreads / kWarp + 1) * sizeof(std::int32_t);
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

template <class E>
struct OperandCopy {
  Input<E> from;
  AxisMask mask;  // of (line, depth): what it drops is not read and becomes 0
  std::int32_t lines = 0, depth = 0;
  // Where these are not null, of the kept lines and depths alone; behind the last depth come
  // zeros up to a whole `granule`.
  const std::int32_t *line_index = nullptr, *depth_index = nullptr;
  const std::int32_t *line_count = nullptr, *depth_count = nullptr;
  std::int32_t granule = 1;
  // One stride of the copy is 1; the other leaves room for whole 32s. Null: nothing to copy.
  E* to = nullptr;
  std::int64_t line_stride = 0, depth_stride = 1;
};

// A block kRows rows of a copy at a time (lines, or depths where lines are contiguous), a thread
// kWide neighbours of each, which it reads all before it writes any.
template <class E>
struct CopyKernel {
  struct Params {
    OperandCopy<E> copies[2];
  };
  static constexpr const char* kName = "copy";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kRows = 4;
  static constexpr std::int32_t kWide = 8 / sizeof(E);
  static DROPGEMM_DEVICE void run(const Params& p, const Block& block);
};

}  // namespace dropgemm::cuda
