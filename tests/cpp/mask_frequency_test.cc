// How often features are dropped. Seeds are fixed, so each bound holds or fails for good; it is
// set so that a right generator would fail one seed in a thousand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "binomial.h"
#include "dropgemm/backend.h"
#include "dropgemm/mask.h"

namespace dropgemm {
namespace {

constexpr std::int64_t kSubnets = 1024;  // independent draws of each feature
constexpr std::int64_t kFeatures = 500;  // not a whole number of words
constexpr double kFalseAlarm = 1e-3;

using testing::deviation_bound;

// How often each feature is dropped by subnets 0..kSubnets-1, all in one mask: one step whose
// batch of kSubnets groups trains every one of them.
std::vector<std::int64_t> drops(const char* backend, Draw draw, double p, std::uint64_t seed) {
  std::vector<std::uint32_t> bits(static_cast<std::size_t>(mask_words(kSubnets, kFeatures, 1, 1)));
  GyroMaskArgs args;
  args.mask = {bits.data(), kSubnets, kFeatures, 1, 1};
  args.p = p;
  args.draw = draw;
  args.seed = seed;
  args.schedule.subnets = args.schedule.coscheduled = kSubnets;
  Context ctx;
  EXPECT_TRUE(find_backend(backend, &ctx.backend).ok());
  const Status status = gyro_mask(ctx, args);
  EXPECT_TRUE(status.ok()) << status.message();
  TileMaskView mask;
  mask.bits = bits.data();
  mask.rows = kSubnets;
  mask.cols = kFeatures;
  std::vector<std::int64_t> count(kFeatures);
  for (std::int64_t i = 0; i < kSubnets; ++i) {
    for (std::int64_t j = 0; j < kFeatures; ++j) {
      count[static_cast<std::size_t>(j)] += tile_kept(mask, i, j) ? 0 : 1;
    }
  }
  return count;
}

// The rate that `draw` realises.
double realised(Draw draw, double p) {
  if (draw == Draw::kBernoulli) return p;
  return 1.0 - static_cast<double>(keep_count(p, kFeatures)) / static_cast<double>(kFeatures);
}

// The largest deviation of any feature from n q, and how many lie outside the bound that all
// kFeatures together break with chance kFalseAlarm at most (Bonferroni).
struct Outcome {
  double worst = 0;
  int outside = 0;
};
Outcome compare(const std::vector<std::int64_t>& count, double q) {
  const double bound = deviation_bound(kSubnets, q, kFalseAlarm / static_cast<double>(kFeatures));
  Outcome outcome;
  for (const std::int64_t c : count) {
    const double off = std::abs(static_cast<double>(c) - static_cast<double>(kSubnets) * q);
    outcome.worst = std::max(outcome.worst, off);
    outcome.outside += off > bound ? 1 : 0;
  }
  return outcome;
}

TEST(MaskFrequency, TheBoundIsTheExactTail) {
  // Binomial(4, 1/2): |X - 2| > 1 has chance 2/16, > 2 has none.
  EXPECT_EQ(deviation_bound(4, 0.5, 0.13), 1);
  EXPECT_EQ(deviation_bound(4, 0.5, 0.12), 2);
  // Near the normal 4.89 standard deviations for 1e-6, two-sided, where the normal serves.
  const double sigma = std::sqrt(1024 * 0.25);
  EXPECT_NEAR(deviation_bound(1024, 0.5, 1e-6) / sigma, 4.89, 0.08);
}

TEST(MaskFrequency, EveryFeatureIsDroppedAtTheRateOfItsDraw) {
  for (const char* backend : {"reference", "cpu"}) {
    for (const Draw draw : {Draw::kBernoulli, Draw::kExact}) {
      for (const double p : {0.1, 0.5, 0.9}) {
        const Outcome outcome = compare(drops(backend, draw, p, 20220829), realised(draw, p));
        EXPECT_EQ(outcome.outside, 0) << backend << ", p = " << p << ", worst " << outcome.worst;
        EXPECT_GT(outcome.worst, 0);
      }
    }
  }
}

TEST(MaskFrequency, ARateThatIsOffByAFewPercentIsSeen) {
  for (const Draw draw : {Draw::kBernoulli, Draw::kExact}) {
    for (const double p : {0.1, 0.5, 0.9}) {
      const Outcome outcome = compare(drops("cpu", draw, p + 0.05, 20220829), realised(draw, p));
      EXPECT_GT(outcome.outside, 0) << "p = " << p << ", worst " << outcome.worst;
    }
  }
}

// All n = subnets * features Bernoulli bits together: a sum of independent bits deviates by more
// than 4 sqrt(n p (1 - p)) with chance below 1e-4 (normal tail; n p (1 - p) > 40000 here). The
// drops of an exact draw have no spread at all.
TEST(MaskFrequency, TheWholeMaskIsDroppedAtTheRate) {
  constexpr double kBits = static_cast<double>(kSubnets * kFeatures);
  for (const double p : {0.1, 0.5, 0.9}) {
    const auto total = [](const std::vector<std::int64_t>& count) {
      double sum = 0;
      for (const std::int64_t c : count) sum += static_cast<double>(c);
      return sum;
    };
    const double bound = 4 * std::sqrt(kBits * p * (1 - p));
    EXPECT_LT(std::abs(total(drops("cpu", Draw::kBernoulli, p, 1)) - kBits * p), bound);
    EXPECT_GT(std::abs(total(drops("cpu", Draw::kBernoulli, p + 0.05, 1)) - kBits * p), bound);
    EXPECT_EQ(total(drops("cpu", Draw::kExact, p, 1)),
              static_cast<double>((kFeatures - keep_count(p, kFeatures)) * kSubnets));
  }
}

// Neighbouring features, subnets and sites are independent: agreements of two streams of n fair
// bits are Binomial(n, 1/2), beyond 5 standard deviations with chance below 1e-6.
TEST(MaskFrequency, NeighboursAreIndependent) {
  constexpr std::int64_t kBits = 1 << 16;
  const auto draw = [](std::int64_t site, std::int64_t subnet) {
    std::vector<std::uint32_t> bits(kBits / 32);
    EXPECT_TRUE(subnet_bits(0.5, Draw::kBernoulli, 3, site, subnet, kBits, bits.data()).ok());
    return bits;
  };
  const auto agreements = [](const std::vector<std::uint32_t>& x,
                             const std::vector<std::uint32_t>& y) {
    std::int64_t same = 0;
    for (std::size_t w = 0; w < x.size(); ++w) same += __builtin_popcount(~(x[w] ^ y[w]));
    return static_cast<double>(same);
  };
  const double bound = 5 * std::sqrt(static_cast<double>(kBits) / 4);
  const double half = static_cast<double>(kBits) / 2;
  const auto base = draw(0, 0);
  EXPECT_LT(std::abs(agreements(base, draw(0, 1)) - half), bound);
  EXPECT_LT(std::abs(agreements(base, draw(1, 0)) - half), bound);
  std::vector<std::uint32_t> shifted = base;  // each feature beside the next one of its word
  for (std::uint32_t& word : shifted) word = word >> 1 | word << 31;
  EXPECT_LT(std::abs(agreements(base, shifted) - half), bound);
}

}  // namespace
}  // namespace dropgemm
