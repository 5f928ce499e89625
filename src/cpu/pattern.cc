// Patterns on CPUs, a word at a time, on the calling thread alone: a word costs about a nanosecond,
// and the masks of patterns are small.
#include "dropgemm/pattern.h"

#include <algorithm>

#include "cpu/mask.h"

namespace dropgemm::cpu {
namespace {

// Bits first, first + period, ... of a row of `count`; 0 <= first < period.
void pattern_row(std::int64_t period, std::int64_t first, std::int64_t count, std::uint32_t* row) {
  const std::int64_t words = ceil_div(count, 32);
  if (period >= 32) {
    std::fill_n(row, words, 0U);
    for (std::int64_t c = first; c < count; c += period) {
      row[c / 32] |= std::uint32_t{1} << (c % 32);
    }
    return;
  }
  // Every word is the same comb, shifted by where its first tooth stands.
  std::uint32_t comb = 0;
  for (std::int64_t i = 0; i < 32; i += period) comb |= std::uint32_t{1} << i;
  const std::int64_t slip = 32 % period;
  for (std::int64_t word = 0; word < words; ++word) {
    row[word] = comb << first;
    first -= slip;
    if (first < 0) first += period;
  }
  if (count % 32 != 0) row[words - 1] &= (std::uint32_t{1} << (count % 32)) - 1;
}

}  // namespace

std::int32_t pattern_mask(const Context* /*ctx*/, const PatternMaskArgs* args,
                          ErrorText /*error*/) {
  const MutableTileMaskView& mask = args->mask;
  const Pattern pattern = args->draw != nullptr ? drawn_pattern(*args->draw) : args->pattern;
  if (args->scale != nullptr) *args->scale = static_cast<float>(pattern.period);
  const std::int64_t columns = ceil_div(mask.cols, mask.tile_cols);
  if (columns == 0) return 0;
  const std::int64_t shift = pattern_skew(*args) % pattern.period;  // the sign is skew's
  std::int64_t first = pattern.offset;
  for (std::int64_t r = 0; r < ceil_div(mask.rows, mask.tile_rows); ++r) {
    pattern_row(pattern.period, first, columns, mask.bits + r * ceil_div(columns, 32));
    first = (first - shift + pattern.period) % pattern.period;
  }
  return 0;
}

}  // namespace dropgemm::cpu
