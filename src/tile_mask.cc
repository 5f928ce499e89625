// Tile masks: the transposed view and the checks. Bits are made in mask.cc.
#include "dropgemm/tile_mask.h"

#include <limits>
#include <string>
#include <utility>

namespace dropgemm {

TileMaskView transposed(const TileMaskView& mask) {
  TileMaskView result = mask;
  std::swap(result.rows, result.cols);
  std::swap(result.tile_rows, result.tile_cols);
  result.transposed = !mask.transposed;
  return result;
}

Status check_tile_mask(const std::string& name, const TileMaskView& mask) {
  const auto pair = [](std::int64_t x, std::int64_t y) {
    return std::to_string(x) + " x " + std::to_string(y);
  };
  if (mask.rows < 0 || mask.cols < 0) {
    return Status::invalid(name, "sizes of at least 0", pair(mask.rows, mask.cols));
  }
  if (mask.tile_rows < 1 || mask.tile_cols < 1) {
    return Status::invalid(name, "tiles of at least 1 x 1", pair(mask.tile_rows, mask.tile_cols));
  }
  // The negated form also refuses NaN.
  if (!(mask.keep_hint >= 0.0 && mask.keep_hint <= 1.0)) {
    return Status::invalid(name + ".keep_hint", "a rate in [0, 1]", std::to_string(mask.keep_hint));
  }
  const std::int64_t rows =
      mask.transposed ? ceil_div(mask.cols, mask.tile_cols) : ceil_div(mask.rows, mask.tile_rows);
  const std::int64_t row_words = mask.transposed ? mask_row_words(mask.rows, mask.tile_rows)
                                                 : mask_row_words(mask.cols, mask.tile_cols);
  // 32 bits a word: a bit's index has to fit as well as a word's address.
  if (rows > 0 && row_words > std::numeric_limits<std::int64_t>::max() / 32 / rows) {
    return Status::invalid(name, "fewer than 2^63 bits", pair(rows, row_words) + " words");
  }
  if (rows > 0 && row_words > 0 && mask.bits == nullptr) {
    return Status::invalid(name, pair(rows, row_words) + " words of bits", "a null pointer");
  }
  const auto past = reinterpret_cast<std::uintptr_t>(mask.bits) % sizeof(std::uint32_t);
  if (past != 0) {
    return Status::invalid(name, "bits aligned to 4 bytes",
                           "a pointer " + std::to_string(past) + " past a multiple");
  }
  return {};
}

}  // namespace dropgemm
