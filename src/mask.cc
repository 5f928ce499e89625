// The front end of mask generation: checks every argument by name, then hands over to a backend.
// Bits may lie on a device, so even p = 0 and p = 1 are the backend's to write.
#include "dropgemm/mask.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "cpu/mask.h"
#include "dropgemm/backend.h"
#include "mask_checks.h"
#include "registry.h"

namespace dropgemm {
namespace {

Status check_rate(double p) {
  if (p >= 0.0 && p <= 1.0) return {};  // false for NaN
  return Status::invalid("p", "a dropout rate in [0, 1]", std::to_string(p));
}

// `rows` rows of draws, each of `tiles` rounded up to whole Philox blocks.
Status check_draws(std::int64_t rows, std::int64_t tiles) {
  if (rows == 0 || tiles == 0) return {};
  if (tiles <= kMaxDraws && rows <= kMaxDraws / (4 * ceil_div(tiles, 4))) return {};
  return Status::invalid("mask", "at most 2^34 draws (columns of tiles rounded up to 4)",
                         std::to_string(rows) + " x " + std::to_string(tiles) + " tiles");
}

Status check_draw(Draw draw) {
  if (draw == Draw::kBernoulli || draw == Draw::kExact) return {};
  return Status::invalid("draw", "bernoulli or exact",
                         "code " + std::to_string(static_cast<int>(draw)));
}

Status check_args(const BernoulliMaskArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_mask(args.mask));
  DROPGEMM_RETURN_IF_ERROR(check_rate(args.p));
  DROPGEMM_RETURN_IF_ERROR(check_range("site", args.site, kMaxSite));
  DROPGEMM_RETURN_IF_ERROR(check_step(args.step));
  DROPGEMM_RETURN_IF_ERROR(check_range("call", args.call, kMaxCall));
  DROPGEMM_RETURN_IF_ERROR(check_range("first_row", args.first_row, kMaxDraws));
  if (args.first_row % args.mask.tile_rows != 0) {
    return Status::invalid(
        "first_row",
        "a multiple of the " + std::to_string(args.mask.tile_rows) + " rows of the mask's tiles",
        std::to_string(args.first_row));
  }
  return check_draws(ceil_div(args.first_row + args.mask.rows, args.mask.tile_rows),
                     ceil_div(args.mask.cols, args.mask.tile_cols));
}

// The samples of the mask must lie within the batch.
Status check_part(const BatchPart& part, std::int64_t samples) {
  DROPGEMM_RETURN_IF_ERROR(check_range("part.first", part.first, kMaxBatch));
  DROPGEMM_RETURN_IF_ERROR(check_range("part.batch", part.batch, kMaxBatch));
  if (part.first + samples <= whole_batch(part, samples)) return {};
  return Status::invalid(
      "part.batch",
      "at least the " + std::to_string(part.first + samples) + " samples that the mask ends with",
      std::to_string(part.batch));
}

// A tile row must not straddle two groups: it is within one sample's rows, or the largest that
// divides groups and what of the batch comes before the mask.
Status check_tile_rows(const GyroMaskArgs& args, std::int64_t samples) {
  const std::int64_t sample_rows = args.rows_per_sample;
  const std::int64_t tile_rows = args.mask.tile_rows;
  if (args.step.device != nullptr || samples == 0 || tile_rows == sample_rows) return {};
  const std::int64_t batch = whole_batch(args.part, samples);
  const std::int64_t group_rows = subnet_set(args.schedule, args.step.value, batch).group_rows;
  const std::int64_t shared = std::gcd(group_rows, args.part.first);
  if (tile_rows % sample_rows == 0 && tile_rows / sample_rows == shared) return {};
  std::string legal = std::to_string(sample_rows) + " rows of a sample times 1 or the " +
                      std::to_string(shared) + " samples of a group";
  if (shared != group_rows) {
    legal += " of " + std::to_string(group_rows) + " that divide it and part.first " +
             std::to_string(args.part.first);
  }
  return Status::invalid("mask.tile_rows", legal, std::to_string(tile_rows));
}

Status check_args(const GyroMaskArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_mask(args.mask));
  DROPGEMM_RETURN_IF_ERROR(check_rate(args.p));
  DROPGEMM_RETURN_IF_ERROR(check_draw(args.draw));
  DROPGEMM_RETURN_IF_ERROR(check_schedule(args.schedule));
  DROPGEMM_RETURN_IF_ERROR(check_range("site", args.site, kMaxSite));
  DROPGEMM_RETURN_IF_ERROR(check_step(args.step));
  if (args.rows_per_sample < 1) {
    return Status::invalid("rows_per_sample", "at least 1", std::to_string(args.rows_per_sample));
  }
  if (args.mask.rows % args.rows_per_sample != 0) {
    return Status::invalid(
        "mask.rows", "a multiple of rows_per_sample = " + std::to_string(args.rows_per_sample),
        std::to_string(args.mask.rows));
  }
  const std::int64_t samples = args.mask.rows / args.rows_per_sample;
  DROPGEMM_RETURN_IF_ERROR(check_range("batch", samples, kMaxBatch));
  DROPGEMM_RETURN_IF_ERROR(check_part(args.part, samples));
  DROPGEMM_RETURN_IF_ERROR(check_tile_rows(args, samples));
  return check_draws(1, ceil_div(args.mask.cols, args.mask.tile_cols));
}

}  // namespace

std::int64_t keep_count(double p, std::int64_t tiles) {
  if (tiles <= 0 || !(p < 1.0)) return 0;
  const double kept = std::floor((1.0 - p) * static_cast<double>(tiles) + 0.5);
  return std::clamp(static_cast<std::int64_t>(kept), std::int64_t{1}, tiles);
}

Status bernoulli_mask(const Context& ctx, const BernoulliMaskArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  if (is_empty(args.mask)) return {};
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText error) { return backend->bernoulli_mask(&ctx, &args, error); });
}

Status gyro_mask(const Context& ctx, const GyroMaskArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  if (is_empty(args.mask)) return {};
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText error) { return backend->gyro_mask(&ctx, &args, error); });
}

Status subnet_bits(double p, Draw draw, std::uint64_t seed, std::int64_t site, std::int64_t subnet,
                   std::int64_t feature_tiles, std::uint32_t* bits) {
  DROPGEMM_RETURN_IF_ERROR(check_rate(p));
  DROPGEMM_RETURN_IF_ERROR(check_draw(draw));
  DROPGEMM_RETURN_IF_ERROR(check_range("site", site, kMaxSite));
  DROPGEMM_RETURN_IF_ERROR(check_range("subnet", subnet, kMaxStep));
  DROPGEMM_RETURN_IF_ERROR(check_range("feature_tiles", feature_tiles, kMaxDraws));
  if (feature_tiles == 0) return {};
  if (bits == nullptr) {
    return Status::invalid("bits", std::to_string(ceil_div(feature_tiles, 32)) + " words",
                           "a null pointer");
  }
  // Always the host's memory, whichever backend is in use.
  cpu::subnet_row(p, draw, seed, site, subnet, feature_tiles, bits);
  return {};
}

}  // namespace dropgemm
