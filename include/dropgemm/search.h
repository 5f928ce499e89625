// The search for a distribution of pattern periods that drops at a given rate (Song et al.,
// "Approximate Random Dropout", 2018, Algorithm 1). Host only: no backend, no random number.
//
//   d = softmax(v), v in R^N           d[i - 1] is the probability of period i = 1..N
//   u_i = (i - 1) / i                  the share of neurons that period i drops (the paper's p_u)
//   rate = d . u                       the rate that the distribution drops at
//   loss = lambda1 * (rate - p)^2 + lambda2 / N * sum_i d_i log d_i
//
// The first term asks for the rate p, the second for many different patterns. v descends from 0,
// the uniform distribution, until |change of loss| < threshold.
//
// Where the descent comes to rest, d_i = exp(lambda * u_i) / Z with lambda = 2 N lambda1 / lambda2
// * (p - rate): the distribution of the largest entropy at its own rate, but not at p. The printed
// weights lambda1 = lambda2 = 0.5 give the rate 0.564 for p = 0.5, N = 8. Hence annealing:
// lambda2 falls by ten from stage to stage, each starting where the one before came to rest, until
// the rate is p. No projection follows.
//
// The plain gradient by v is d_j (g_j - d . g) with g = dloss / dd: a period of small probability
// all but stands still, and at N = 1024 ten thousand steps do not suffice. The annealed descent
// takes the natural gradient instead, g - d . g, the steepest descent where distance is
// Kullback-Leibler's: the same loss, the same v, the same points of rest, some fifty steps. From
// v = 0 it never leaves the family exp(lambda * u). Step sizes: a step that lowers the loss by half
// of what the slope promises is taken and the next one tried at twice its size; else it is halved.
#pragma once

#include <cstdint>
#include <vector>

#include "dropgemm/status.h"

namespace dropgemm {

constexpr std::int64_t kMaxSearchPeriod = std::int64_t{1} << 20;

enum class SearchMethod : std::int32_t {
  kSgd = 0,    // the paper's descent
  kExact = 1,  // d_i = exp(lambda * u_i) / Z at rate p, by root finding in lambda
  // Beyond the paper: the two neighbouring periods whose mix drops at p, one where it alone does.
  // Of all distributions at this rate it has the least noise in values scaled by the period, whose
  // mean square is sum_i d_i * i, and the least spread of the share that is kept from step to step,
  // sum_i d_i / i^2 (both convex in 1 / i, whose mean is the keep rate). In exchange it has the
  // fewest patterns. Average work is that of any other: a product pruned on both sides, each by a
  // draw of its own, is left with the square of the keep rate.
  kNarrow = 2,
};

struct SearchArgs {
  double p = 0.5;               // the rate asked for, in [0, 1)
  std::int64_t max_period = 8;  // N, in [1, kMaxSearchPeriod]; (N - 1) / N >= p
  SearchMethod method = SearchMethod::kSgd;
  // The rest is of kSgd alone.
  // false: the paper to the letter, one stage at the printed weights and with the plain gradient.
  bool anneal = true;
  double lambda1 = 0.5;  // both in [0.001, 1000]
  double lambda2 = 0.5;  // of the first stage
  // A stage ends where a step changes the loss by less than threshold * (lambda2 of the stage /
  // lambda2), annealing where |rate - p| <= max(1e-12, tolerance * s), s the standard deviation of
  // u under d (at most 0.5). To first order the distribution is then within `tolerance` of the
  // exact one, in the sum of absolute differences.
  double threshold = 1e-10;              // > 0
  double tolerance = 1e-4;               // in (0, 1]; annealing only
  std::int64_t max_iterations = 100000;  // >= 1, all stages together
};

// A point of a descent.
struct SearchPoint {
  double loss = 0;
  double rate = 0;
  double lambda2 = 0;  // the weight in force: the loss of two stages is not comparable
};

struct SearchResult {
  double rate = 0;              // d . u
  double entropy = 0;           // -sum_i d_i log d_i, in nats
  std::int64_t iterations = 0;  // steps of the descent; kExact: evaluations of the rate
  // kSgd: where the descent starts and after each of its steps. Empty for the others, which have
  // no loss, and where nothing is searched.
  std::vector<SearchPoint> history;
};

// N where none is asked for: max(8, ceil(2 / (1 - p))), and 1 at p = 0; at most `features`, the
// number of neurons or of tiles that a pattern is laid over (0: any number).
// Errors: kInvalidArgument for p outside [0, 1) or beyond what kMaxSearchPeriod reaches, features
// below 0 or too few for p (says the least that reaches it).
[[nodiscard]] Status default_max_period(double p, std::int64_t features, std::int64_t* max_period);

// Writes the probabilities of the periods 1..max_period, `max_period` doubles. Nothing is searched
// where only one distribution will do: p = 0 is period 1, and p = (N - 1) / N is period N.
// Errors: kInvalidArgument for p outside [0, 1), a max_period that cannot reach p (says the highest
// rate it reaches and the least max_period that reaches p), an unknown method, weights, threshold,
// tolerance or max_iterations outside the ranges above. A descent that does not come to rest
// within max_iterations is an error too: what it came to is written all the same, and told from
// bad arguments by a history that is not empty.
[[nodiscard]] Status search_distribution(const SearchArgs& args, double* probabilities,
                                         SearchResult* result);

// The loss at v [max_period] with the weights of `args`, and its gradient by v [max_period] where
// `gradient` is not null.
// Errors: those of search_distribution's arguments; null v or loss, v that is not finite.
[[nodiscard]] Status search_loss(const SearchArgs& args, const double* v, double* loss,
                                 double* gradient);

}  // namespace dropgemm
