// The three products of a square layer on the current backend.
//   blocks: batch, features, percent kept, rows of a group (0: one group for the batch); of inputs
//           and outputs
//   row:    batch, features, period; of inputs and outputs
//   tile:   batch, features, period; 32 x 32 tiles of the weight
// Counters: useful FLOP/s (of what is kept) and the share of the dense work.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <random>
#include <vector>

#include "dropgemm/gemm.h"
#include "dropgemm/mask.h"
#include "dropgemm/pattern.h"

namespace dropgemm {
namespace {

enum class Which { kForward, kInputGradient, kWeightGradient };
enum class Method { kBlocks, kRow, kTile };

std::vector<float> random_values(std::int64_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

// A mask and its bits, which a function draws.
class Mask {
 public:
  Mask(std::int64_t rows, std::int64_t cols, std::int64_t tile_rows, std::int64_t tile_cols,
       double keep)
      : bits_(static_cast<std::size_t>(mask_words(rows, cols, tile_rows, tile_cols))),
        view_{bits_.data(), rows, cols, tile_rows, tile_cols, keep} {}
  Mask(Mask&&) = default;
  Mask(const Mask&) = delete;
  Mask& operator=(const Mask&) = delete;
  Mask& operator=(Mask&&) = delete;
  ~Mask() = default;

  [[nodiscard]] MutableTileMaskView bits() {
    return {bits_.data(), view_.rows, view_.cols, view_.tile_rows, view_.tile_cols};
  }
  [[nodiscard]] const TileMaskView* view() const { return &view_; }

 private:
  std::vector<std::uint32_t> bits_;
  TileMaskView view_;
};

// What a benchmark's arguments drop: of inputs and outputs, or of the weight.
struct Dropped {
  std::vector<Mask> sides, weight;
  double share = 1.0;  // of the dense work
  Status status;
};

Dropped blocks(std::int64_t batch, std::int64_t features, double keep, std::int64_t rows) {
  Dropped dropped;
  dropped.share = keep * keep;
  if (keep == 1) return dropped;
  for (std::int64_t site = 0; site < 2 && dropped.status.ok(); ++site) {
    GyroMaskArgs args;
    args.mask = dropped.sides.emplace_back(batch, features, rows, 32, keep).bits();
    args.p = 1.0 - keep;
    args.schedule.tile_rows = rows;
    args.site = site;
    args.draw = Draw::kExact;
    dropped.status = gyro_mask({}, args);
  }
  return dropped;
}

Dropped pattern(Method method, std::int64_t batch, std::int64_t features, std::int64_t period) {
  Dropped dropped;
  const double keep = 1.0 / static_cast<double>(period);
  PatternMaskArgs args;
  if (method == Method::kTile) {
    dropped.share = keep;
    args.kind = PatternKind::kTile;
    args.mask = dropped.weight.emplace_back(features, features, 32, 32, keep).bits();
    args.pattern.period = period;
    dropped.status = pattern_mask({}, args);
    return dropped;
  }
  dropped.share = keep * keep;
  for (const std::int64_t offset : {std::int64_t{0}, period - 1}) {
    args.mask = dropped.sides.emplace_back(batch, features, batch, 1, keep).bits();
    args.pattern = {period, offset};
    if (dropped.status.ok()) dropped.status = pattern_mask({}, args);
  }
  return dropped;
}

void layer_product(benchmark::State& state, Which which, Method method) {
  const std::int64_t batch = state.range(0), features = state.range(1);
  const Dropped dropped = method == Method::kBlocks
                              ? blocks(batch, features, static_cast<double>(state.range(2)) / 100,
                                       state.range(3) > 0 ? state.range(3) : batch)
                              : pattern(method, batch, features, state.range(2));
  const bool weight_gradient = which == Which::kWeightGradient;
  const std::vector<float> rows_in = random_values(batch * features);
  const std::vector<float> other = random_values((weight_gradient ? batch : features) * features);
  std::vector<float> out(static_cast<std::size_t>((weight_gradient ? features : batch) * features));

  GemmArgs args;
  args.a = matrix_view(rows_in.data(), batch, features);
  args.b = matrix_view(other.data(), weight_gradient ? batch : features, features);
  args.d = matrix_view(out.data(), weight_gradient ? features : batch, features);
  args.trans_a = weight_gradient;
  args.trans_b = which == Which::kForward;
  const bool forward = which == Which::kForward;
  if (!dropped.sides.empty()) {
    const TileMaskView* const inputs = dropped.sides[0].view();
    const TileMaskView* const outputs = dropped.sides[1].view();
    args.a_mask = forward ? inputs : outputs;
    (weight_gradient ? args.b_mask : args.d_mask) = forward ? outputs : inputs;
  }
  if (!dropped.weight.empty()) {
    (weight_gradient ? args.d_mask : args.b_mask) = dropped.weight[0].view();
  }
  Status status = dropped.status;
  for (auto _ : state) {
    if (status.ok()) status = gemm({}, args);
    benchmark::ClobberMemory();
  }
  if (!status.ok()) state.SkipWithError(status.message().c_str());
  const double work = static_cast<double>(batch * features * features) * dropped.share;
  state.counters["FLOP/s"] =
      benchmark::Counter(2 * work, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share"] = dropped.share;
}

void block_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"batch", "features", "keep", "rows"})->UseRealTime();
  for (const std::int64_t batch : {128, 256, 1024}) {
    bench->Args({batch, 2048, 100, 0});
    for (const std::int64_t keep : {50, 25}) {
      bench->Args({batch, 2048, keep, 0});
      bench->Args({batch, 2048, keep, 128});
    }
  }
}

void pattern_shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"batch", "features", "period"})->UseRealTime();
  for (const std::int64_t batch : {128, 256, 1024}) {
    for (const std::int64_t period : {2, 3, 4}) bench->Args({batch, 2048, period});
  }
}

BENCHMARK_CAPTURE(layer_product, forward_blocks, Which::kForward, Method::kBlocks)
    ->Apply(block_shapes);
BENCHMARK_CAPTURE(layer_product, forward_row, Which::kForward, Method::kRow)->Apply(pattern_shapes);
BENCHMARK_CAPTURE(layer_product, forward_tile, Which::kForward, Method::kTile)
    ->Apply(pattern_shapes);
BENCHMARK_CAPTURE(layer_product, input_gradient_blocks, Which::kInputGradient, Method::kBlocks)
    ->Apply(block_shapes);
BENCHMARK_CAPTURE(layer_product, input_gradient_row, Which::kInputGradient, Method::kRow)
    ->Apply(pattern_shapes);
BENCHMARK_CAPTURE(layer_product, input_gradient_tile, Which::kInputGradient, Method::kTile)
    ->Apply(pattern_shapes);
BENCHMARK_CAPTURE(layer_product, weight_gradient_blocks, Which::kWeightGradient, Method::kBlocks)
    ->Apply(block_shapes);
BENCHMARK_CAPTURE(layer_product, weight_gradient_row, Which::kWeightGradient, Method::kRow)
    ->Apply(pattern_shapes);
BENCHMARK_CAPTURE(layer_product, weight_gradient_tile, Which::kWeightGradient, Method::kTile)
    ->Apply(pattern_shapes);

}  // namespace
}  // namespace dropgemm
