// What a search refuses, and what it tells of a search that falls short.
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

double highest_rate(std::int64_t periods) {
  return static_cast<double>(periods - 1) / static_cast<double>(periods);
}

SearchArgs make(double p, std::int64_t max_period, SearchMethod method = SearchMethod::kSgd) {
  SearchArgs args;
  args.p = p;
  args.max_period = max_period;
  args.method = method;
  return args;
}

std::string message(const SearchArgs& args) {
  std::vector<double> d(static_cast<std::size_t>(
      std::clamp<std::int64_t>(args.max_period, 1, std::int64_t{1} << 20)));
  SearchResult result;
  const Status status = search_distribution(args, d.data(), &result);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(result.history.empty());
  return status.message();
}

TEST(Search, DefaultMaxPeriod) {
  const auto of = [](double p, std::int64_t features) {
    std::int64_t n = -1;
    const Status status = default_max_period(p, features, &n);
    EXPECT_TRUE(status.ok()) << status.message();
    return n;
  };
  EXPECT_EQ(of(0, 0), 1);
  EXPECT_EQ(of(0, 1), 1);
  EXPECT_EQ(of(0.01, 0), 8);
  EXPECT_EQ(of(0.5, 0), 8);
  EXPECT_EQ(of(0.75, 0), 8);
  EXPECT_EQ(of(0.76, 0), 9);  // 8.33
  EXPECT_EQ(of(0.8, 0), 10);  // 2 / (1 - 0.8) rounds to above 10
  EXPECT_EQ(of(0.9, 0), 20);  // and this one to above 20
  EXPECT_EQ(of(0.95, 0), 40);
  EXPECT_EQ(of(0.5, 5), 5);
  EXPECT_EQ(of(0.5, 2), 2);
  EXPECT_EQ(of(0.9, 4096), 20);
  EXPECT_EQ(of(1 - 1e-6, 0), 1 << 20);  // 2e6 is more than a search takes
  for (int i = 0; i < 1000; ++i) EXPECT_GE(highest_rate(of(i / 1000.0, 0)), i / 1000.0);

  std::int64_t n = -1;
  EXPECT_EQ(default_max_period(0.9, 9, &n).message(),
            "features: expected at least 10, the least max_period that drops at 0.9, got 9, which "
            "drops at 0.888888889 at most");
  EXPECT_EQ(default_max_period(0.5, -1, &n).message(),
            "features: expected at least 1, or 0 for any number, got -1");
  EXPECT_EQ(default_max_period(1 - 1e-9, 0, &n).message(),
            "p: expected a dropout rate that periods of up to 1048576 reach, at most 0.999999046, "
            "got 0.999999999");
}

TEST(Search, MaxPeriodMustReachTheRate) {
  EXPECT_EQ(message(make(0.6, 2)),
            "max_period: expected at least 3, the least max_period that drops at 0.6, got 2, which "
            "drops at 0.5 at most");
  // The least that is named does reach, and one less does not.
  for (int i = 501; i < 1000; ++i) {
    const std::string told = message(make(i / 1000.0, 2));
    const std::int64_t least = std::stoll(told.substr(told.find("at least ") + 9));
    EXPECT_GE(least * (1000 - i), 1000) << told;
    EXPECT_LT((least - 1) * (1000 - i), 1000) << told;
    std::vector<double> d(static_cast<std::size_t>(least));
    SearchResult result;
    const SearchArgs args = make(i / 1000.0, least, SearchMethod::kExact);
    EXPECT_TRUE(search_distribution(args, d.data(), &result).ok()) << told;
  }
}

TEST(Search, BadArgumentsAreNamed) {
  const double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  const std::string rate =
      "p: expected a dropout rate in [0, 1), as every pattern keeps something, got ";
  EXPECT_EQ(message(make(1, 8)), rate + "1");
  EXPECT_EQ(message(make(-0.25, 8)), rate + "-0.25");
  EXPECT_EQ(message(make(infinity, 8)), rate + "inf");
  EXPECT_EQ(message(make(nan, 8)), rate + "nan");
  std::int64_t n = 0;
  EXPECT_EQ(default_max_period(nan, 0, &n).message(), rate + "nan");
  EXPECT_EQ(message(make(0.5, 0)), "max_period: expected a number in [1, 1048576], got 0");
  EXPECT_EQ(message(make(0.5, 1048577)),
            "max_period: expected a number in [1, 1048576], got 1048577");
  EXPECT_EQ(message(make(0.5, 8, static_cast<SearchMethod>(3))),
            "method: expected sgd, exact or narrow, got code 3");
  const auto with = [](auto member, auto value) {
    SearchArgs args = make(0.5, 8);
    args.*member = value;
    return message(args);
  };
  EXPECT_EQ(with(&SearchArgs::lambda1, 0.0), "lambda1: expected a weight in [0.001, 1000], got 0");
  EXPECT_EQ(with(&SearchArgs::lambda2, nan),
            "lambda2: expected a weight in [0.001, 1000], got nan");
  EXPECT_EQ(with(&SearchArgs::lambda2, 1e4),
            "lambda2: expected a weight in [0.001, 1000], got 10000");
  EXPECT_EQ(with(&SearchArgs::threshold, 0.0),
            "threshold: expected a finite number above 0, got 0");
  EXPECT_EQ(with(&SearchArgs::threshold, infinity),
            "threshold: expected a finite number above 0, got inf");
  EXPECT_EQ(with(&SearchArgs::threshold, nan),
            "threshold: expected a finite number above 0, got nan");
  EXPECT_EQ(with(&SearchArgs::tolerance, 0.0), "tolerance: expected a number in (0, 1], got 0");
  EXPECT_EQ(with(&SearchArgs::tolerance, 1.5), "tolerance: expected a number in (0, 1], got 1.5");
  EXPECT_EQ(with(&SearchArgs::max_iterations, 0), "max_iterations: expected at least 1, got 0");

  double d[8];
  SearchResult result;
  EXPECT_EQ(search_distribution(make(0.5, 8), nullptr, &result).message(),
            "probabilities: expected room for 8 doubles, got a null pointer");
  EXPECT_EQ(search_distribution(make(0.5, 8), d, nullptr).message(),
            "result: expected room for a result, got a null pointer");
  double loss = 0;
  d[3] = nan;
  EXPECT_EQ(search_loss(make(0.5, 8), nullptr, &loss, nullptr).message(),
            "v: expected 8 doubles, got a null pointer");
  EXPECT_EQ(
      search_loss(make(0.5, 4), std::vector<double>{0, 0, 0, nan}.data(), &loss, nullptr).message(),
      "v: expected finite numbers, got nan");
  EXPECT_EQ(search_loss(make(0.5, 1), d, &loss, nullptr).message(), message(make(0.5, 1)));
}

// A search that falls short says so and hands over what it came to.
void expect_short(const SearchArgs& args, const std::string& told) {
  std::vector<double> d(static_cast<std::size_t>(args.max_period));
  SearchResult result;
  const Status status = search_distribution(args, d.data(), &result);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message().find(told), 0U) << status.message();
  EXPECT_GE(result.iterations, 1);
  EXPECT_LE(result.iterations, args.max_iterations);
  EXPECT_EQ(static_cast<std::int64_t>(result.history.size()), result.iterations + 1);
  double sum = 0, rate = 0;
  for (std::size_t i = 0; i < d.size(); ++i) {
    sum += d[i];
    rate += d[i] * highest_rate(static_cast<std::int64_t>(i) + 1);
  }
  EXPECT_NEAR(sum, 1, 1e-14);
  EXPECT_NEAR(result.rate, rate, 1e-14);
}

TEST(Search, RunningOutOfIterationsIsAnErrorWithAResult) {
  for (const bool anneal : {true, false}) {
    SearchArgs args = make(0.3, 64);
    args.anneal = anneal;
    std::vector<double> d(64);
    SearchResult result;
    ASSERT_TRUE(search_distribution(args, d.data(), &result).ok());
    const std::int64_t enough = result.iterations;
    args.max_iterations = enough;
    EXPECT_TRUE(search_distribution(args, d.data(), &result).ok());
    EXPECT_EQ(result.iterations, enough);
    for (const std::int64_t few : {std::int64_t{1}, enough - 1}) {
      args.max_iterations = few;
      expect_short(args, "max_iterations: expected enough for the search to come to rest, got " +
                             std::to_string(few) + ", after which it drops at 0.");
    }
  }
}

TEST(Search, AnnealingThatEndsShortOfTheRateIsAnErrorWithAResult) {
  SearchArgs args = make(highest_rate(64) - 1e-8, 64);
  args.threshold = 1e9;  // every stage ends with its first step
  expect_short(args,
               "tolerance: expected one that a search with threshold 1e+09 can meet, got 0.0001, "
               "after which it drops at 0.984374");
}

}  // namespace
}  // namespace dropgemm
