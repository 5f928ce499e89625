// Row and tile patterns (Song et al., "Approximate Random Dropout", 2018): a regular pattern of a
// few random numbers in place of a random bit for each neuron (RDP) or each tile of a weight (TDP).
//
//   row pattern    column c of the mask is kept iff (c - offset) mod period == 0
//   tile pattern   tile (r, c) is kept iff (c + skew * r - offset) mod period == 0
//
// The pattern keeps one of `period` columns, and which one is offset; the paper's equation 1 says
// "drop" where its text, figures and p_u = (period - 1) / period say "keep", as here. Every neuron
// is dropped as often as under conventional dropout of the same rate; that equivalence is of the
// marginals only: which neurons are dropped *together* differs.
//
// Periods are drawn from a distribution (search.h finds one for a rate) and offsets uniformly,
// afresh for each site, step and call (philox.h says which draw is which).
// Asynchronous on ctx.stream; no allocation. Defined by src/reference/pattern.cc.
#pragma once

#include <cstdint>

#include "dropgemm/context.h"
#include "dropgemm/mask.h"
#include "dropgemm/philox.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {

constexpr std::int64_t kMaxPeriods = std::int64_t{1} << 31;  // of a distribution

struct Pattern {
  std::int64_t period = 1;  // the paper's dp
  std::int64_t offset = 0;  // b, 0 <= offset < period
};

enum class PatternKind : std::int32_t {
  kRow = 0,   // RDP: every row of tiles alike
  kTile = 1,  // TDP: each row of tiles shifted against the one above it by skew
};

// The distribution of a pattern's period, and the draw that is wanted from it.
// thresholds[i] = floor(2^32 * P(period <= i + 1)), the last one 2^32: pattern_thresholds() makes
// them. They lie where the mask's bits lie and are never validated there: a legal period comes of
// any values.
struct PatternDraw {
  const std::uint64_t* thresholds = nullptr;
  std::int64_t periods = 0;  // how many thresholds; the largest period
  std::uint64_t seed = 0;
  std::int64_t site = 0;
  StepRef step;
  std::int64_t call = 0;
  // Where set: the call, which is clamped to [0, kMaxCall].
  const std::int64_t* call_device = nullptr;
};

// The call, for whoever can read `call_device`.
[[nodiscard]] DROPGEMM_HOST_DEVICE constexpr std::int64_t read_call(const PatternDraw& draw) {
  const std::int64_t call = draw.call_device != nullptr ? *draw.call_device : draw.call;
  return call < 0 ? 0 : (call > kMaxCall ? kMaxCall : call);
}

// The pattern of a draw: period = 1 + #{i : draw >= thresholds[i]}, offset = draw' * period >> 32,
// for the draws of Domain::kPattern and Domain::kOffset. The last threshold, which no draw
// reaches, is not read.
[[nodiscard]] DROPGEMM_HOST_DEVICE constexpr Pattern drawn_pattern(const PatternDraw& draw) {
  DrawStream stream;
  stream.seed = draw.seed;
  stream.domain = Domain::kPattern;
  stream.site = static_cast<std::uint32_t>(draw.site);
  stream.index = static_cast<std::uint32_t>(read_step(draw.step));
  stream.call = static_cast<std::uint32_t>(read_call(draw));
  Pattern pattern;
  const std::uint32_t drawn = stream.draw(0);
  for (std::int64_t i = 0; i + 1 < draw.periods; ++i) {
    pattern.period += drawn >= draw.thresholds[i] ? 1 : 0;
  }
  stream.domain = Domain::kOffset;
  pattern.offset = static_cast<std::int64_t>(static_cast<std::uint64_t>(stream.draw(0)) *
                                                 static_cast<std::uint64_t>(pattern.period) >>
                                             32);
  return pattern;
}

struct PatternMaskArgs {
  MutableTileMaskView mask;  // kRow: usually one tile row, tiles one column wide
  PatternKind kind = PatternKind::kRow;
  Pattern pattern;
  // Of tile patterns. linear_skew: skew is the mask's tile columns, the paper's row-major numbering
  // of tiles; where the period divides it every tile row keeps the same columns, and a tile
  // pattern is no more than dropped inputs.
  std::int64_t skew = 1;
  bool linear_skew = false;
  const PatternDraw* draw = nullptr;  // wins over `pattern` when set
  // Where set: receives the period, which is the exact scale of inverted dropout. In the memory of
  // the bits; written even where the mask has no tiles.
  float* scale = nullptr;
};

// The skew in use: 0 for a row pattern.
[[nodiscard]] constexpr std::int64_t pattern_skew(const PatternMaskArgs& args) {
  if (args.kind == PatternKind::kRow) return 0;
  return args.linear_skew ? ceil_div(args.mask.cols, args.mask.tile_cols) : args.skew;
}

// What can be said of a pattern without the size of a mask.
// Errors: kInvalidArgument for an unknown kind, period < 1, offset outside [0, period), a tile
// pattern's skew that shares a factor with the period: such a skew leaves tile columns that are
// dropped in every tile row. A linear skew may.
[[nodiscard]] Status check_pattern(PatternKind kind, const Pattern& pattern, std::int64_t skew,
                                   bool linear_skew);

// Fills the bits of a mask with a pattern that is given or drawn.
// Errors: kInvalidArgument for those of check_tile_mask and check_pattern; a period (of a draw,
// the largest) above the tile columns (kRow) or above min(tile rows, tile columns) (kTile); for a
// draw, a skew that shares a factor with any of its periods, null thresholds, periods outside
// [1, kMaxPeriods], step, site or call outside philox.h's limits.
[[nodiscard]] Status pattern_mask(const Context& ctx, const PatternMaskArgs& args);

// thresholds[0..periods) of the distribution P(period = i + 1) = probabilities[i] / their sum.
// A period of probability 0 is never drawn.
// Errors: kInvalidArgument for periods outside [1, kMaxPeriods], a probability that is negative or
// not finite, a sum that is not within 1e-6 of 1.
[[nodiscard]] Status pattern_thresholds(const double* probabilities, std::int64_t periods,
                                        std::uint64_t* thresholds);

// The pattern that pattern_mask would draw, on the host: thresholds and step.device are read here.
// Errors: kInvalidArgument as pattern_mask for the draw; thresholds that descend or do not end in
// 2^32.
[[nodiscard]] Status sample_pattern(const PatternDraw& draw, Pattern* pattern);

}  // namespace dropgemm
