// The search for distributions of periods. It runs on the host and knows no backend.
//
//   search_bench --p=.3,.5,.7 --max_period=8,1024 --method=sgd,exact
//
// Counters: iterations; off, how far the distribution's rate is from p.
#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"
#include "dropgemm/search.h"

namespace dropgemm::bench {
namespace {

const std::vector<std::string> kMethods = {"sgd", "paper", "exact", "narrow"};

struct Case {
  std::string method;
  double p = 0;
  std::int64_t max_period = 0;

  [[nodiscard]] std::string name() const {
    return method + "/p:" + text(p) + "/max_period:" + text(max_period);
  }
};

SearchMethod method_of(const std::string& name) {
  if (name == "exact") return SearchMethod::kExact;
  return name == "narrow" ? SearchMethod::kNarrow : SearchMethod::kSgd;
}

void run(benchmark::State& state, const Case& c) {
  SearchArgs args;
  args.p = c.p;
  args.max_period = c.max_period;
  args.method = method_of(c.method);
  args.anneal = c.method != "paper";
  std::vector<double> probabilities(static_cast<std::size_t>(c.max_period));
  SearchResult result;
  time_calls(state, {}, [&] { return search_distribution(args, probabilities.data(), &result); });
  state.counters["iterations"] = static_cast<double>(result.iterations);
  state.counters["off"] = std::abs(result.rate - c.p);
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;
  Axes axes("The search for distributions of periods.", argc, argv);
  std::vector<Case> cases(1);
  cross(&cases, &Case::method,
        axes.words("method", {"sgd", "exact", "narrow"}, kMethods,
                   "sgd anneals, paper is the printed algorithm"));
  cross(&cases, &Case::p, axes.rates("p", {0.3, 0.5, 0.7}));
  cross(&cases, &Case::max_period, axes.integers("max_period", {8, 64, 1024}, 1));
  if (const auto status = axes.finish()) return *status;
  return run_all(cases, run);
}
