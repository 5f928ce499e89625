// Mask generation: fills the bits of a tile mask from a seed (philox.h says which bit is which).
// Asynchronous on ctx.stream; no allocation. Defined by src/reference/mask.cc.
#pragma once

#include <cstdint>

#include "dropgemm/context.h"
#include "dropgemm/schedule.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {

enum class Draw : std::int32_t {
  kBernoulli = 0,  // every tile independently kept with probability 1 - p
  kExact = 1,      // exactly keep_count(p, tiles) of a row's tiles, uniformly
};

// k = round((1 - p) * tiles), halves up, at least 1 while p < 1. 0 tiles: 0.
[[nodiscard]] std::int64_t keep_count(double p, std::int64_t tiles);

// A training step that is either known now or lives on the operands' device as one int64
// (clamped to [0, kMaxStep] there, never validated).
struct StepRef {
  std::int64_t value = 0;
  const std::int64_t* device = nullptr;  // wins over `value` when set
};

// The step, for whoever can read `device`: a backend, in the memory that it works on.
[[nodiscard]] DROPGEMM_HOST_DEVICE constexpr std::int64_t read_step(const StepRef& step) {
  const std::int64_t value = step.device != nullptr ? *step.device : step.value;
  return value < 0 ? 0 : (value > kMaxStep ? kMaxStep : value);
}

// Conventional dropout: independent bits, fresh for every (step, call).
struct BernoulliMaskArgs {
  MutableTileMaskView mask;
  double p = 0.5;
  std::uint64_t seed = 0;
  std::int64_t site = 0;
  StepRef step;
  std::int64_t call = 0;
  // The row of a larger mask that this one begins with, as a rank's rows of a joined batch do.
  std::int64_t first_row = 0;
  const std::uint64_t* seed_device = nullptr;  // where the bits lie; wins over `seed` when set
};

// The seed, for whoever can read `seed_device`.
[[nodiscard]] DROPGEMM_HOST_DEVICE constexpr std::uint64_t read_seed(
    const BernoulliMaskArgs& args) {
  return args.seed_device != nullptr ? *args.seed_device : args.seed;
}

// Errors: kInvalidArgument for p outside [0, 1] or NaN, step, site or call outside philox.h's
// limits, a first_row that is no multiple of mask.tile_rows, more than kMaxDraws tiles (columns of
// tiles rounded up to 4; those of the rows before first_row count).
[[nodiscard]] Status bernoulli_mask(const Context& ctx, const BernoulliMaskArgs& args);

// Gyro and block-wise gyro dropout (Lee et al., 2022, sections 4.2 and 4.4): row group j of the
// batch keeps the features of its subnet. mask.rows is the samples of the mask times
// rows_per_sample; they are the whole batch unless `part` says which of it. A tile row takes the
// subnet of the group that its first sample is in, so mask.tile_rows must be rows_per_sample times
// gcd(R, part.first) (subnet_set's group_rows of the whole batch; the gcd is R where the part
// begins with a group), or rows_per_sample * 1, which serves every step where R changes with the
// step. Every forward of a step gets the same bits: there is no call.
struct GyroMaskArgs {
  MutableTileMaskView mask;
  double p = 0.5;
  GyroSchedule schedule;
  std::int64_t rows_per_sample = 1;  // positions of a sample share its subnet
  std::int64_t site = 0;
  StepRef step;
  std::uint64_t seed = 0;
  Draw draw = Draw::kBernoulli;
  BatchPart part;
};

// Errors: those of check_schedule and bernoulli_mask; rows not a multiple of rows_per_sample;
// a part that ends after the batch; another tile_rows than the two above where the step is known
// on the host.
[[nodiscard]] Status gyro_mask(const Context& ctx, const GyroMaskArgs& args);

// The bits of one subnet: `feature_tiles` bits in ceil(feature_tiles / 32) words. The masks of
// gyro_mask are rows of these.
[[nodiscard]] Status subnet_bits(double p, Draw draw, std::uint64_t seed, std::int64_t site,
                                 std::int64_t subnet, std::int64_t feature_tiles,
                                 std::uint32_t* bits);

}  // namespace dropgemm
