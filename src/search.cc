// The search for a distribution of periods: checks, the paper's descent, and the exact solution.
#include "dropgemm/search.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <string>

namespace dropgemm {
namespace {

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
constexpr double kAnnealing = 0.1;  // lambda2 of a stage over that of the one before
constexpr double kNearest = 1e-12;  // |rate - p| that is near enough in any case
constexpr double kRounding = 1e-9;  // relative, of 1 / (1 - p) up to kMaxSearchPeriod
constexpr double kLeastWeight = 1e-3, kMostWeight = 1e3;

std::string text(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.9g", value);
  return digits;
}

// u of period index + 1, the share of neurons that it drops. Correctly rounded: 19 / 20 is 0.95.
double dropped_share(std::size_t index) {
  return static_cast<double>(index) / static_cast<double>(index + 1);
}

double highest_rate(std::int64_t max_period) {
  return dropped_share(static_cast<std::size_t>(max_period - 1));
}

bool is_highest_rate(double p, std::int64_t max_period) {
  return std::abs(p - highest_rate(max_period)) <= 2 * kEpsilon;
}

bool reaches(double p, std::int64_t max_period) {
  return p <= highest_rate(max_period) || is_highest_rate(p, max_period);
}

Status check_rate(double p) {
  if (p >= 0 && p < 1) return {};  // false for NaN
  return Status::invalid("p", "a dropout rate in [0, 1), as every pattern keeps something",
                         text(p));
}

// The least max_period that drops at p. p has passed check_rate.
Status least_max_period(double p, std::int64_t* least) {
  if (!reaches(p, kMaxSearchPeriod)) {
    return Status::invalid("p",
                           "a dropout rate that periods of up to " +
                               std::to_string(kMaxSearchPeriod) + " reach, at most " +
                               text(highest_rate(kMaxSearchPeriod)),
                           text(p));
  }
  *least = std::clamp<std::int64_t>(static_cast<std::int64_t>(1 / (1 - p)), 1, kMaxSearchPeriod);
  while (*least > 1 && reaches(p, *least - 1)) --*least;
  while (!reaches(p, *least)) ++*least;
  return {};
}

Status check_reach(const char* name, double p, std::int64_t max_period) {
  if (reaches(p, max_period)) return {};
  std::int64_t least = 0;
  DROPGEMM_RETURN_IF_ERROR(least_max_period(p, &least));
  return Status::invalid(
      name, "at least " + std::to_string(least) + ", the least max_period that drops at " + text(p),
      std::to_string(max_period) + ", which drops at " + text(highest_rate(max_period)) +
          " at most");
}

Status check_weight(const char* name, double value) {
  if (value >= kLeastWeight && value <= kMostWeight) return {};
  return Status::invalid(name, "a weight in [0.001, 1000]", text(value));
}

Status check_args(const SearchArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_rate(args.p));
  if (args.max_period < 1 || args.max_period > kMaxSearchPeriod) {
    return Status::invalid("max_period",
                           "a number in [1, " + std::to_string(kMaxSearchPeriod) + "]",
                           std::to_string(args.max_period));
  }
  DROPGEMM_RETURN_IF_ERROR(check_reach("max_period", args.p, args.max_period));
  if (args.method != SearchMethod::kSgd && args.method != SearchMethod::kExact &&
      args.method != SearchMethod::kNarrow) {
    return Status::invalid("method", "sgd, exact or narrow",
                           "code " + std::to_string(static_cast<int>(args.method)));
  }
  DROPGEMM_RETURN_IF_ERROR(check_weight("lambda1", args.lambda1));
  DROPGEMM_RETURN_IF_ERROR(check_weight("lambda2", args.lambda2));
  if (!(args.threshold > 0) || std::isinf(args.threshold)) {
    return Status::invalid("threshold", "a finite number above 0", text(args.threshold));
  }
  if (!(args.tolerance > 0 && args.tolerance <= 1)) {
    return Status::invalid("tolerance", "a number in (0, 1]", text(args.tolerance));
  }
  if (args.max_iterations < 1) {
    return Status::invalid("max_iterations", "at least 1", std::to_string(args.max_iterations));
  }
  return {};
}

// d = softmax(v), and what is known of it.
struct Distribution {
  explicit Distribution(std::int64_t periods)
      : probability(static_cast<std::size_t>(periods)), log_probability(probability.size()) {}

  // Of the logits v(i).
  template <class Logits>
  void set(Logits v) {
    const std::size_t periods = probability.size();
    double highest = log_probability[0] = v(0);
    for (std::size_t i = 1; i < periods; ++i) {
      highest = std::max(highest, log_probability[i] = v(i));
    }
    double sum = 0;
    for (std::size_t i = 0; i < periods; ++i) {
      log_probability[i] -= highest;
      sum += probability[i] = std::exp(log_probability[i]);
    }
    const double log_sum = std::log(sum);
    rate = 0;
    entropy = 0;
    for (std::size_t i = 0; i < periods; ++i) {
      probability[i] /= sum;
      log_probability[i] -= log_sum;
      rate += probability[i] * dropped_share(i);
      entropy -= probability[i] * log_probability[i];
    }
  }

  // Of u.
  [[nodiscard]] double variance() const {
    double sum = 0;
    for (std::size_t i = 0; i < probability.size(); ++i) {
      const double off = dropped_share(i) - rate;
      sum += probability[i] * off * off;
    }
    return sum;
  }

  std::vector<double> probability, log_probability;
  double rate = 0;
  double entropy = 0;
};

// Algorithm 1. v is kept as log d, one of the v that d is the softmax of.
class Descent {
 public:
  template <class Logits>
  Descent(const SearchArgs& args, Logits v)
      : args_(args), lambda2_(args.lambda2), slope_(static_cast<std::size_t>(args.max_period)),
        here_(args.max_period), tried_(args.max_period) {
    here_.set(v);
    set_slope();
  }

  [[nodiscard]] const Distribution& distribution() const { return here_; }
  [[nodiscard]] double loss() const { return loss_of(here_); }
  // d_i (g_i - d . g), the gradient by v.
  [[nodiscard]] double gradient(std::size_t i) const { return here_.probability[i] * slope_[i]; }

  // Steps until the loss changes by less than `threshold`; false where the iterations run out.
  bool run(double lambda2, double threshold, std::vector<SearchPoint>* history) {
    lambda2_ = lambda2;
    set_slope();
    step_ = std::max(step_, safe_step());
    double change = 0;
    do {
      if (static_cast<std::int64_t>(history->size()) > args_.max_iterations) return false;
      const double before = loss();
      if (!take_step()) return true;  // what is left to gain is below a rounding error
      change = before - loss();
      history->push_back({loss(), here_.rate, lambda2_});
    } while (std::abs(change) >= threshold);
    return true;
  }

  // Near enough to p for the distribution to be near the exact one: since dd / drate = d (u - rate)
  // / s^2, the sum of absolute differences is at most |rate - p| / s, to first order. Close to 0
  // and to the highest rate s itself changes with the rate.
  [[nodiscard]] bool is_annealed() const {
    const double to_end = std::min(args_.p, highest_rate(args_.max_period) - args_.p);
    const double reach = args_.tolerance * std::min(std::sqrt(here_.variance()), to_end);
    return std::abs(here_.rate - args_.p) <= std::max(kNearest, reach);
  }

 private:
  [[nodiscard]] double entropy_weight() const {
    return lambda2_ / static_cast<double>(args_.max_period);
  }

  // A step down the natural gradient lowers the loss where it is no longer than this: by Pinsker's
  // inequality the loss curves at most lambda1 / 2 + lambda2 / N times as much as the distance that
  // the natural gradient is taken in.
  [[nodiscard]] double safe_step() const { return 1 / (args_.lambda1 / 2 + entropy_weight()); }

  [[nodiscard]] double loss_of(const Distribution& d) const {
    const double off = d.rate - args_.p;
    return args_.lambda1 * off * off - entropy_weight() * d.entropy;
  }

  // g - d . g, for g = dloss / dd without its constant, which the difference cancels.
  void set_slope() {
    const double by_rate = 2 * args_.lambda1 * (here_.rate - args_.p);
    double mean = 0;
    for (std::size_t i = 0; i < slope_.size(); ++i) {
      slope_[i] = by_rate * dropped_share(i) + entropy_weight() * here_.log_probability[i];
      mean += here_.probability[i] * slope_[i];
    }
    for (double& g : slope_) g -= mean;
  }

  // A step down the natural gradient, or the plain one; false where none of any size goes down.
  bool take_step() {
    const auto direction = [&](std::size_t i) { return args_.anneal ? slope_[i] : gradient(i); };
    double steepness = 0;  // the fall of the loss for a step of size 1, were the loss straight
    for (std::size_t i = 0; i < slope_.size(); ++i) steepness += gradient(i) * direction(i);
    while (step_ > kEpsilon * safe_step()) {
      tried_.set([&](std::size_t i) { return here_.log_probability[i] - step_ * direction(i); });
      if (loss_of(tried_) <= loss() - step_ * steepness / 2) {
        std::swap(here_, tried_);
        set_slope();
        step_ *= 2;
        return true;
      }
      step_ /= 2;
    }
    return false;
  }

  const SearchArgs& args_;
  double lambda2_;
  double step_ = 0;
  std::vector<double> slope_;  // the natural gradient
  Distribution here_, tried_;
};

Status search_sgd(const SearchArgs& args, double* probabilities, SearchResult* result) {
  Descent descent(args, [](std::size_t) { return 0.0; });
  result->history = {{descent.loss(), descent.distribution().rate, args.lambda2}};
  bool rests = false, annealed = false;
  double share = 1;  // of the first stage's lambda2
  do {
    rests = descent.run(args.lambda2 * share, args.threshold * share, &result->history);
    annealed = !args.anneal || descent.is_annealed();
    share *= kAnnealing;
    // Below a weight of eps^2 the entropy is nothing beside the square of a rate.
  } while (rests && !annealed && args.lambda2 * share > args.lambda1 * kEpsilon * kEpsilon);

  const Distribution& d = descent.distribution();
  std::copy(d.probability.begin(), d.probability.end(), probabilities);
  result->rate = d.rate;
  result->entropy = d.entropy;
  result->iterations = static_cast<std::int64_t>(result->history.size()) - 1;
  const std::string came = "after which it drops at " + text(d.rate) + " for p = " + text(args.p);
  if (!rests) {
    return Status::invalid("max_iterations", "enough for the search to come to rest",
                           std::to_string(args.max_iterations) + ", " + came);
  }
  if (!annealed) {
    return Status::invalid("tolerance",
                           "one that a search with threshold " + text(args.threshold) + " can meet",
                           text(args.tolerance) + ", " + came);
  }
  return {};
}

// Newton's method in lambda, inside a bracket that bisection narrows where it leaves it.
void search_exact(const SearchArgs& args, double* probabilities, SearchResult* result) {
  Distribution d(args.max_period);
  const auto rate_at = [&](double lambda) {
    ++result->iterations;
    d.set([&](std::size_t i) { return lambda * dropped_share(i); });
    return d.rate;
  };
  double reach = rate_at(0) < args.p ? 1 : -1;
  while (reach > 0 ? rate_at(reach) < args.p : rate_at(reach) > args.p) reach *= 2;
  double below = std::min(reach, 0.0), above = std::max(reach, 0.0);  // the rate rises with lambda
  double lambda = (below + above) / 2, change = 0;
  do {
    (rate_at(lambda) < args.p ? below : above) = lambda;
    const double newton = lambda + (args.p - d.rate) / d.variance();
    const double next = newton > below && newton < above ? newton : (below + above) / 2;
    change = next - lambda;
    lambda = next;
  } while (d.rate != args.p && std::abs(change) > 8 * kEpsilon * std::max(1.0, std::abs(lambda)));
  std::copy(d.probability.begin(), d.probability.end(), probabilities);
  result->rate = d.rate;
  result->entropy = d.entropy;
}

// Shares of periods n - 1 and n whose keep rates mix to 1 - p.
Status search_narrow(const SearchArgs& args, double* probabilities, SearchResult* result) {
  std::int64_t upper = 0;
  DROPGEMM_RETURN_IF_ERROR(least_max_period(args.p, &upper));
  upper = std::max<std::int64_t>(upper, 2);  // 1 where p is within a rounding error of 0
  const auto n = static_cast<double>(upper);
  const double share = std::clamp((1 / (n - 1) - (1 - args.p)) * n * (n - 1), 0.0, 1.0);
  std::fill_n(probabilities, args.max_period, 0.0);
  for (const auto& [period, weight] : {std::pair(upper - 1, 1 - share), std::pair(upper, share)}) {
    probabilities[period - 1] = weight;
    result->rate += weight * highest_rate(period);
    if (weight > 0) result->entropy -= weight * std::log(weight);
  }
  return {};
}

}  // namespace

Status default_max_period(double p, std::int64_t features, std::int64_t* max_period) {
  DROPGEMM_RETURN_IF_ERROR(check_rate(p));
  std::int64_t least = 0;
  DROPGEMM_RETURN_IF_ERROR(least_max_period(p, &least));
  if (features < 0) {
    return Status::invalid("features", "at least 1, or 0 for any number", std::to_string(features));
  }
  // 2 / (1 - 0.9) is 20 and a rounding error, which must not make it 21.
  const double wanted = p == 0 ? 1 : std::max(8.0, std::ceil(2 / (1 - p) * (1 - kRounding)));
  std::int64_t most = kMaxSearchPeriod;
  if (features > 0) {
    most = std::min(most, features);
    DROPGEMM_RETURN_IF_ERROR(check_reach("features", p, most));
  }
  *max_period = std::min(most, static_cast<std::int64_t>(wanted));
  return {};
}

Status search_distribution(const SearchArgs& args, double* probabilities, SearchResult* result) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  if (probabilities == nullptr) {
    return Status::invalid("probabilities",
                           "room for " + std::to_string(args.max_period) + " doubles",
                           "a null pointer");
  }
  if (result == nullptr) {
    return Status::invalid("result", "room for a result", "a null pointer");
  }
  *result = {};
  if (args.p == 0 || is_highest_rate(args.p, args.max_period)) {
    std::fill_n(probabilities, args.max_period, 0.0);
    const std::int64_t period = args.p == 0 ? 1 : args.max_period;
    probabilities[period - 1] = 1;
    result->rate = highest_rate(period);
    return {};
  }
  if (args.method == SearchMethod::kSgd) return search_sgd(args, probabilities, result);
  if (args.method == SearchMethod::kNarrow) return search_narrow(args, probabilities, result);
  search_exact(args, probabilities, result);
  return {};
}

Status search_loss(const SearchArgs& args, const double* v, double* loss, double* gradient) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  if (v == nullptr) {
    return Status::invalid("v", std::to_string(args.max_period) + " doubles", "a null pointer");
  }
  if (loss == nullptr) return Status::invalid("loss", "room for a double", "a null pointer");
  for (std::int64_t i = 0; i < args.max_period; ++i) {
    if (!std::isfinite(v[i])) return Status::invalid("v", "finite numbers", text(v[i]));
  }
  const Descent at(args, [&](std::size_t i) { return v[i]; });
  *loss = at.loss();
  if (gradient == nullptr) return {};
  for (std::int64_t i = 0; i < args.max_period; ++i) {
    gradient[i] = at.gradient(static_cast<std::size_t>(i));
  }
  return {};
}

}  // namespace dropgemm
