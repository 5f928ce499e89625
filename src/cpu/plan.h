// How the cpu backend goes about a product: the admission rules. Decided by shapes, tiles and
// keep_hints alone, never by a method's name and never by the bits.
#pragma once

#include <cstdint>

#include "dropgemm/gemm.h"

namespace dropgemm::cpu {

// A mask as an axis pair of the product sees it: A as (M, K), B as (N, K), D as (M, N).
struct AxisMask {
  const TileMaskView* mask = nullptr;  // null keeps everything
  bool swapped = false;                // the first axis runs along the array's columns

  [[nodiscard]] std::int64_t first_tile() const {
    return swapped ? mask->tile_cols : mask->tile_rows;
  }
  [[nodiscard]] std::int64_t second_tile() const {
    return swapped ? mask->tile_rows : mask->tile_cols;
  }
  // Whether the tile that position (i, j) of the axis pair falls in is kept.
  [[nodiscard]] bool kept(std::int64_t i, std::int64_t j) const {
    if (mask == nullptr) return true;
    return swapped ? element_kept(*mask, j, i) : element_kept(*mask, i, j);
  }
  // Bit b: position (i, j + b) is kept, b in [0, count <= 32).
  [[nodiscard]] std::uint32_t kept_word(std::int64_t i, std::int64_t j, int count) const;
  // kept_word of positions i .. i + rows - 1, rows <= 32.
  void kept_words(std::int64_t i, int rows, std::int64_t j, int count, std::uint32_t* words) const;
};

[[nodiscard]] AxisMask a_axis_mask(const GemmArgs& args);
[[nodiscard]] AxisMask b_axis_mask(const GemmArgs& args);
[[nodiscard]] AxisMask d_axis_mask(const GemmArgs& args);

// kPruned   units that are multiples of 8 along M, 32 along N and 8 along K (or whole extents)
// kCompact  every mask is one tile high or one tile wide: kept indices are the same everywhere
// kSelect   anything else, and where skipping is expected to take longer: masks are applied while
//           packing and storing
[[nodiscard]] GemmPlan make_plan(const GemmArgs& args);

}  // namespace dropgemm::cpu
