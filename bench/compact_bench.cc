// Compaction as a call of its own: what is kept, gathered and scattered back.
//
//   compact_bench --direction=compact,expand --axis=cols --method=block --keep=.5
//
// Counters: bytes, the least that one call moves (what is kept, read and written; of expand also
// the zeros between); bytes/s.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"
#include "dropgemm/backend.h"
#include "dropgemm/compact.h"
#include "operands.h"

namespace dropgemm::bench {
namespace {

struct Case {
  std::string backend, dtype, direction, axis, method;
  std::int64_t batch = 0, features = 0, rows = 0, cols = 0, period = 0, threads = 0;
  double keep = 1;

  [[nodiscard]] std::string name() const {
    std::string line = direction + "/" + axis + "/" + method + "/batch:" + text(batch) +
                       "/features:" + text(features) +
                       (has_period(method) ? "/period:" + text(period) : "/keep:" + text(keep));
    if (method == "block") line += "/rows:" + (rows > 0 ? text(rows) : "batch");
    if (method == "block" || method == "tile") line += "/cols:" + text(cols);
    return line + "/" + dtype + "/threads:" + (threads > 0 ? text(threads) : "all") + "/" + backend;
  }
};

CompactAxis axis_of(const std::string& name) {
  if (name == "rows") return CompactAxis::kRows;
  return name == "cols" ? CompactAxis::kCols : CompactAxis::kTiles;
}

// The compact side: rows and columns for the most that is kept.
Matrix compact_side(const Case& c, DType dtype, const TileMaskView& mask, std::int64_t most) {
  if (c.axis == "rows") return {dtype, most, c.features};
  if (c.axis == "cols") return {dtype, c.batch, most};
  return {dtype, most * mask.tile_rows, mask.tile_cols};
}

void run(benchmark::State& state, const Case& c) {
  Context ctx;
  ctx.num_threads = static_cast<std::int32_t>(c.threads);
  const CompactAxis axis = axis_of(c.axis);
  const DType dtype = dtype_of_name(c.dtype);
  Mask mask({c.method, c.batch, c.features, c.keep, c.period, c.rows, c.cols, 0});
  std::int64_t least = 0, most = 0;
  Status status = find_backend(c.backend, &ctx.backend);
  if (status.ok()) status = mask.draw(ctx);
  if (status.ok()) status = kept_count(mask.view(), axis, &least, &most);
  const Matrix x(dtype, c.batch, c.features), xc = compact_side(c, dtype, mask.view(), most);

  const bool gather = c.direction == "compact";
  time_calls(state, status, [&] {
    return gather ? compact(ctx, {x.view(), xc.view(), mask.view(), axis})
                  : expand(ctx, {xc.view(), x.view(), mask.view(), axis});
  });
  const double kept = mask.keep_rate() * static_cast<double>(x.bytes());
  const double bytes = kept + (gather ? kept : static_cast<double>(x.bytes()));
  state.counters["bytes"] = bytes;
  state.counters["bytes/s"] =
      benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;

  Axes axes("Compaction: what is kept, gathered and scattered back.", argc, argv);
  const std::vector<std::string> backends = dropgemm::backends();

  std::vector<Case> cases(1);
  cross(&cases, &Case::direction,
        axes.words("direction", {"compact", "expand"}, {"compact", "expand"}));
  cross(&cases, &Case::axis, axes.words("axis", {"cols"}, {"rows", "cols", "tiles"}));
  cross(&cases, &Case::method, axes.words("method", {"block", "row"}, methods()));
  cross(&cases, &Case::batch, axes.integers("batch", {128, 1024}, 1, "rows"));
  cross(&cases, &Case::features, axes.integers("features", {2048}, 1, "columns"));
  cross(&cases, &Case::keep, axes.rates("keep", {0.5}, "of bernoulli, gyro and block"));
  cross(&cases, &Case::period, axes.integers("period", {2}, 1, "of row and tile"));
  cross(&cases, &Case::rows, axes.integers("rows", {0, 128}, 0, "of a group of blocks; 0: batch"));
  cross(&cases, &Case::cols, axes.integers("cols", {32}, 1, "of a block; sides of a tile"));
  cross(&cases, &Case::dtype, axes.words("dtype", {"float32"}, dtype_names()));
  cross(&cases, &Case::threads, axes.threads({0}));
  cross(&cases, &Case::backend, axes.words("backend", {backends.front()}, backends));
  if (const auto status = axes.finish()) return *status;
  return run_all(cases, run);
}
