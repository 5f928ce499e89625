// A mask of some rows of a batch, as data-parallel ranks ask for it, is those rows of the mask of
// the whole batch: bit for bit, on every CPU backend, wherever the rows begin.
#include <gtest/gtest.h>

#include <cstddef>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "dropgemm/backend.h"
#include "dropgemm/mask.h"

namespace dropgemm {
namespace {

constexpr std::int64_t kCols = 70;

// One byte an element of rows x kCols, 1 = kept.
template <class Args>
std::vector<char> elements(const Context& ctx, Args args, std::int64_t rows, std::int64_t tile_rows,
                           std::int64_t tile_cols) {
  const std::int64_t row_words = mask_row_words(kCols, tile_cols);
  std::vector<std::uint32_t> bits(
      static_cast<std::size_t>(mask_words(rows, kCols, tile_rows, tile_cols)), 0xA5A5A5A5U);
  args.mask = {bits.data(), rows, kCols, tile_rows, tile_cols};
  Status status;
  if constexpr (std::is_same_v<Args, GyroMaskArgs>) {
    status = gyro_mask(ctx, args);
  } else {
    status = bernoulli_mask(ctx, args);
  }
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<char> kept;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < kCols; ++j) {
      const std::int64_t tile = j / tile_cols;
      const auto word = static_cast<std::size_t>(i / tile_rows * row_words + tile / 32);
      kept.push_back(static_cast<char>(bits[word] >> (tile % 32) & 1U));
    }
  }
  return kept;
}

std::vector<char> rows_of(const std::vector<char>& kept, std::int64_t first, std::int64_t rows) {
  return {kept.begin() + first * kCols, kept.begin() + (first + rows) * kCols};
}

class MaskPart : public testing::TestWithParam<const char*> {
 protected:
  MaskPart() { EXPECT_TRUE(find_backend(GetParam(), &ctx_.backend).ok()); }
  Context ctx_;
};
INSTANTIATE_TEST_SUITE_P(EveryBackend, MaskPart, testing::Values("reference", "cpu"),
                         [](const auto& each) { return std::string(each.param); });

// Four ranks of `samples` samples each.
void check_ranks(const Context& ctx, GyroMaskArgs args, std::int64_t samples) {
  const std::int64_t batch = 4 * samples, positions = args.rows_per_sample;
  const std::int64_t group = subnet_set(args.schedule, args.step.value, batch).group_rows;
  const auto whole = elements(ctx, args, batch * positions, group * positions, 4);
  for (std::int64_t first = 0; first < batch; first += samples) {
    args.part = {first, batch};
    const auto expected = rows_of(whole, first * positions, samples * positions);
    for (const std::int64_t height : {std::gcd(group, first), std::int64_t{1}}) {
      EXPECT_EQ(elements(ctx, args, samples * positions, height * positions, 4), expected)
          << "sample " << first << " of " << batch << ", step " << args.step.value;
    }
  }
}

// Batches that are multiples of a group and others, of one sample, with and without positions.
TEST_P(MaskPart, GyroRowsAreThoseOfTheBatch) {
  GyroMaskArgs args;
  args.schedule.total_steps = 40;
  args.schedule.subnets = 22;
  args.schedule.coscheduled = 4;
  args.seed = 3;
  args.site = 2;
  for (const std::int64_t step : {0, 5, 39}) {  // the last set has two subnets
    args.step.value = step;
    for (const SubnetOrder order : {SubnetOrder::kConsecutive, SubnetOrder::kRandom}) {
      args.schedule.order = order;
      for (const std::int64_t group_rows : {0, 8}) {
        args.schedule.tile_rows = group_rows;
        for (const std::int64_t samples : {16, 12, 10, 7, 1}) {
          args.rows_per_sample = samples % 3 + 1;
          check_ranks(ctx_, args, samples);
        }
      }
    }
  }
}

TEST_P(MaskPart, ABatchOfNoSamplesIsTheMasks) {
  GyroMaskArgs args;
  args.schedule.tile_rows = 4;
  const auto expected = elements(ctx_, args, 20, 4, 1);
  args.part.batch = 20;
  EXPECT_EQ(elements(ctx_, args, 20, 4, 1), expected);
}

TEST_P(MaskPart, BernoulliRowsAreThoseOfTheMask) {
  BernoulliMaskArgs args;
  args.seed = 11;
  args.p = 0.4;
  const auto whole = elements(ctx_, args, 60, 1, 1);
  const auto tiles = elements(ctx_, args, 60, 4, 8);
  for (const std::int64_t first : {0, 1, 20, 59}) {
    args.first_row = first;
    EXPECT_EQ(elements(ctx_, args, 60 - first, 1, 1), rows_of(whole, first, 60 - first)) << first;
  }
  args.first_row = 20;
  EXPECT_EQ(elements(ctx_, args, 40, 4, 8), rows_of(tiles, 20, 40));
}

}  // namespace
}  // namespace dropgemm
