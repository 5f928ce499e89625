// Masks as kernels look at them: of an array, and of a pair of the product's axes.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/device.h"
#include "dropgemm/gemm.h"

namespace dropgemm::cuda {

// A TileMaskView whose sizes are clipped to the array's, so that 32 bits do.
struct DeviceMask {
  const std::uint32_t* bits = nullptr;  // null: keeps everything
  std::int32_t tile_rows = 1, tile_cols = 1;
  std::int32_t line_words = 0;  // of one line of bits
  bool transposed = false;      // lines of bits run along the array's columns

  [[nodiscard]] DROPGEMM_DEVICE bool kept(std::int32_t row, std::int32_t col) const {
    if (bits == nullptr) return true;
    const std::int32_t i = row / tile_rows, j = col / tile_cols;
    const std::int32_t line = transposed ? j : i, bit = transposed ? i : j;
    return (bits[std::int64_t{line} * line_words + bit / 32] >> (bit % 32) & 1U) != 0;
  }
};

// A as (M, K), B as (N, K), D as (M, N).
struct AxisMask {
  DeviceMask mask;
  bool swapped = false;  // the first axis runs along the array's columns

  [[nodiscard]] bool present() const { return mask.bits != nullptr; }
  [[nodiscard]] std::int32_t first_tile() const {
    return swapped ? mask.tile_cols : mask.tile_rows;
  }
  [[nodiscard]] std::int32_t second_tile() const {
    return swapped ? mask.tile_rows : mask.tile_cols;
  }
  [[nodiscard]] DROPGEMM_DEVICE bool kept(std::int32_t i, std::int32_t j) const {
    return swapped ? mask.kept(j, i) : mask.kept(i, j);
  }
};

[[nodiscard]] inline AxisMask axis_mask(const TileMaskView* view, bool swapped) {
  AxisMask axis;
  axis.swapped = swapped;
  if (view == nullptr) return axis;
  const auto clipped = [](std::int64_t tile, std::int64_t extent) {
    return static_cast<std::int32_t>(
        std::clamp<std::int64_t>(tile, 1, std::max<std::int64_t>(extent, 1)));
  };
  axis.mask.bits = view->bits;
  axis.mask.tile_rows = clipped(view->tile_rows, view->rows);
  axis.mask.tile_cols = clipped(view->tile_cols, view->cols);
  axis.mask.line_words =
      static_cast<std::int32_t>(view->transposed ? mask_row_words(view->rows, view->tile_rows)
                                                 : mask_row_words(view->cols, view->tile_cols));
  axis.mask.transposed = view->transposed;
  return axis;
}

[[nodiscard]] inline AxisMask a_axis_mask(const GemmArgs& args) {
  return axis_mask(args.a_mask, args.trans_a);
}
[[nodiscard]] inline AxisMask b_axis_mask(const GemmArgs& args) {
  return axis_mask(args.b_mask, !args.trans_b);
}
[[nodiscard]] inline AxisMask d_axis_mask(const GemmArgs& args) {
  return axis_mask(args.d_mask, false);
}

}  // namespace dropgemm::cuda
