// A tile mask: one bit per tile of tile_rows x tile_cols elements, 1 = kept.
//
// Bits lie in uint32 words, row-major over tile rows: word [i, j / 32] bit j % 32 (LSB first) is
// tile row i, tile column j. A tile row takes ceil(ceil(cols / tile_cols) / 32) words; padding
// bits are 0. Tiles clip at the edges of the array.
#pragma once

#include <cstdint>
#include <string>

#include "dropgemm/status.h"

namespace dropgemm {

struct TileMaskView {
  const std::uint32_t* bits = nullptr;
  std::int64_t rows = 0;  // of the array that is masked, in elements
  std::int64_t cols = 0;
  std::int64_t tile_rows = 1;
  std::int64_t tile_cols = 1;
  // The keep rate this mask was made for, 1 where it is not known; decides paths, never results.
  double keep_hint = 1.0;
  // The bits describe the transposed array: element (r, c) is bit (c, r) of a cols x rows mask
  // with tiles of tile_cols x tile_rows. Lets a transposed array keep its mask in place.
  bool transposed = false;
};

struct MutableTileMaskView {
  std::uint32_t* bits = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t tile_rows = 1;
  std::int64_t tile_cols = 1;
};

[[nodiscard]] constexpr std::int64_t ceil_div(std::int64_t x, std::int64_t y) {
  return x / y + (x % y != 0 ? 1 : 0);
}

// Words of one tile row of a mask that is `cols` wide.
[[nodiscard]] constexpr std::int64_t mask_row_words(std::int64_t cols, std::int64_t tile_cols) {
  return ceil_div(ceil_div(cols, tile_cols), 32);
}
// Words of a whole mask.
[[nodiscard]] constexpr std::int64_t mask_words(std::int64_t rows, std::int64_t cols,
                                                std::int64_t tile_rows, std::int64_t tile_cols) {
  return ceil_div(rows, tile_rows) * mask_row_words(cols, tile_cols);
}

// The bit of tile (tile_row, tile_col), in tiles of the masked array as passed.
[[nodiscard]] inline bool tile_kept(const TileMaskView& mask, std::int64_t tile_row,
                                    std::int64_t tile_col) {
  const std::int64_t i = mask.transposed ? tile_col : tile_row;
  const std::int64_t j = mask.transposed ? tile_row : tile_col;
  const std::int64_t words = mask.transposed ? mask_row_words(mask.rows, mask.tile_rows)
                                             : mask_row_words(mask.cols, mask.tile_cols);
  return (mask.bits[i * words + j / 32] >> (j % 32) & 1U) != 0;
}
// The bit that element (row, col) falls under.
[[nodiscard]] inline bool element_kept(const TileMaskView& mask, std::int64_t row,
                                       std::int64_t col) {
  return tile_kept(mask, row / mask.tile_rows, col / mask.tile_cols);
}

// The mask of the transposed array: flips a flag, moves nothing.
[[nodiscard]] TileMaskView transposed(const TileMaskView& mask);

// Errors: kInvalidArgument for negative sizes, tiles below 1, null or misaligned bits, keep_hint
// outside [0, 1].
[[nodiscard]] Status check_tile_mask(const std::string& name, const TileMaskView& mask);

}  // namespace dropgemm
