// The definition of the patterns: one tile at a time, by the formula of pattern.h.
#include "dropgemm/pattern.h"

#include "reference/bits.h"
#include "reference/reference.h"

namespace dropgemm::reference {

std::int32_t pattern_mask(const Context* /*ctx*/, const PatternMaskArgs* args,
                          ErrorText /*error*/) {
  const MutableTileMaskView& mask = args->mask;
  const Pattern pattern = args->draw != nullptr ? drawn_pattern(*args->draw) : args->pattern;
  const std::int64_t skew = pattern_skew(*args) % pattern.period;
  clear(mask);
  for (std::int64_t r = 0; r < ceil_div(mask.rows, mask.tile_rows); ++r) {
    for (std::int64_t c = 0; c < ceil_div(mask.cols, mask.tile_cols); ++c) {
      if ((c + skew * r - pattern.offset) % pattern.period == 0) keep_tile(mask, r, c);
    }
  }
  if (args->scale != nullptr) *args->scale = static_cast<float>(pattern.period);
  return 0;
}

}  // namespace dropgemm::reference
