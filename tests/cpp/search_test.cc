// The search for a distribution of periods: the descent against the distribution of the largest
// entropy, solved here once more by bisection; the paper's printed weights against the point of
// rest of its loss; the gradient against differences.
#include "dropgemm/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace dropgemm {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

double share(std::size_t index) {
  return static_cast<double>(index) / static_cast<double>(index + 1);
}

double rate_of(const std::vector<double>& d) {
  double rate = 0;
  for (std::size_t i = 0; i < d.size(); ++i) rate += d[i] * share(i);
  return rate;
}

double entropy_of(const std::vector<double>& d) {
  double entropy = 0;
  for (const double x : d) entropy -= x > 0 ? x * std::log(x) : 0;
  return entropy;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum;
}

// d_i = exp(lambda * u_i) / Z.
std::vector<double> family(double lambda, std::int64_t periods) {
  std::vector<double> d(static_cast<std::size_t>(periods));
  const double highest = std::max(0.0, lambda * share(d.size() - 1));
  double sum = 0;
  for (std::size_t i = 0; i < d.size(); ++i) sum += d[i] = std::exp(lambda * share(i) - highest);
  for (double& x : d) x /= sum;
  return d;
}

// The member of the family for which rising(d, lambda) crosses 0.
template <class Rising>
std::vector<double> bisect(std::int64_t periods, Rising rising) {
  double below = -1e6, above = 1e6;
  for (int i = 0; i < 200; ++i) {
    const double middle = (below + above) / 2;
    (rising(family(middle, periods), middle) < 0 ? below : above) = middle;
  }
  return family((below + above) / 2, periods);
}

std::vector<double> largest_entropy(double p, std::int64_t periods) {
  return bisect(periods, [&](const std::vector<double>& d, double) { return rate_of(d) - p; });
}

// Where the loss of `args` comes to rest: lambda = 2 N lambda1 / lambda2 * (p - rate).
std::vector<double> point_of_rest(const SearchArgs& args) {
  const double stiffness = 2 * static_cast<double>(args.max_period) * args.lambda1 / args.lambda2;
  return bisect(args.max_period, [&](const std::vector<double>& d, double lambda) {
    return lambda + stiffness * (rate_of(d) - args.p);
  });
}

SearchArgs make(double p, std::int64_t max_period, SearchMethod method = SearchMethod::kSgd) {
  SearchArgs args;
  args.p = p;
  args.max_period = max_period;
  args.method = method;
  return args;
}

std::string describe(const SearchArgs& args) {
  return "p=" + std::to_string(args.p) + " N=" + std::to_string(args.max_period);
}

struct Found {
  std::vector<double> d;
  SearchResult result;
};

Found search(const SearchArgs& args) {
  Found found;
  found.d.resize(static_cast<std::size_t>(args.max_period));
  const Status status = search_distribution(args, found.d.data(), &found.result);
  EXPECT_TRUE(status.ok()) << describe(args) << ": " << status.message();
  EXPECT_NEAR(found.result.rate, rate_of(found.d), 1e-14) << describe(args);
  EXPECT_NEAR(found.result.entropy, entropy_of(found.d), 1e-13) << describe(args);
  double sum = 0;
  for (const double x : found.d) sum += x;
  EXPECT_NEAR(sum, 1, static_cast<double>(args.max_period) * kEpsilon) << describe(args);
  return found;
}

// Every rate from 0.05 to 0.95 that a max_period reaches, from 2 periods to 1024.
std::vector<SearchArgs> grid() {
  std::vector<SearchArgs> all;
  for (const std::int64_t n : {2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 19, 21, 24, 32, 40, 64, 1024}) {
    for (int i = 20; i <= 380; i += 5) {
      const double p = i / 400.0;
      if (p < share(static_cast<std::size_t>(n - 1))) all.push_back(make(p, n));
    }
  }
  return all;
}

TEST(Search, TheDescentReachesTheRateAndTheLargestEntropy) {
  for (const SearchArgs& args : grid()) {
    const Found found = search(args);
    // s <= 1/2 in the header's |rate - p| <= tolerance * s, and what the issue of a search is:
    // within 1e-3 of p without a projection.
    EXPECT_LE(std::abs(found.result.rate - args.p), args.tolerance / 2) << describe(args);
    // `tolerance` holds to first order; the second order is the tolerance's square.
    EXPECT_LE(distance(found.d, largest_entropy(args.p, args.max_period)), 1.1 * args.tolerance)
        << describe(args);
    EXPECT_GT(found.result.iterations, 0);
  }
}

TEST(Search, ATighterToleranceComesNearer) {
  for (const double tolerance : {1e-2, 1e-6, 1e-8}) {
    SearchArgs args = make(0.6, 16);
    args.tolerance = tolerance;
    const Found found = search(args);
    EXPECT_LE(distance(found.d, largest_entropy(0.6, 16)), 1.1 * tolerance);
    EXPECT_LE(std::abs(found.result.rate - 0.6), tolerance / 2);
  }
}

TEST(Search, ExactIsTheLargestEntropyAtTheRate) {
  for (SearchArgs args : grid()) {
    args.method = SearchMethod::kExact;
    const Found found = search(args);
    EXPECT_NEAR(found.result.rate, args.p, 1e-14) << describe(args);
    EXPECT_LE(distance(found.d, largest_entropy(args.p, args.max_period)), 1e-9) << describe(args);
    EXPECT_TRUE(found.result.history.empty());
  }
  // No exchange between three periods that leaves the sum and the rate raises the entropy.
  const Found found = search(make(0.7, 12, SearchMethod::kExact));
  for (std::size_t i = 0; i + 2 < 12; ++i) {
    for (const double amount : {1e-4, -1e-4}) {
      std::vector<double> other = found.d;
      const double far = share(i + 2) - share(i);
      other[i] += amount * (share(i + 2) - share(i + 1)) / far;
      other[i + 1] -= amount;
      other[i + 2] += amount * (share(i + 1) - share(i)) / far;
      ASSERT_NEAR(rate_of(other), 0.7, 1e-12);
      EXPECT_LT(entropy_of(other), found.result.entropy);
    }
  }
}

TEST(Search, NarrowIsTwoNeighboursWithTheLeastNoise) {
  for (SearchArgs args : grid()) {
    args.method = SearchMethod::kNarrow;
    const Found narrow = search(args);
    args.method = SearchMethod::kExact;
    const Found exact = search(args);
    EXPECT_NEAR(narrow.result.rate, args.p, 1e-12) << describe(args);
    EXPECT_NEAR(rate_of(narrow.d), args.p, 1e-12) << describe(args);
    EXPECT_NEAR(narrow.result.entropy, entropy_of(narrow.d), 1e-12) << describe(args);
    EXPECT_TRUE(narrow.result.history.empty());
    std::size_t first = 0, last = narrow.d.size() - 1;
    while (narrow.d[first] == 0) ++first;
    while (narrow.d[last] == 0) --last;
    EXPECT_LE(last - first, 1U) << describe(args);
    const auto mean = [](const std::vector<double>& d, double power) {
      double sum = 0;
      for (std::size_t i = 0; i < d.size(); ++i) {
        sum += d[i] * std::pow(static_cast<double>(i + 1), power);
      }
      return sum;
    };
    EXPECT_LE(mean(narrow.d, -2), mean(exact.d, -2) * (1 + 1e-9)) << describe(args);
    EXPECT_LE(mean(narrow.d, 1), mean(exact.d, 1) * (1 + 1e-9)) << describe(args);
  }
  EXPECT_EQ(search(make(0.5, 8, SearchMethod::kNarrow)).d[1], 1);
}

TEST(Search, ARateOfLessThanARoundingErrorIsThatOfPeriodOne) {
  for (const double p : {1e-17, 4e-16, std::numeric_limits<double>::denorm_min()}) {
    for (const std::int64_t periods : {1, 2, 8}) {
      for (const auto method : {SearchMethod::kSgd, SearchMethod::kExact, SearchMethod::kNarrow}) {
        const SearchArgs args = make(p, periods, method);
        const Found found = search(args);
        EXPECT_NEAR(found.d[0], 1, 1e-11) << describe(args);
        EXPECT_NEAR(found.result.rate, p, 1e-11) << describe(args);
      }
    }
  }
}

TEST(Search, ExactHoldsCloseToTheEndsOfTheRates) {
  for (const std::int64_t n : {2, 3, 8, 64, 1024}) {
    const double highest = share(static_cast<std::size_t>(n - 1));
    for (const double p : {1e-300, 1e-12, 1e-6, highest - 1e-6, highest - 1e-12}) {
      const Found found = search(make(p, n, SearchMethod::kExact));
      EXPECT_NEAR(found.result.rate, p, 1e-15) << n << " periods, p " << p;
    }
  }
}

TEST(Search, ThePrintedWeightsMissTheRate) {
  SearchArgs args = make(0.5, 8);
  args.anneal = false;
  const Found found = search(args);
  EXPECT_NEAR(found.result.rate, 0.564, 5e-4);
  EXPECT_NEAR(rate_of(point_of_rest(args)), 0.564, 5e-4);
}

TEST(Search, WithoutAnnealingTheDescentRestsWhereTheLossDoes) {
  for (const std::int64_t n : {2, 5, 8, 16, 64}) {
    for (const double p : {0.05, 0.3, 0.5}) {
      for (const double lambda2 : {0.5, 0.05, 5.0}) {
        SearchArgs args = make(p, n);
        if (p >= share(static_cast<std::size_t>(n - 1))) continue;
        args.anneal = false;
        args.lambda2 = lambda2;
        args.threshold = 1e-15;
        const Found found = search(args);
        EXPECT_LE(distance(found.d, point_of_rest(args)), 1e-4) << describe(args);
        // In the family of the exact distributions: the one of its own rate.
        const Found exact = search(make(found.result.rate, n, SearchMethod::kExact));
        EXPECT_LE(distance(found.d, exact.d), 1e-4) << describe(args);
      }
    }
  }
}

// Central differences of step h err by h^2 / 6 times the third derivative, and by rounding of
// eps * |loss| / h; both are of the order of the weights.
TEST(Search, GradientIsTheDerivativeOfTheLoss) {
  constexpr double kStep = 1e-5;
  for (const std::int64_t n : {1, 2, 7, 64}) {
    for (const double p : {0.0, 0.05, 0.45}) {
      SearchArgs args = make(n == 1 ? 0 : p, n);
      args.lambda1 = 0.7;
      args.lambda2 = 3;
      std::vector<double> v(static_cast<std::size_t>(n)), gradient(v.size());
      for (std::size_t i = 0; i < v.size(); ++i) v[i] = std::sin(3.0 * static_cast<double>(i)) * 2;
      double loss = 0;
      ASSERT_TRUE(search_loss(args, v.data(), &loss, gradient.data()).ok());
      double sum = 0;
      for (std::size_t i = 0; i < v.size(); ++i) {
        const double at = v[i];
        double above = 0, below = 0;
        v[i] = at + kStep;
        ASSERT_TRUE(search_loss(args, v.data(), &above, nullptr).ok());
        v[i] = at - kStep;
        ASSERT_TRUE(search_loss(args, v.data(), &below, nullptr).ok());
        v[i] = at;
        EXPECT_NEAR(gradient[i], (above - below) / (2 * kStep), 1e-9) << describe(args);
        sum += gradient[i];
      }
      EXPECT_NEAR(sum, 0, 1e-14);  // adding a constant to v changes nothing
    }
  }
}

TEST(Search, LossIsThePapers) {
  // v = log d for d = (1/2, 1/4, 1/4): the rate is 1/8 + 1/6 and the entropy 3/2 log 2.
  SearchArgs args = make(0.25, 3);
  args.lambda1 = 2;
  args.lambda2 = 0.75;
  const std::vector<double> v = {std::log(2.0) + 5, 5, 5};
  double loss = 0;
  ASSERT_TRUE(search_loss(args, v.data(), &loss, nullptr).ok());
  const double off = 1.0 / 8 + 1.0 / 6 - 0.25;
  EXPECT_NEAR(loss, 2 * off * off - 0.25 * 1.5 * std::log(2.0), 1e-15);
}

TEST(Search, HistoryDescendsStageByStage) {
  for (const bool anneal : {true, false}) {
    SearchArgs args = make(0.3, 16);
    args.anneal = anneal;
    const Found found = search(args);
    const std::vector<SearchPoint>& history = found.result.history;
    ASSERT_EQ(static_cast<std::int64_t>(history.size()), found.result.iterations + 1);
    const std::vector<double> uniform(16);
    double loss = 0;
    ASSERT_TRUE(search_loss(args, uniform.data(), &loss, nullptr).ok());
    EXPECT_DOUBLE_EQ(history.front().loss, loss);
    EXPECT_DOUBLE_EQ(history.back().rate, found.result.rate);
    const double off = found.result.rate - 0.3;
    EXPECT_NEAR(history.back().loss,
                0.5 * off * off - history.back().lambda2 / 16 * found.result.entropy, 1e-15);
    int stages = 1;
    for (std::size_t i = 1; i < history.size(); ++i) {
      if (history[i].lambda2 == history[i - 1].lambda2) {
        EXPECT_LE(history[i].loss, history[i - 1].loss);
      } else {
        EXPECT_LT(history[i].lambda2, history[i - 1].lambda2);
        ++stages;
      }
    }
    EXPECT_DOUBLE_EQ(history.front().lambda2, 0.5);
    if (anneal) {
      EXPECT_GT(stages, 2);
      EXPECT_LT(std::abs(off), 1e-4);
    } else {
      EXPECT_EQ(stages, 1);
      EXPECT_GT(std::abs(off), 1e-2);
    }
  }
}

TEST(Search, WeightsOnlyChangeTheWay) {
  for (const double lambda1 : {1e-3, 0.5, 1e3}) {
    for (const double lambda2 : {1e-3, 0.5, 1e3}) {
      for (const std::int64_t n : {3, 20, 64}) {
        SearchArgs args = make(0.6, n);
        args.lambda1 = lambda1;
        args.lambda2 = lambda2;
        EXPECT_LE(distance(search(args).d, largest_entropy(0.6, n)), 1.1 * args.tolerance)
            << describe(args) << " weights " << lambda1 << ", " << lambda2;
      }
    }
  }
}

TEST(Search, OnlyOneDistributionWillDo) {
  for (const SearchMethod method :
       {SearchMethod::kSgd, SearchMethod::kExact, SearchMethod::kNarrow}) {
    for (const std::int64_t n : {1, 2, 3, 7, 20}) {
      for (const std::int64_t period : {std::int64_t{1}, n}) {
        const double p = static_cast<double>(period - 1) / static_cast<double>(period);
        const Found found = search(make(p, n, method));
        std::vector<double> expected(static_cast<std::size_t>(n));
        expected[static_cast<std::size_t>(period - 1)] = 1;
        EXPECT_EQ(found.d, expected);
        EXPECT_EQ(found.result.iterations, 0);
        EXPECT_TRUE(found.result.history.empty());
      }
    }
  }
  // 1 - 1 / 49 is not 48 / 49 in float64.
  EXPECT_EQ(search(make(1 - 1.0 / 49, 49)).d.back(), 1);
}

TEST(Search, AToleranceBeyondFloatIsMetWithin1e12) {
  SearchArgs args = make(0.3, 64);
  args.tolerance = 1e-300;
  EXPECT_NEAR(search(args).result.rate, 0.3, 1e-12);
}

}  // namespace
}  // namespace dropgemm
