// Drawing masks: what a training step pays for its random numbers.
//
//   mask_bench --method=block,bernoulli --batch=128,1024 --features=2048
//
// Counters: tiles/s; elements/s, those that the mask covers; bytes, of the mask.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"
#include "dropgemm/backend.h"
#include "operands.h"

namespace dropgemm::bench {
namespace {

struct Case {
  std::string backend, method;
  std::int64_t batch = 0, features = 0, rows = 0, cols = 0, period = 0, threads = 0;
  double keep = 1;

  [[nodiscard]] std::string name() const {
    std::string line = method + "/batch:" + text(batch) + "/features:" + text(features) +
                       (has_period(method) ? "/period:" + text(period) : "/keep:" + text(keep));
    if (method == "block") line += "/rows:" + (rows > 0 ? text(rows) : "batch");
    if (method == "block" || method == "tile") line += "/cols:" + text(cols);
    return line + "/threads:" + (threads > 0 ? text(threads) : "all") + "/" + backend;
  }
};

void run(benchmark::State& state, const Case& c) {
  Context ctx;
  ctx.num_threads = static_cast<std::int32_t>(c.threads);
  const Status status = find_backend(c.backend, &ctx.backend);
  Mask mask({c.method, c.batch, c.features, c.keep, c.period, c.rows, c.cols, 0});
  time_calls(state, status, [&] { return mask.draw(ctx); });
  const auto rate = [](std::int64_t count) {
    return benchmark::Counter(static_cast<double>(count),
                              benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["tiles/s"] = rate(mask.tiles());
  state.counters["elements/s"] = rate(c.batch * c.features);
  state.counters["bytes"] = static_cast<double>(mask.bytes());
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;
  Axes axes("Drawing masks.", argc, argv);
  const std::vector<std::string> backends = dropgemm::backends();

  std::vector<Case> cases(1);
  cross(&cases, &Case::method, axes.words("method", methods(), methods()));
  cross(&cases, &Case::batch, axes.integers("batch", {128, 1024}, 1, "rows; of tile, outputs"));
  cross(&cases, &Case::features, axes.integers("features", {2048}, 1, "columns"));
  cross(&cases, &Case::keep, axes.rates("keep", {0.5}, "of bernoulli, gyro and block"));
  cross(&cases, &Case::period, axes.integers("period", {2}, 1, "of row and tile"));
  cross(&cases, &Case::rows, axes.integers("rows", {128}, 0, "of a group of blocks; 0: batch"));
  cross(&cases, &Case::cols, axes.integers("cols", {32}, 1, "of a block; sides of a tile"));
  cross(&cases, &Case::threads, axes.threads({0}));
  cross(&cases, &Case::backend, axes.words("backend", {backends.front()}, backends));
  if (const auto status = axes.finish()) return *status;
  return run_all(cases, run);
}
