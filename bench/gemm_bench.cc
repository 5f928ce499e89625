// The three products of a square layer on the current backend, pruned on both sides.
// Arguments: batch, features, percent kept, rows of a group (0: one group for the batch).
// Counters: useful FLOP/s (of what is kept) and the share of the dense work.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "dropgemm/gemm.h"
#include "dropgemm/mask.h"

namespace dropgemm {
namespace {

enum class Which { kForward, kInputGradient, kWeightGradient };

std::vector<float> random_values(std::int64_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

// The mask of one site: exact draws of 32-wide blocks, one subnet a row group.
class SiteMask {
 public:
  SiteMask(std::int64_t batch, std::int64_t features, double keep, std::int64_t rows,
           std::int64_t site)
      : bits_(static_cast<std::size_t>(mask_words(batch, features, rows, 32))) {
    GyroMaskArgs args;
    args.mask = {bits_.data(), batch, features, rows, 32};
    args.p = 1.0 - keep;
    args.schedule.tile_rows = rows;
    args.site = site;
    args.draw = Draw::kExact;
    status_ = gyro_mask({}, args);
    view_ = {bits_.data(), batch, features, rows, 32, keep};
  }
  [[nodiscard]] const Status& status() const { return status_; }
  [[nodiscard]] const TileMaskView* view() const { return &view_; }

 private:
  std::vector<std::uint32_t> bits_;
  TileMaskView view_;
  Status status_;
};

void layer_product(benchmark::State& state, Which which) {
  const std::int64_t batch = state.range(0), features = state.range(1);
  const double keep = static_cast<double>(state.range(2)) / 100;
  const std::int64_t rows = state.range(3) > 0 ? state.range(3) : batch;
  const bool weight_gradient = which == Which::kWeightGradient;
  const std::vector<float> rows_in = random_values(batch * features);
  const std::vector<float> other = random_values((weight_gradient ? batch : features) * features);
  std::vector<float> out(static_cast<std::size_t>((weight_gradient ? features : batch) * features));
  const SiteMask inputs(batch, features, keep, rows, 0), outputs(batch, features, keep, rows, 1);

  GemmArgs args;
  args.a = matrix_view(rows_in.data(), batch, features);
  args.b = matrix_view(other.data(), weight_gradient ? batch : features, features);
  args.d = matrix_view(out.data(), weight_gradient ? features : batch, features);
  args.trans_a = weight_gradient;
  args.trans_b = which == Which::kForward;
  if (keep < 1) {
    const bool forward = which == Which::kForward;
    args.a_mask = forward ? inputs.view() : outputs.view();
    (weight_gradient ? args.b_mask : args.d_mask) = forward ? outputs.view() : inputs.view();
  }
  Status status = inputs.status();
  for (auto _ : state) {
    if (status.ok()) status = gemm({}, args);
    benchmark::ClobberMemory();
  }
  if (!status.ok()) state.SkipWithError(status.message().c_str());
  const double work = static_cast<double>(batch * features * features) * keep * keep;
  state.counters["FLOP/s"] =
      benchmark::Counter(2 * work, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share"] = keep * keep;
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"batch", "features", "keep", "rows"})->UseRealTime();
  for (const std::int64_t batch : {128, 256, 1024}) {
    bench->Args({batch, 2048, 100, 0});
    for (const std::int64_t keep : {50, 25}) {
      bench->Args({batch, 2048, keep, 0});
      bench->Args({batch, 2048, keep, 128});
    }
  }
}

BENCHMARK_CAPTURE(layer_product, forward, Which::kForward)->Apply(shapes);
BENCHMARK_CAPTURE(layer_product, input_gradient, Which::kInputGradient)->Apply(shapes);
BENCHMARK_CAPTURE(layer_product, weight_gradient, Which::kWeightGradient)->Apply(shapes);

}  // namespace
}  // namespace dropgemm
