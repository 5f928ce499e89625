// How tiles lie in shared memory and which boxes of an array fill them: the arithmetic that the
// Hopper kernel, the maker of tensor maps and the host tests share. Constants and integers only.
//
// The tensor memory accelerator (TMA) copies a box: box_contiguous elements along the array's
// contiguous axis, box_rows along the other, to consecutive bytes of shared memory, swizzled.
// Tensor cores want a tile as slices at most 128 bytes wide. A box is one granule wide or less, so
// a tile can be gathered from any granules of the array.
#pragma once

#include <cstdint>

#include "cuda/config.h"

namespace dropgemm::cuda {

constexpr std::int32_t kSwizzleBytes = 128;  // the widest slice

// One copy: where its first element stands in the tile, and in shared memory (in elements).
struct Box {
  std::int32_t contiguous, row, offset;
};

struct TileLayout {
  std::int32_t contiguous, rows;  // extents of the tile
  std::int32_t box_contiguous, box_rows;
  std::int32_t element_bytes;

  [[nodiscard]] constexpr std::int32_t slices() const { return contiguous / box_contiguous; }
  [[nodiscard]] constexpr std::int32_t boxes() const { return slices() * (rows / box_rows); }
  [[nodiscard]] constexpr std::int32_t bytes() const { return contiguous * rows * element_bytes; }
  // Bytes of a slice's row, whose units of 16 bytes are exchanged so that a column of them meets
  // all banks.
  [[nodiscard]] constexpr std::int32_t swizzle() const { return box_contiguous * element_bytes; }

  [[nodiscard]] constexpr Box box(std::int32_t i) const {
    const std::int32_t slice = i % slices(), row = i / slices() * box_rows;
    return {slice * box_contiguous, row, (slice * rows + row) * box_contiguous};
  }

  // The place of an element, as the copy writes it and as tensor cores read it.
  [[nodiscard]] constexpr std::int32_t offset(std::int32_t at_contiguous,
                                              std::int32_t at_row) const {
    const std::int32_t slice = at_contiguous / box_contiguous;
    const std::int32_t byte =
        ((slice * rows + at_row) * box_contiguous + at_contiguous % box_contiguous) * element_bytes;
    const std::int32_t exchange = (byte >> 7) & (swizzle() / 16 - 1);
    return (byte ^ exchange << 4) / element_bytes;
  }
};

// A tile of A (lines are m) or B (lines are n) of one step along K.
constexpr TileLayout operand_layout(Major major, std::int32_t lines, std::int32_t depth,
                                    std::int32_t line_granule, std::int32_t depth_granule,
                                    std::int32_t element_bytes) {
  const std::int32_t widest = kSwizzleBytes / element_bytes;
  if (major == Major::kDepth) {
    return {depth, lines, depth_granule < widest ? depth_granule : widest, line_granule,
            element_bytes};
  }
  return {lines, depth, line_granule < widest ? line_granule : widest, depth_granule,
          element_bytes};
}

constexpr std::int32_t kStoreRows =
    64;  // that a group of consumers puts into shared memory at once

// A part of D on its way out: kStoreRows rows of one slice of 128 bytes.
constexpr TileLayout store_layout(std::int32_t granule_m, std::int32_t granule_n,
                                  std::int32_t element_bytes) {
  const std::int32_t widest = kSwizzleBytes / element_bytes;
  return {widest, kStoreRows, granule_n < widest ? granule_n : widest,
          granule_m < kStoreRows ? granule_m : kStoreRows, element_bytes};
}

// Where the array holds what stands at `position` of a tile gathered by `id`. Padding is before the
// array, where copies read zeros and write nothing.
constexpr std::int32_t coordinate(std::int32_t id, std::int32_t granule, std::int32_t position) {
  return id * granule + position % granule;
}

}  // namespace dropgemm::cuda
