// Exact bounds for counts of independent events, for tests of frequencies: seeds are fixed, so
// each bound holds or fails for good, and is set so that a right generator would seldom fail it.
#pragma once

#include <cmath>
#include <cstdint>

namespace dropgemm::testing {

inline double log_binomial(std::int64_t n, std::int64_t k, double q) {
  const auto nd = static_cast<double>(n), kd = static_cast<double>(k);
  return std::lgamma(nd + 1) - std::lgamma(kd + 1) - std::lgamma(nd - kd + 1) + kd * std::log(q) +
         (nd - kd) * std::log1p(-q);
}

// The smallest d with P(|X - n q| > d) <= chance for X ~ Binomial(n, q): exact tail sums.
inline double deviation_bound(std::int64_t n, double q, double chance) {
  const double mean = static_cast<double>(n) * q;
  double tail = 0;
  std::int64_t low = 0, high = n;
  while (low <= high) {  // peel off the outcome that is farthest from the mean
    const bool take_low = mean - static_cast<double>(low) > static_cast<double>(high) - mean;
    const std::int64_t outcome = take_low ? low : high;
    tail += std::exp(log_binomial(n, outcome, q));
    if (tail > chance) return std::abs(static_cast<double>(outcome) - mean);
    if (take_low) {
      ++low;
    } else {
      --high;
    }
  }
  return 0;
}

}  // namespace dropgemm::testing
