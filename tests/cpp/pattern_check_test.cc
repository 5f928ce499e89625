// What patterns refuse, and the sentence that they say.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "dropgemm/pattern.h"

namespace dropgemm {
namespace {

constexpr std::uint64_t kAlways = std::uint64_t{1} << 32;

class PatternCheck : public testing::Test {
 protected:
  PatternCheck() : bits_(64, 0xA5A5A5A5U), thresholds_(8, kAlways / 2) {
    thresholds_.back() = kAlways;
    row_.mask = {bits_.data(), 8, 64, 8, 1};
    row_.pattern = {4, 1};
    tile_.kind = PatternKind::kTile;
    tile_.mask = {bits_.data(), 128, 256, 32, 32};  // 4 x 8 tiles
    tile_.pattern = {4, 1};
    draw_.thresholds = thresholds_.data();
    draw_.periods = 4;
  }
  // The message of a refusal, which must leave the bits as they were.
  std::string refusal(const PatternMaskArgs& args) {
    const Status status = pattern_mask({}, args);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    for (const std::uint32_t word : bits_) EXPECT_EQ(word, 0xA5A5A5A5U);
    return status.message();
  }

  std::vector<std::uint32_t> bits_;
  std::vector<std::uint64_t> thresholds_;
  PatternMaskArgs row_, tile_;
  PatternDraw draw_;
};

TEST_F(PatternCheck, Masks) {
  PatternMaskArgs bad = row_;
  bad.mask.rows = -8;
  EXPECT_EQ(refusal(bad), "mask: expected sizes of at least 0, got -8 x 64");
  bad = row_;
  bad.mask.tile_cols = 0;
  EXPECT_EQ(refusal(bad), "mask: expected tiles of at least 1 x 1, got 8 x 0");
  bad = row_;
  bad.mask.bits = nullptr;
  EXPECT_EQ(refusal(bad), "mask: expected 1 x 2 words of bits, got a null pointer");
  bad = row_;
  alignas(float) char room[2 * sizeof(float)] = {};
  bad.scale = reinterpret_cast<float*>(room + 1);
  EXPECT_EQ(refusal(bad),
            "scale: expected memory aligned to 4 bytes, got a pointer 1 past a multiple");
  bad = row_;
  bad.kind = static_cast<PatternKind>(5);
  EXPECT_EQ(refusal(bad), "kind: expected row or tile, got code 5");
  bad.draw = &draw_;
  EXPECT_EQ(refusal(bad), "kind: expected row or tile, got code 5");
}

TEST_F(PatternCheck, PatternsThatAreGiven) {
  for (const PatternMaskArgs& good : {row_, tile_}) {
    PatternMaskArgs bad = good;
    bad.pattern.period = 0;
    EXPECT_EQ(refusal(bad), "period: expected at least 1, got 0");
    bad.pattern = {4, -1};
    EXPECT_EQ(refusal(bad), "offset: expected a number in [0, 4), the period, got -1");
    bad.pattern = {4, 4};
    EXPECT_EQ(refusal(bad), "offset: expected a number in [0, 4), the period, got 4");
    EXPECT_TRUE(check_pattern(good.kind, good.pattern, good.skew, false).ok());
  }
  row_.pattern = {65, 0};
  EXPECT_EQ(refusal(row_), "period: expected at most the mask's 64 tile columns, got 65");
  tile_.pattern = {5, 0};
  EXPECT_EQ(refusal(tile_),
            "period: expected at most the smaller of the mask's 4 tile rows and 8 tile columns, "
            "got 5");
  tile_.mask = {bits_.data(), 256, 96, 32, 32};
  tile_.pattern = {4, 0};
  EXPECT_EQ(refusal(tile_),
            "period: expected at most the smaller of the mask's 8 tile rows and 3 tile columns, "
            "got 4");
  tile_.mask.rows = 0;
  tile_.pattern = {2, 0};
  EXPECT_EQ(refusal(tile_),
            "period: expected at most the smaller of the mask's 0 tile rows and 3 tile columns, "
            "got 2");
}

TEST_F(PatternCheck, SkewsThatLeaveTileColumnsDead) {
  for (const std::int64_t skew : {2, -2, 6}) {
    tile_.skew = skew;
    EXPECT_EQ(refusal(tile_), "skew: expected an integer coprime to period 4, got " +
                                  std::to_string(skew) +
                                  ", which drops every tile column c with (c - 1) mod 2 != 0 in "
                                  "every tile row");
  }
  tile_.skew = 0;
  EXPECT_EQ(refusal(tile_),
            "skew: expected an integer coprime to period 4, got 0, which drops every tile column c "
            "with (c - 1) mod 4 != 0 in every tile row");
  tile_.skew = std::numeric_limits<std::int64_t>::min();
  EXPECT_NE(refusal(tile_).find("skew: expected an integer coprime to period 4"),
            std::string::npos);
  tile_.draw = &draw_;
  for (const auto& [skew, period] : {std::make_pair(0, 2), {-6, 2}, {9, 3}}) {
    tile_.skew = skew;
    EXPECT_EQ(refusal(tile_), "skew: expected an integer coprime to every period in 2..4, got " +
                                  std::to_string(skew) + ", which at period " +
                                  std::to_string(period) +
                                  " keeps the same tile columns in every tile row");
  }
  for (const std::int64_t skew : {1, -1, 5, -7, 35}) {
    tile_.skew = skew;
    EXPECT_TRUE(pattern_mask({}, tile_).ok()) << skew;
  }
  tile_.skew = 2;
  tile_.linear_skew = true;  // as printed, whatever it leaves dead
  EXPECT_TRUE(pattern_mask({}, tile_).ok());
  tile_.linear_skew = false;
  tile_.kind = PatternKind::kRow;  // has no skew
  EXPECT_TRUE(pattern_mask({}, tile_).ok());
}

TEST_F(PatternCheck, Draws) {
  row_.draw = &draw_;
  const PatternDraw good = draw_;
  Pattern sample;
  // What pattern_mask and sample_pattern refuse alike.
  const auto expect = [&](const std::string& message) {
    EXPECT_EQ(refusal(row_), message);
    EXPECT_EQ(sample_pattern(draw_, &sample).message(), message);
    draw_ = good;
  };
  draw_.periods = 0;
  expect("periods: expected a number in [1, 2^31], got 0");
  draw_.periods = kMaxPeriods + 1;
  expect("periods: expected a number in [1, 2^31], got 2147483649");
  draw_.thresholds = nullptr;
  expect("thresholds: expected 4 thresholds, got a null pointer");
  draw_.site = -1;
  expect("site: expected a number in [0, 4294967295], got -1");
  draw_.step.value = -1;
  expect("step: expected a number in [0, 4294967295], got -1");
  draw_.step.value = kMaxStep + 1;
  expect("step: expected a number in [0, 4294967295], got 4294967296");
  draw_.call = kMaxCall + 1;
  expect("call: expected a number in [0, 268435455], got 268435456");

  draw_.periods = 8;
  tile_.draw = &draw_;
  EXPECT_EQ(refusal(tile_),
            "periods: expected at most the smaller of the mask's 4 tile rows and 8 tile columns, "
            "got 8");
  row_.mask = {bits_.data(), 8, 7, 8, 1};
  EXPECT_EQ(refusal(row_), "periods: expected at most the mask's 7 tile columns, got 8");
}

TEST_F(PatternCheck, Samples) {
  draw_.periods = 3;
  Pattern sample;
  EXPECT_EQ(sample_pattern(draw_, nullptr).message(),
            "pattern: expected room for a pattern, got a null pointer");
  thresholds_ = {1, 2, 3};
  draw_.thresholds = thresholds_.data();
  EXPECT_EQ(sample_pattern(draw_, &sample).message(),
            "thresholds: expected numbers that ascend to 2^32, got 3 for period 3");
  thresholds_ = {2, 1, kAlways};
  EXPECT_EQ(sample_pattern(draw_, &sample).message(),
            "thresholds: expected numbers that ascend to 2^32, got 1 for period 2");
  thresholds_ = {2, kAlways + 1, kAlways};
  EXPECT_EQ(sample_pattern(draw_, &sample).message(),
            "thresholds: expected numbers that ascend to 2^32, got 4294967297 for period 2");
}

TEST_F(PatternCheck, Probabilities) {
  const auto message = [](const std::vector<double>& probabilities) {
    std::vector<std::uint64_t> thresholds(probabilities.size() + 1);
    const Status status = pattern_thresholds(
        probabilities.data(), static_cast<std::int64_t>(probabilities.size()), thresholds.data());
    return status.message();
  };
  EXPECT_EQ(message({}), "periods: expected a number in [1, 2^31], got 0");
  EXPECT_EQ(message({1.5, -0.5}),
            "probabilities: expected finite numbers of at least 0, got -0.500000 for period 2");
  EXPECT_EQ(message({std::nan(""), 1}),
            "probabilities: expected finite numbers of at least 0, got nan for period 1");
  EXPECT_EQ(message({1, std::numeric_limits<double>::infinity()}),
            "probabilities: expected finite numbers of at least 0, got inf for period 2");
  EXPECT_EQ(message({0.5, 0.4}), "probabilities: expected a sum within 1e-6 of 1, got 0.900000");
  EXPECT_EQ(message({0, 0}), "probabilities: expected a sum within 1e-6 of 1, got 0.000000");
  EXPECT_EQ(message({1e308, 1e308}), "probabilities: expected a sum within 1e-6 of 1, got inf");
  EXPECT_EQ(message({0.5, 0.5 + 9e-7}), "");
  std::uint64_t threshold = 0;
  const double one = 1;
  EXPECT_EQ(pattern_thresholds(nullptr, 1, &threshold).message(),
            "probabilities: expected 1 doubles, got a null pointer");
  EXPECT_EQ(pattern_thresholds(&one, 1, nullptr).message(),
            "thresholds: expected room for 1, got a null pointer");
}

}  // namespace
}  // namespace dropgemm
