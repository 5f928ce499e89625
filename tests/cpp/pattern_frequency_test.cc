// How often periods and offsets are drawn. Each bound is one that all counts of a case together
// break with chance kFalseAlarm at most (Bonferroni); seeds are fixed.
// How often neurons are dropped, singly and in pairs, is tests/python/test_pattern.py's.
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "binomial.h"
#include "dropgemm/pattern.h"

namespace dropgemm {
namespace {

using testing::deviation_bound;

constexpr std::int64_t kSteps = 20000;
constexpr double kFalseAlarm = 1e-3;

std::vector<double> rising_and_falling() { return {0.05, 0.1, 0.15, 0.2, 0.2, 0.15, 0.1, 0.05}; }

// counts[period - 1][offset] over kSteps steps, the call going through three values.
using Counts = std::vector<std::vector<std::int64_t>>;
Counts count(const std::vector<double>& distribution, std::uint64_t seed) {
  std::vector<std::uint64_t> thresholds(distribution.size());
  const auto periods = static_cast<std::int64_t>(distribution.size());
  EXPECT_TRUE(pattern_thresholds(distribution.data(), periods, thresholds.data()).ok());
  Counts counts;
  for (std::size_t i = 0; i < distribution.size(); ++i) counts.emplace_back(i + 1);
  PatternDraw draw;
  draw.thresholds = thresholds.data();
  draw.periods = periods;
  draw.seed = seed;
  draw.site = 5;
  for (std::int64_t step = 0; step < kSteps; ++step) {
    draw.step.value = step;
    draw.call = step % 3;
    Pattern pattern;
    EXPECT_TRUE(sample_pattern(draw, &pattern).ok());
    ++counts.at(static_cast<std::size_t>(pattern.period - 1))
          .at(static_cast<std::size_t>(pattern.offset));
  }
  return counts;
}

// How many (period, offset) are drawn more or less often than their chance d_i / i allows.
int outside(const Counts& counts, const std::vector<double>& distribution) {
  const auto cells = static_cast<double>(counts.size() * (counts.size() + 1)) / 2;
  int result = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double chance = distribution[i] / static_cast<double>(i + 1);
    const bool certain = chance == 0 || chance == 1;  // no spread, and no logarithm
    const double bound = certain ? 0 : deviation_bound(kSteps, chance, kFalseAlarm / cells);
    for (const std::int64_t cell : counts[i]) {
      result += std::abs(static_cast<double>(cell) - static_cast<double>(kSteps) * chance) > bound;
    }
  }
  return result;
}

TEST(PatternFrequency, PeriodsFollowTheirDistributionAndOffsetsAreUniform) {
  for (const std::vector<double>& distribution :
       {std::vector<double>{1}, {0, 1}, {0.25, 0.125, 0, 0.125, 0.5}, rising_and_falling()}) {
    for (const std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{1} << 40}) {
      EXPECT_EQ(outside(count(distribution, seed), distribution), 0) << "seed " << seed;
    }
  }
}

TEST(PatternFrequency, ADistributionThatIsOffIsSeen) {
  const std::vector<double> drawn = rising_and_falling();
  std::vector<double> claimed = drawn;
  std::swap(claimed[1], claimed[2]);  // 0.1 and 0.15
  EXPECT_GT(outside(count(drawn, 1), claimed), 0);
  // Offsets that are always 0.
  Counts counts = count(drawn, 1);
  for (std::vector<std::int64_t>& offsets : counts) {
    for (std::size_t i = 1; i < offsets.size(); ++i) {
      offsets[0] += std::exchange(offsets[i], 0);
    }
  }
  EXPECT_GT(outside(counts, drawn), 0);
}

}  // namespace
}  // namespace dropgemm
