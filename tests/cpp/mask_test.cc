// Mask generation on every CPU backend: bits compared exactly with philox.h's definition and with
// the reference, at ragged sizes, for every thread count and instruction set.
// How often features are dropped is mask_frequency_test.cc's; bad input is mask_check_test.cc's.
#include "dropgemm/mask.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "cpu/isa.h"
#include "dropgemm/backend.h"
#include "every_backend.h"

namespace dropgemm {
namespace {

constexpr std::uint32_t kPoison = 0xA5A5A5A5U;
constexpr std::int64_t kSizes[] = {1, 31, 32, 33, 99, 128, 1000};
constexpr double kRates[] = {0.0, 0.1, 0.5, 0.9, 1.0 - 1e-12, 1.0};

Context on(const std::string& name, int threads = 0) {
  Context ctx;
  const Status status = find_tested(name, &ctx.backend);
  EXPECT_TRUE(status.ok()) << status.message();
  ctx.num_threads = threads;
  return ctx;
}

// A mask's memory, poisoned, with a canary on either side.
class Bits {
 public:
  Bits(std::int64_t rows, std::int64_t cols, std::int64_t tile_rows, std::int64_t tile_cols)
      : words_(static_cast<std::size_t>(mask_words(rows, cols, tile_rows, tile_cols)) + 2,
               kPoison) {
    view_.bits = words_.data() + 1;
    view_.rows = rows;
    view_.cols = cols;
    view_.tile_rows = tile_rows;
    view_.tile_cols = tile_cols;
  }
  [[nodiscard]] const MutableTileMaskView& view() const { return view_; }
  [[nodiscard]] std::vector<std::uint32_t> words() const {
    EXPECT_EQ(words_.front(), kPoison) << "written before the mask";
    EXPECT_EQ(words_.back(), kPoison) << "written past the mask";
    return {words_.begin() + 1, words_.end() - 1};
  }

 private:
  std::vector<std::uint32_t> words_;
  MutableTileMaskView view_;
};

std::vector<std::uint32_t> draw(const Context& ctx, BernoulliMaskArgs args, std::int64_t rows,
                                std::int64_t cols, std::int64_t tile_rows = 1,
                                std::int64_t tile_cols = 1) {
  const Bits bits(rows, cols, tile_rows, tile_cols);
  args.mask = bits.view();
  const Status status = bernoulli_mask(ctx, args);
  EXPECT_TRUE(status.ok()) << status.message();
  return bits.words();
}

std::vector<std::uint32_t> draw(const Context& ctx, GyroMaskArgs args, std::int64_t rows,
                                std::int64_t cols, std::int64_t tile_rows,
                                std::int64_t tile_cols = 1) {
  const Bits bits(rows, cols, tile_rows, tile_cols);
  args.mask = bits.view();
  const Status status = gyro_mask(ctx, args);
  EXPECT_TRUE(status.ok()) << status.message();
  return bits.words();
}

bool bit(const std::vector<std::uint32_t>& words, std::int64_t index) {
  return (words[static_cast<std::size_t>(index / 32)] >> (index % 32) & 1U) != 0;
}

// One row's bits by the text of philox.h: Bernoulli, or exact with the k smallest and ties low.
std::vector<std::uint32_t> row_by_definition(const DrawStream& stream, double p,
                                             std::uint64_t first_draw, std::int64_t count,
                                             bool exact) {
  std::vector<std::uint32_t> words(static_cast<std::size_t>(ceil_div(count, 32)));
  std::vector<std::pair<std::uint32_t, std::int64_t>> draws;
  for (std::int64_t i = 0; i < count; ++i) {
    draws.emplace_back(stream.draw(first_draw + static_cast<std::uint64_t>(i)), i);
  }
  if (exact) {
    std::sort(draws.begin(), draws.end());
    draws.resize(static_cast<std::size_t>(keep_count(p, count)));
  }
  for (const auto& [value, i] : draws) {
    if (exact || value >= static_cast<std::uint64_t>(std::floor(p * 4294967296.0))) {
      words[static_cast<std::size_t>(i / 32)] |= 1U << (i % 32);
    }
  }
  return words;
}

class EveryBackend : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Mask, EveryBackend, testing::ValuesIn(every_backend()),
                         [](const auto& each) { return each.param; });

TEST_P(EveryBackend, BernoulliBitsAreTheDefinition) {
  BernoulliMaskArgs args;
  args.seed = 0x1234567890abcdefULL;
  args.site = kMaxSite;
  args.step.value = kMaxStep - 5;
  args.call = 3;
  const DrawStream stream = {args.seed, Domain::kBits, 0xffffffffU, 0xffffffffU - 5, 3};
  for (const std::int64_t cols : kSizes) {
    for (const double p : kRates) {
      args.p = p;
      std::vector<std::uint32_t> expected;
      for (std::uint64_t i = 0; i < 5; ++i) {
        const auto row_draws = static_cast<std::uint64_t>(4 * ceil_div(cols, 4));
        const auto row = row_by_definition(stream, p, i * row_draws, cols, false);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      ASSERT_EQ(draw(on(GetParam()), args, 5, cols), expected) << cols << " columns, p = " << p;
    }
  }
}

TEST_P(EveryBackend, BernoulliTilesClipAtTheEdges) {
  BernoulliMaskArgs args;
  args.seed = 4;
  // 3 x 100 tiles, however large each is and however little of the last one there is.
  const auto expected = draw(on(GetParam()), args, 3, 100);
  EXPECT_EQ(draw(on(GetParam()), args, 17, 397, 8, 4), expected);
  EXPECT_EQ(draw(on(GetParam()), args, 257, 3169, 128, 32), expected);
}

TEST_P(EveryBackend, BernoulliPrefixesDoNotDependOnWhatFollows) {
  BernoulliMaskArgs args;
  args.seed = 99;
  const auto wide = draw(on(GetParam()), args, 1, 1000);
  for (const std::int64_t cols : kSizes) {
    const auto narrow = draw(on(GetParam()), args, 1, cols);
    for (std::int64_t j = 0; j < cols; ++j) ASSERT_EQ(bit(narrow, j), bit(wide, j)) << cols;
  }
  // Rows start where the row before has spent whole blocks: 97..100 columns agree on every row.
  const auto widest = draw(on(GetParam()), args, 6, 100);
  for (const std::int64_t cols : {97, 98, 99}) {
    const auto narrow = draw(on(GetParam()), args, 6, cols);
    for (std::int64_t i = 0; i < 6; ++i) {
      for (std::int64_t j = 0; j < cols; ++j) {
        ASSERT_EQ(bit(narrow, i * 128 + j), bit(widest, i * 128 + j));
      }
    }
  }
}

TEST_P(EveryBackend, PaddingBitsAreZero) {
  BernoulliMaskArgs args;
  GyroMaskArgs gyro;
  args.p = gyro.p = 0.0;  // every other bit is set
  for (const std::int64_t cols : kSizes) {
    for (const auto& words :
         {draw(on(GetParam()), args, 2, cols), draw(on(GetParam()), gyro, 8, cols, 1)}) {
      const std::int64_t row_words = ceil_div(cols, 32);
      for (std::size_t w = 0; w < words.size(); ++w) {
        const std::int64_t left = cols - static_cast<std::int64_t>(w) % row_words * 32;
        ASSERT_EQ(words[w], left >= 32 ? ~0U : (1U << left) - 1);
      }
    }
  }
}

TEST_P(EveryBackend, GyroRowsAreTheirSubnetsBits) {
  GyroMaskArgs args;
  args.schedule.total_steps = 50;
  args.schedule.subnets = 20;
  args.schedule.coscheduled = 8;
  args.schedule.seed = 77;
  args.seed = 0xfedcba9876543210ULL;
  args.site = 12;
  for (const SubnetOrder order : {SubnetOrder::kConsecutive, SubnetOrder::kRandom}) {
    args.schedule.order = order;
    for (const Draw kind : {Draw::kBernoulli, Draw::kExact}) {
      args.draw = kind;
      for (const std::int64_t group_rows : {0, 16}) {
        args.schedule.tile_rows = group_rows;
        for (const std::int64_t cols : kSizes) {
          for (const std::int64_t step : {0, 7, 49, 60}) {
            args.step.value = step;
            args.p = 0.3;
            constexpr std::int64_t kBatch = 100;
            const SubnetSet set = subnet_set(args.schedule, step, kBatch);
            std::vector<std::int64_t> ids(static_cast<std::size_t>(set.groups));
            ASSERT_TRUE(subnet_ids(args.schedule, step, kBatch, ids.data()).ok());
            std::vector<std::uint32_t> expected;
            for (const std::int64_t id : ids) {
              const bool exact = kind == Draw::kExact;
              const DrawStream stream = {args.seed, exact ? Domain::kExact : Domain::kBits, 12,
                                         static_cast<std::uint32_t>(id), 0};
              const auto row = row_by_definition(stream, args.p, 0, cols, exact);
              expected.insert(expected.end(), row.begin(), row.end());
              std::vector<std::uint32_t> alone(row.size(), kPoison);
              ASSERT_TRUE(subnet_bits(args.p, kind, args.seed, 12, id, cols, alone.data()).ok());
              ASSERT_EQ(alone, row);
            }
            ASSERT_EQ(draw(on(GetParam()), args, kBatch, cols, set.group_rows), expected)
                << cols << " columns, step " << step;
          }
        }
      }
    }
  }
}

// Three positions a sample; a tile row is a group, or one sample, and says the same.
TEST_P(EveryBackend, GyroPositionsOfASampleShareItsSubnet) {
  GyroMaskArgs args;
  args.rows_per_sample = 3;
  args.schedule.tile_rows = 4;
  args.step.value = 5;
  constexpr std::int64_t kBatch = 30, kCols = 70;
  const auto by_group = draw(on(GetParam()), args, kBatch * 3, kCols, 12);
  const auto by_sample = draw(on(GetParam()), args, kBatch * 3, kCols, 3);
  for (std::int64_t sample = 0; sample < kBatch; ++sample) {
    for (std::int64_t j = 0; j < kCols; ++j) {
      ASSERT_EQ(bit(by_sample, sample * 96 + j), bit(by_group, sample / 4 * 96 + j));
    }
  }
  args.rows_per_sample = 1;  // the same groups of samples, whatever the positions
  EXPECT_EQ(draw(on(GetParam()), args, kBatch, kCols, 4), by_group);
}

TEST_P(EveryBackend, ExactDrawsKeepExactlyK) {
  GyroMaskArgs args;
  args.draw = Draw::kExact;
  args.schedule.tile_rows = 1;
  for (const std::int64_t cols : {1, 2, 31, 32, 33, 99, 1000, 5000}) {
    for (const double p : kRates) {
      args.p = p;
      const auto words = draw(on(GetParam()), args, 16, cols, 1);
      for (std::int64_t row = 0; row < 16; ++row) {
        std::int64_t kept = 0;
        for (std::int64_t w = 0; w < ceil_div(cols, 32); ++w) {
          kept += __builtin_popcount(words[static_cast<std::size_t>(row * ceil_div(cols, 32) + w)]);
        }
        ASSERT_EQ(kept, keep_count(p, cols)) << cols << " columns, p = " << p;
      }
    }
  }
}

// 2^17 draws of 32 bits hold two equal ones more often than not; k is set to fall between them.
TEST_P(EveryBackend, ExactTiesGoToTheLowerTile) {
  constexpr std::int64_t kCols = 1 << 17;
  GyroMaskArgs args;
  args.draw = Draw::kExact;
  args.schedule.subnets = 1;
  args.schedule.tile_rows = 1;
  int ties = 0;
  for (args.seed = 0; args.seed < 4; ++args.seed) {
    const DrawStream stream = {args.seed, Domain::kExact, 0, 0, 0};
    std::vector<std::pair<std::uint32_t, std::int64_t>> draws;
    for (std::int64_t i = 0; i < kCols; ++i) {
      draws.emplace_back(stream.draw(static_cast<std::uint64_t>(i)), i);
    }
    std::sort(draws.begin(), draws.end());
    for (std::size_t rank = 1; rank < draws.size(); ++rank) {
      if (draws[rank - 1].first != draws[rank].first) continue;
      ++ties;
      args.p = 1.0 - static_cast<double>(rank) / kCols;
      ASSERT_EQ(keep_count(args.p, kCols), static_cast<std::int64_t>(rank));
      const auto words = draw(on(GetParam()), args, 1, kCols, 1);
      EXPECT_TRUE(bit(words, draws[rank - 1].second));
      EXPECT_FALSE(bit(words, draws[rank].second));
    }
  }
  EXPECT_GT(ties, 0);
}

TEST_P(EveryBackend, AStepOnTheDeviceWinsAndIsClamped) {
  std::int64_t step = 41;
  BernoulliMaskArgs args;
  GyroMaskArgs gyro;
  gyro.schedule.total_steps = 100;
  const auto at = [&](std::int64_t value, bool device) {
    args.step = gyro.step = StepRef{device ? std::int64_t{7} : value, device ? &step : nullptr};
    step = value;
    return std::make_pair(draw(on(GetParam()), args, 3, 50), draw(on(GetParam()), gyro, 16, 50, 1));
  };
  EXPECT_EQ(at(41, true), at(41, false));
  EXPECT_NE(at(41, true), at(7, false));
  EXPECT_EQ(at(-5, true), at(0, false));
  EXPECT_EQ(at(std::numeric_limits<std::int64_t>::min(), true), at(0, false));
  EXPECT_EQ(at(std::numeric_limits<std::int64_t>::max(), true), at(kMaxStep, false));
}

TEST_P(EveryBackend, ASeedOnTheDeviceWins) {
  std::uint64_t seed = 0xfedcba9876543210ULL;
  BernoulliMaskArgs args;
  args.seed = seed;
  const std::vector<std::uint32_t> expected = draw(on(GetParam()), args, 3, 50);
  args.seed = 7;
  EXPECT_NE(draw(on(GetParam()), args, 3, 50), expected);
  args.seed_device = &seed;
  EXPECT_EQ(draw(on(GetParam()), args, 3, 50), expected);
}

TEST_P(EveryBackend, EmptyMasksAreLeftAlone) {
  BernoulliMaskArgs args;
  GyroMaskArgs gyro;
  for (const auto& [rows, cols] : {std::make_pair(0, 5), std::make_pair(5, 0)}) {
    args.mask.rows = gyro.mask.rows = rows;
    args.mask.cols = gyro.mask.cols = cols;
    EXPECT_TRUE(bernoulli_mask(on(GetParam()), args).ok());
    EXPECT_TRUE(gyro_mask(on(GetParam()), gyro).ok());
  }
}

// The fast path, every way it may run, against the naive one.
TEST(MaskCpu, IsTheReferenceForEveryThreadCountAndInstructionSet) {
  const std::string usual = cpu::isa_name();
  for (const std::string& isa : cpu::isa_names()) {
    ASSERT_TRUE(cpu::use_isa(isa).ok());
    for (const int threads : {0, 1, 2, 5}) {
      for (const std::int64_t cols : {1, 31, 32, 33, 99, 128, 1000, 4096, 4097, 70000}) {
        BernoulliMaskArgs args;
        args.seed = 31;
        args.site = 2;
        args.step.value = 1000003;
        args.p = 0.37;
        for (const std::int64_t rows : {1, 7, 64}) {
          if (rows * cols > 500000) continue;
          ASSERT_EQ(draw(on("cpu", threads), args, rows, cols),
                    draw(on("reference"), args, rows, cols))
              << isa << ", " << threads << " threads, " << rows << " x " << cols;
        }
        GyroMaskArgs gyro;
        gyro.schedule.total_steps = 300;
        gyro.step.value = 77;
        gyro.p = 0.37;
        for (const Draw kind : {Draw::kBernoulli, Draw::kExact}) {
          gyro.draw = kind;
          ASSERT_EQ(draw(on("cpu", threads), gyro, 24, cols, 1),
                    draw(on("reference"), gyro, 24, cols, 1))
              << isa << ", " << threads << " threads, gyro " << cols;
        }
      }
    }
  }
  ASSERT_TRUE(cpu::use_isa(usual).ok());
}

TEST(MaskCpu, RandomOrderOfManySubnetsIsTheReference) {
  GyroMaskArgs args;
  args.schedule.order = SubnetOrder::kRandom;
  args.schedule.tile_rows = 1;
  for (const auto& [subnets, coscheduled] :
       {std::make_pair(9000, 2000), std::make_pair(4097, 8), std::make_pair(50, 50)}) {
    args.schedule.subnets = subnets;
    args.schedule.coscheduled = coscheduled;
    args.step.value = 12;
    EXPECT_EQ(draw(on("cpu"), args, 2100, 40, 1), draw(on("reference"), args, 2100, 40, 1));
  }
}

TEST(Mask, KeepCountRoundsHalvesUpAndNeverEmptiesALayer) {
  EXPECT_EQ(keep_count(0.5, 0), 0);
  EXPECT_EQ(keep_count(0.0, 7), 7);
  EXPECT_EQ(keep_count(1.0, 7), 0);
  EXPECT_EQ(keep_count(1.0 - 1e-12, 7), 1);
  EXPECT_EQ(keep_count(1.0 - 1e-12, 1 << 20), 1);
  EXPECT_EQ(keep_count(0.99, 1), 1);
  EXPECT_EQ(keep_count(0.5, 1), 1);  // 0.5 rounds up
  EXPECT_EQ(keep_count(0.5, 3), 2);  // 1.5 rounds up
  EXPECT_EQ(keep_count(0.1, 32), 29);
  EXPECT_EQ(keep_count(0.5, 32), 16);
  EXPECT_EQ(keep_count(1e-18, 5), 5);
}

}  // namespace
}  // namespace dropgemm
