// Patterns on every CPU backend: bits compared exactly with the formula of pattern.h, and draws
// with the counters that philox.h writes down. How often neurons are dropped is
// pattern_frequency_test.cc's; bad input is pattern_check_test.cc's.
#include "dropgemm/pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "dropgemm/backend.h"
#include "every_backend.h"

namespace dropgemm {
namespace {

constexpr std::uint32_t kPoison = 0xA5A5A5A5U;
constexpr std::uint64_t kAlways = std::uint64_t{1} << 32;

Context on(const std::string& name) {
  Context ctx;
  const Status status = find_tested(name, &ctx.backend);
  EXPECT_TRUE(status.ok()) << status.message();
  return ctx;
}

struct Shape {
  std::int64_t rows = 0, cols = 0, tile_rows = 1, tile_cols = 1;
  [[nodiscard]] std::int64_t height() const { return ceil_div(rows, tile_rows); }
  [[nodiscard]] std::int64_t width() const { return ceil_div(cols, tile_cols); }
};

struct Result {
  std::vector<std::uint32_t> words;
  float scale = -1;
};

// Fills a mask between canaries over poison.
Result fill(const std::string& backend, PatternMaskArgs args, const Shape& shape) {
  const std::int64_t words = mask_words(shape.rows, shape.cols, shape.tile_rows, shape.tile_cols);
  std::vector<std::uint32_t> memory(static_cast<std::size_t>(words) + 2, kPoison);
  Result result;
  args.mask = {memory.data() + 1, shape.rows, shape.cols, shape.tile_rows, shape.tile_cols};
  args.scale = &result.scale;
  const Status status = pattern_mask(on(backend), args);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(memory.front(), kPoison) << "written before the mask";
  EXPECT_EQ(memory.back(), kPoison) << "written past the mask";
  result.words.assign(memory.begin() + 1, memory.end() - 1);
  return result;
}

// The formula, tile by tile, with the remainder of mathematics; padding bits are 0.
std::vector<std::uint32_t> by_formula(const Shape& shape, const Pattern& pattern,
                                      std::int64_t skew) {
  const std::int64_t row_words = ceil_div(shape.width(), 32);
  std::vector<std::uint32_t> words(static_cast<std::size_t>(shape.height() * row_words));
  for (std::int64_t r = 0; r < shape.height(); ++r) {
    for (std::int64_t c = 0; c < shape.width(); ++c) {
      const auto distance = static_cast<double>(c + skew * r - pattern.offset);
      const auto period = static_cast<double>(pattern.period);
      if (distance - period * std::floor(distance / period) == 0) {
        words[static_cast<std::size_t>(r * row_words + c / 32)] |= 1U << (c % 32);
      }
    }
  }
  return words;
}

class EveryBackend : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Pattern, EveryBackend, testing::ValuesIn(every_backend()),
                         [](const auto& each) { return each.param; });

TEST_P(EveryBackend, RowPatternsAreTheFormula) {
  for (const std::int64_t cols : {1, 2, 31, 32, 33, 64, 65, 99, 1000}) {
    for (const std::int64_t period : {1, 2, 3, 5, 8, 31, 32, 33, 63, 64, 999}) {
      if (period > cols) continue;
      for (const std::int64_t offset : {std::int64_t{0}, period / 2, period - 1}) {
        PatternMaskArgs args;
        args.pattern = {period, offset};
        args.skew = 7;  // of no account
        const Shape row = {12, cols, 12, 1};
        const Result got = fill(GetParam(), args, row);
        ASSERT_EQ(got.words, by_formula(row, args.pattern, 0))
            << cols << " columns, period " << period << ", offset " << offset;
        EXPECT_EQ(got.scale, static_cast<float>(period));
        // Any tiles will do: rows of tiles are alike.
        const Shape tiles = {30, cols * 3 - 2, 8, 3};
        ASSERT_EQ(fill(GetParam(), args, tiles).words, by_formula(tiles, args.pattern, 0));
      }
    }
  }
}

TEST_P(EveryBackend, TilePatternsAreTheFormula) {
  const Shape shapes[] = {{5, 5, 1, 1},      {64, 64, 32, 32},   {100, 70, 32, 32},
                          {70, 1100, 8, 32}, {33, 2111, 1, 32},  {2111, 33, 32, 1},
                          {40, 40, 1, 1},    {129, 4200, 3, 32}, {7, 512, 1, 4}};
  int filled = 0;
  for (const Shape& shape : shapes) {
    for (const std::int64_t period : {1, 2, 3, 4, 5, 7, 8, 31, 32, 33}) {
      if (period > std::min(shape.height(), shape.width())) continue;
      for (const std::int64_t skew : {1, -1, 2, 3, -5, 7, 40, -41, 1000000007}) {
        PatternMaskArgs args;
        args.kind = PatternKind::kTile;
        args.skew = skew;
        for (const std::int64_t offset : {std::int64_t{0}, period / 2, period - 1}) {
          args.pattern = {period, offset};
          if (!check_pattern(args.kind, args.pattern, skew, false).ok()) continue;
          const Result got = fill(GetParam(), args, shape);
          ASSERT_EQ(got.words, by_formula(shape, args.pattern, skew))
              << shape.height() << " x " << shape.width() << " tiles, period " << period
              << ", offset " << offset << ", skew " << skew;
          EXPECT_EQ(got.scale, static_cast<float>(period));
          ++filled;
        }
      }
      PatternMaskArgs args;
      args.kind = PatternKind::kTile;
      args.skew = 0;  // of no account beside a linear one
      args.linear_skew = true;
      args.pattern = {period, period - 1};
      ASSERT_EQ(fill(GetParam(), args, shape).words,
                by_formula(shape, args.pattern, shape.width()));
    }
  }
  EXPECT_GT(filled, 500);
}

TEST_P(EveryBackend, AnIntegerSkewLeavesNoTileRowOrColumnDead) {
  const Shape shape = {9 * 4, 8 * 4 + 1, 4, 4};
  PatternMaskArgs args;
  args.kind = PatternKind::kTile;
  for (args.skew = -20; args.skew <= 20; ++args.skew) {
    for (args.pattern.period = 1; args.pattern.period <= 9; ++args.pattern.period) {
      args.pattern.offset = args.pattern.period - 1;
      const auto words = by_formula(shape, args.pattern, args.skew);
      const std::uint32_t columns = (1U << shape.width()) - 1;
      std::uint32_t kept = 0;
      for (const std::uint32_t word : words) {
        EXPECT_NE(word, 0U);
        kept |= word;
      }
      // A skew is refused iff a tile column is dead.
      EXPECT_EQ(check_pattern(args.kind, args.pattern, args.skew, false).ok(), kept == columns)
          << "skew " << args.skew << ", period " << args.pattern.period;
    }
  }
}

TEST_P(EveryBackend, ALinearSkewThatThePeriodDividesIsDroppedInputs) {
  const Shape shape = {5, 6, 1, 1};
  PatternMaskArgs args;
  args.kind = PatternKind::kTile;
  args.linear_skew = true;
  args.pattern = {3, 1};
  for (const std::uint32_t word : fill(GetParam(), args, shape).words) EXPECT_EQ(word, 0b010010U);
}

TEST_P(EveryBackend, TheTransposedMaskIsTheFormulaOfTheTransposedTile) {
  const Shape shape = {70, 45, 8, 4};
  PatternMaskArgs args;
  args.kind = PatternKind::kTile;
  args.skew = -2;
  args.pattern = {5, 3};
  const Result got = fill(GetParam(), args, shape);
  TileMaskView view;
  view.bits = got.words.data();
  view.rows = shape.rows;
  view.cols = shape.cols;
  view.tile_rows = shape.tile_rows;
  view.tile_cols = shape.tile_cols;
  const TileMaskView turned = transposed(view);
  for (std::int64_t i = 0; i < shape.cols; ++i) {
    for (std::int64_t j = 0; j < shape.rows; ++j) {
      const std::int64_t distance = i / 4 - 2 * (j / 8) - 3;
      ASSERT_EQ(element_kept(turned, i, j), (distance % 5 + 5) % 5 == 0);
    }
  }
}

// --- Draws
// -----------------------------------------------------------------------------------------

// P(period <= i + 1) in units of 2^-32; period 4 is never drawn.
constexpr std::array<std::uint64_t, 5> kThresholds = {kAlways / 8, kAlways / 2, kAlways / 4 * 3,
                                                      kAlways / 4 * 3, kAlways};

// By the text of philox.h, spelt out with the block function alone.
Pattern by_definition(std::uint64_t seed, std::uint32_t site, std::uint32_t step,
                      std::uint32_t call) {
  const auto draw = [&](std::uint32_t domain) {
    return std::uint64_t{philox4x32_10({{0, step, site, domain << 28 | call}},
                                       static_cast<std::uint32_t>(seed),
                                       static_cast<std::uint32_t>(seed >> 32))
                             .word[0]};
  };
  Pattern pattern;
  for (const std::uint64_t threshold : kThresholds) pattern.period += draw(4) >= threshold ? 1 : 0;
  pattern.offset =
      static_cast<std::int64_t>(draw(5) * static_cast<std::uint64_t>(pattern.period) >> 32);
  return pattern;
}

template <class Thresholds>
PatternDraw draw_of(const Thresholds& thresholds) {
  PatternDraw draw;
  draw.thresholds = thresholds.data();
  draw.periods = static_cast<std::int64_t>(thresholds.size());
  return draw;
}

TEST_P(EveryBackend, DrawnPatternsAreTheDefinition) {
  const Shape shape = {40, 1000, 8, 8};
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{0xfedcba9876543210ULL}}) {
    for (const std::int64_t site : {std::int64_t{0}, std::int64_t{3}, kMaxSite}) {
      for (const std::int64_t step : {std::int64_t{0}, std::int64_t{99}, kMaxStep}) {
        for (const std::int64_t call : {std::int64_t{0}, std::int64_t{1}, kMaxCall}) {
          PatternDraw draw = draw_of(kThresholds);
          draw.seed = seed;
          draw.site = site;
          draw.step.value = step;
          draw.call = call;
          const Pattern expected =
              by_definition(seed, static_cast<std::uint32_t>(site),
                            static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(call));
          Pattern sample;
          ASSERT_TRUE(sample_pattern(draw, &sample).ok());
          EXPECT_EQ(sample.period, expected.period);
          EXPECT_EQ(sample.offset, expected.offset);
          for (const PatternKind kind : {PatternKind::kRow, PatternKind::kTile}) {
            PatternMaskArgs args;
            args.kind = kind;
            args.draw = &draw;
            args.pattern = {-1, 12};  // of no account beside a draw
            const Result got = fill(GetParam(), args, shape);
            ASSERT_EQ(got.words, by_formula(shape, expected, kind == PatternKind::kTile ? 1 : 0));
            EXPECT_EQ(got.scale, static_cast<float>(expected.period));
          }
        }
      }
    }
  }
}

TEST_P(EveryBackend, AStepOnTheDeviceWinsAndIsClamped) {
  const Shape shape = {1, 70, 1, 1};
  std::int64_t step = 0;
  // Offsets of a period of 64 tell steps apart.
  std::vector<std::uint64_t> thresholds(64, 0);
  thresholds.back() = kAlways;
  const auto at = [&](std::int64_t value, bool device) {
    step = value;
    PatternDraw draw = draw_of(thresholds);
    draw.step = {device ? 7 : value, device ? &step : nullptr};
    Pattern sample;
    EXPECT_TRUE(sample_pattern(draw, &sample).ok());
    PatternMaskArgs args;
    args.draw = &draw;
    const Result got = fill(GetParam(), args, shape);
    EXPECT_EQ(got.words, by_formula(shape, sample, 0));
    return got.words;
  };
  EXPECT_EQ(at(41, true), at(41, false));
  EXPECT_NE(at(41, true), at(7, false));
  EXPECT_NE(at(kMaxStep, false), at(0, false));
  EXPECT_EQ(at(-5, true), at(0, false));
  EXPECT_EQ(at(std::numeric_limits<std::int64_t>::min(), true), at(0, false));
  EXPECT_EQ(at(kMaxStep + 1, true), at(kMaxStep, false));
  EXPECT_EQ(at(std::numeric_limits<std::int64_t>::max(), true), at(kMaxStep, false));
}

TEST_P(EveryBackend, ACallOnTheDeviceWinsAndIsClamped) {
  std::vector<std::uint64_t> thresholds(64, 0);
  thresholds.back() = kAlways;
  std::int64_t call = 0;
  const auto at = [&](std::int64_t value, bool device) {
    call = value;
    PatternDraw draw = draw_of(thresholds);
    draw.call = device ? kMaxCall + 1 : value;  // of no account beside the device's
    draw.call_device = device ? &call : nullptr;
    Pattern sample;
    EXPECT_TRUE(sample_pattern(draw, &sample).ok());
    PatternMaskArgs args;
    args.draw = &draw;
    const Shape shape = {1, 70, 1, 1};
    const Result got = fill(GetParam(), args, shape);
    EXPECT_EQ(got.words, by_formula(shape, sample, 0));
    return got.words;
  };
  EXPECT_EQ(at(41, true), at(41, false));
  EXPECT_NE(at(41, true), at(0, false));
  EXPECT_EQ(at(-5, true), at(0, false));
  EXPECT_EQ(at(kMaxCall + 1, true), at(kMaxCall, false));
}

TEST_P(EveryBackend, ThresholdsOfAnyValueGiveALegalPattern) {
  const Shape shape = {4, 4, 1, 1};
  const std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  for (const auto& thresholds : {std::vector<std::uint64_t>{0, 0, 0, 0},
                                 {huge, 0, huge, 0},
                                 {huge, huge, huge, huge},
                                 {5, 4, 3, 2}}) {
    const PatternDraw draw = draw_of(thresholds);
    PatternMaskArgs args;
    args.draw = &draw;
    args.kind = PatternKind::kTile;
    const float scale = fill(GetParam(), args, shape).scale;
    EXPECT_GE(scale, 1);
    EXPECT_LE(scale, 4);
  }
}

TEST_P(EveryBackend, MasksWithoutTilesStillSayTheScale) {
  const PatternDraw draw = draw_of(kThresholds);
  PatternMaskArgs args;
  args.draw = &draw;
  Pattern sample;
  ASSERT_TRUE(sample_pattern(draw, &sample).ok());
  EXPECT_EQ(fill(GetParam(), args, {0, 9, 1, 1}).scale, static_cast<float>(sample.period));
  args.draw = nullptr;
  args.kind = PatternKind::kTile;  // period 1
  for (const Shape& shape : {Shape{0, 9, 1, 1}, Shape{9, 0, 1, 1}, Shape{0, 0, 32, 32}}) {
    EXPECT_EQ(fill(GetParam(), args, shape).scale, 1);
    args.mask = {nullptr, shape.rows, shape.cols, shape.tile_rows, shape.tile_cols};
    EXPECT_TRUE(pattern_mask(on(GetParam()), args).ok()) << "no scale asked for";
  }
}

TEST(Pattern, TheCpuIsTheReferenceForEveryDraw) {
  const Shape shapes[] = {{3, 97, 3, 1}, {70, 410, 8, 4}};
  PatternDraw draw = draw_of(kThresholds);
  for (draw.seed = 5; draw.seed < 8; ++draw.seed) {
    for (draw.site = 0; draw.site < 4; ++draw.site) {
      for (draw.step.value = 0; draw.step.value < 60; ++draw.step.value) {
        for (draw.call = 0; draw.call < 2; ++draw.call) {
          PatternMaskArgs args;
          args.draw = &draw;
          for (const Shape& shape : shapes) {
            args.kind = shape.tile_cols == 1 ? PatternKind::kRow : PatternKind::kTile;
            const Result cpu = fill("cpu", args, shape), naive = fill("reference", args, shape);
            ASSERT_EQ(cpu.words, naive.words);
            ASSERT_EQ(cpu.scale, naive.scale);
          }
        }
      }
    }
  }
}

TEST(Pattern, ThresholdsAreTheSumsOfTheProbabilities) {
  const auto thresholds = [](const std::vector<double>& probabilities) {
    std::vector<std::uint64_t> result(probabilities.size(), 1);
    const Status status = pattern_thresholds(
        probabilities.data(), static_cast<std::int64_t>(probabilities.size()), result.data());
    EXPECT_TRUE(status.ok()) << status.message();
    return result;
  };
  using Values = std::vector<std::uint64_t>;
  EXPECT_EQ(thresholds({1}), Values{kAlways});
  EXPECT_EQ(thresholds({0, 1}), (Values{0, kAlways}));
  EXPECT_EQ(thresholds({0.25, 0, 0.75}), (Values{kAlways / 4, kAlways / 4, kAlways}));
  // A period after the last likely one is never drawn, however the sum is rounded.
  EXPECT_EQ(thresholds({0.1, 0.2, 0.7, 0}).at(2), kAlways);
  EXPECT_EQ(thresholds(std::vector<double>(10, 0.1)).back(), kAlways);
  EXPECT_EQ(thresholds({0.5 + 4e-7, 0.5}).at(0),  // a sum near 1 is made 1
            static_cast<std::uint64_t>((0.5 + 4e-7) / (1 + 4e-7) * 4294967296.0));
  EXPECT_EQ(thresholds({0.1, 0.9}).at(0), 429496729U);  // floor(429496729.6)
}

}  // namespace
}  // namespace dropgemm
