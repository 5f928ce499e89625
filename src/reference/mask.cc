// The definition of the masks: one draw at a time, in the order that philox.h writes down.
// Slow on purpose; every other backend is compared with it bit for bit.
#include <algorithm>
#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#include "reference/bits.h"
#include "reference/reference.h"
#include "registry.h"

namespace dropgemm::reference {
namespace {

// The positions of the `keep` smallest of a stream's first `count` draws, ascending; ties go to
// the lower position.
std::vector<std::int64_t> smallest_draws(const DrawStream& stream, std::int64_t count,
                                         std::int64_t keep) {
  std::vector<std::pair<std::uint32_t, std::int64_t>> draws;
  for (std::int64_t i = 0; i < count; ++i) {
    draws.emplace_back(stream.draw(static_cast<std::uint64_t>(i)), i);
  }
  std::sort(draws.begin(), draws.end());
  std::vector<std::int64_t> kept;
  for (std::int64_t i = 0; i < keep; ++i) {
    kept.push_back(draws[static_cast<std::size_t>(i)].second);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

// The feature tiles that a subnet keeps.
std::vector<std::int64_t> subnet_tiles(const GyroMaskArgs& args, std::int64_t subnet,
                                       std::int64_t tiles) {
  DrawStream stream;
  stream.seed = args.seed;
  stream.site = static_cast<std::uint32_t>(args.site);
  stream.index = static_cast<std::uint32_t>(subnet);
  if (args.draw == Draw::kExact) {
    stream.domain = Domain::kExact;
    return smallest_draws(stream, tiles, keep_count(args.p, tiles));
  }
  stream.domain = Domain::kBits;
  std::vector<std::int64_t> kept;
  for (std::int64_t j = 0; j < tiles; ++j) {
    if (stream.draw(static_cast<std::uint64_t>(j)) >= drop_threshold(args.p)) kept.push_back(j);
  }
  return kept;
}

void fill_gyro_mask(const GyroMaskArgs& args) {
  const MutableTileMaskView& mask = args.mask;
  const std::int64_t step = read_step(args.step);
  const SubnetSet set =
      subnet_set(args.schedule, step, whole_batch(args.part, mask.rows / args.rows_per_sample));
  std::vector<std::int64_t> drawn;
  if (args.schedule.order == SubnetOrder::kRandom) {
    DrawStream stream;
    stream.seed = args.schedule.seed;
    stream.domain = Domain::kSubnetIds;
    stream.index = static_cast<std::uint32_t>(step);
    drawn = smallest_draws(stream, args.schedule.subnets, set.size);
  }
  clear(mask);
  for (std::int64_t i = 0; i < ceil_div(mask.rows, mask.tile_rows); ++i) {
    const std::int64_t sample = args.part.first + i * mask.tile_rows / args.rows_per_sample;
    const std::int64_t slot = set.slot(sample / set.group_rows);
    const std::int64_t subnet =
        drawn.empty() ? set.first + slot : drawn[static_cast<std::size_t>(slot)];
    for (const std::int64_t j : subnet_tiles(args, subnet, ceil_div(mask.cols, mask.tile_cols))) {
      keep_tile(mask, i, j);
    }
  }
}

}  // namespace

std::int32_t bernoulli_mask(const Context* /*ctx*/, const BernoulliMaskArgs* args,
                            ErrorText /*error*/) {
  const MutableTileMaskView& mask = args->mask;
  DrawStream stream;
  stream.seed = read_seed(*args);
  stream.domain = Domain::kBits;
  stream.site = static_cast<std::uint32_t>(args->site);
  stream.index = static_cast<std::uint32_t>(read_step(args->step));
  stream.call = static_cast<std::uint32_t>(args->call);
  const std::int64_t columns = ceil_div(mask.cols, mask.tile_cols);
  const std::int64_t first = args->first_row / mask.tile_rows;
  clear(mask);
  for (std::int64_t i = 0; i < ceil_div(mask.rows, mask.tile_rows); ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const auto tile = static_cast<std::uint64_t>((first + i) * 4 * ceil_div(columns, 4) + j);
      if (stream.draw(tile) >= drop_threshold(args->p)) keep_tile(mask, i, j);
    }
  }
  return 0;
}

std::int32_t gyro_mask(const Context* /*ctx*/, const GyroMaskArgs* args, ErrorText error) {
  try {
    fill_gyro_mask(*args);
  } catch (const std::bad_alloc&) {
    return report({StatusCode::kBackendError, "gyro_mask: no memory for the draws of a row"},
                  error);
  }
  return 0;
}

}  // namespace dropgemm::reference
