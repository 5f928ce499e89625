// Internal: writing a mask's bits one by one.
#pragma once

#include <cstdint>

#include "dropgemm/tile_mask.h"

namespace dropgemm::reference {

inline void clear(const MutableTileMaskView& mask) {
  const std::int64_t words = mask_words(mask.rows, mask.cols, mask.tile_rows, mask.tile_cols);
  for (std::int64_t word = 0; word < words; ++word) mask.bits[word] = 0;
}

inline void keep_tile(const MutableTileMaskView& mask, std::int64_t tile_row,
                      std::int64_t tile_col) {
  std::uint32_t* const row = mask.bits + tile_row * mask_row_words(mask.cols, mask.tile_cols);
  row[tile_col / 32] |= std::uint32_t{1} << (tile_col % 32);
}

}  // namespace dropgemm::reference
