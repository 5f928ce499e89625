// The three products of a layer, dense and pruned, on every axis of the operator.
//
//   gemm_bench --batch=128,1024 --features=2048 --method=block --keep=.5 --side=both --rows=128
//
// Counters: FLOP/s, useful ones alone (of what is kept); share, of the dense multiply-adds; bytes,
// the least that one call moves (what is kept of A and B, all of D). bernoulli and gyro drop single
// neurons: nothing can be skipped, and all of the work counts.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"
#include "dropgemm/backend.h"
#include "dropgemm/gemm.h"
#include "operands.h"

namespace dropgemm::bench {
namespace {

struct Case {
  std::string backend, dtype, precision, product, method, side;
  std::int64_t batch = 0, features = 0, outputs = 0, rows = 0, cols = 0, period = 0, threads = 0;
  double keep = 1;

  [[nodiscard]] std::string name() const {
    std::string line = product + "/" + method + "/batch:" + text(batch) +
                       "/features:" + text(features) +
                       (outputs != features ? "/outputs:" + text(outputs) : "");
    if (method != "dense") {
      if (has_period(method)) line += "/period:" + text(period);
      if (!has_period(method)) line += "/keep:" + text(keep);
      if (method != "tile") line += "/side:" + side;
      if (method == "block") line += "/rows:" + (rows > 0 ? text(rows) : "batch");
      if (method == "block" || method == "tile") line += "/cols:" + text(cols);
    }
    line += "/" + dtype;
    if (precision != "highest" && dtype == "float32") line += "/" + precision;
    return line + "/threads:" + (threads > 0 ? text(threads) : "all") + "/" + backend;
  }
};

// The masks of a layer: of its inputs and outputs, or of its weight; null where all is kept.
struct Masks {
  std::unique_ptr<Mask> inputs, outputs, weight;
};

Masks masks_of(const Case& c) {
  Masks masks;
  if (c.method == "dense") return masks;
  MaskRecipe recipe{c.method, c.batch, c.features, c.keep, c.period, c.rows, c.cols, 0};
  if (c.method == "tile") {
    recipe.rows = c.outputs;
    masks.weight = std::make_unique<Mask>(recipe);
    return masks;
  }
  if (c.side != "output") masks.inputs = std::make_unique<Mask>(recipe);
  recipe.cols = c.outputs;
  recipe.site = 1;
  if (c.side != "input") masks.outputs = std::make_unique<Mask>(recipe);
  return masks;
}

// One product of a layer, its operands and its masks.
class Product {
 public:
  explicit Product(const Case& c)
      : masks_(masks_of(c)), x_(dtype_of_name(c.dtype), c.batch, c.features),
        y_(x_.view().dtype, c.batch, c.outputs), w_(x_.view().dtype, c.outputs, c.features),
        can_skip_(c.method != "bernoulli" && c.method != "gyro") {
    const Operand x{&x_, masks_.inputs.get()}, y{&y_, masks_.outputs.get()};
    const Operand w{&w_, masks_.weight.get()};
    if (c.product == "forward") set(x, w, y);
    if (c.product == "input_gradient") set(y, w, x);
    if (c.product == "weight_gradient") set(y, x, w);
    if (c.precision == "medium") args_.precision = Precision::kMedium;
    args_.trans_b = c.product == "forward";
    args_.trans_a = c.product == "weight_gradient";
  }

  [[nodiscard]] Status prepare(const Context& ctx) {
    for (Mask* mask : {masks_.inputs.get(), masks_.outputs.get(), masks_.weight.get()}) {
      if (mask != nullptr) DROPGEMM_RETURN_IF_ERROR(mask->draw(ctx));
    }
    return {};
  }
  [[nodiscard]] Status run(const Context& ctx) const { return gemm(ctx, args_); }

  [[nodiscard]] double share() const {
    if (!can_skip_) return 1;
    return kept(args_.a_mask) * kept(args_.b_mask) * kept(args_.d_mask);
  }
  [[nodiscard]] double flops() const {
    const GemmShape shape = gemm_shape(args_);
    return 2.0 * share() * static_cast<double>(shape.m * shape.n * shape.k);
  }
  [[nodiscard]] double bytes() const {
    const auto moved = [&](const ConstMatrixView& matrix, double kept) {
      return kept * static_cast<double>(matrix.rows * matrix.cols) *
             static_cast<double>(dtype_size(matrix.dtype));
    };
    return moved(args_.a, kept(args_.a_mask)) + moved(args_.b, kept(args_.b_mask)) +
           moved(args_.d, 1);
  }

 private:
  struct Operand {
    const Matrix* matrix;
    const Mask* mask;
  };

  void set(const Operand& a, const Operand& b, const Operand& d) {
    args_.a = a.matrix->view();
    args_.b = b.matrix->view();
    args_.d = d.matrix->view();
    args_.a_mask = a.mask != nullptr ? &a.mask->view() : nullptr;
    args_.b_mask = b.mask != nullptr ? &b.mask->view() : nullptr;
    args_.d_mask = d.mask != nullptr ? &d.mask->view() : nullptr;
  }
  [[nodiscard]] double kept(const TileMaskView* view) const {
    for (const Mask* mask : {masks_.inputs.get(), masks_.outputs.get(), masks_.weight.get()}) {
      if (mask != nullptr && view == &mask->view()) return mask->keep_rate();
    }
    return 1;
  }

  Masks masks_;
  Matrix x_, y_, w_;
  bool can_skip_;
  GemmArgs args_;
};

void run(benchmark::State& state, const Case& c) {
  Context ctx;
  ctx.num_threads = static_cast<std::int32_t>(c.threads);
  Status status = find_backend(c.backend, &ctx.backend);
  Product product(c);
  if (status.ok()) status = product.prepare(ctx);
  time_calls(state, status, [&] { return product.run(ctx); });
  state.counters["FLOP/s"] =
      benchmark::Counter(product.flops(), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share"] = product.share();
  state.counters["bytes"] = product.bytes();
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;
  Axes axes("The three products of a layer, dense and pruned.", argc, argv);
  std::vector<std::string> every_method = methods();
  every_method.insert(every_method.begin(), "dense");
  const std::vector<std::string> products = {"forward", "input_gradient", "weight_gradient"};
  const std::vector<std::string> backends = dropgemm::backends();

  std::vector<Case> cases(1);
  cross(&cases, &Case::product, axes.words("product", products, products));
  cross(&cases, &Case::method,
        axes.words("method", {"dense", "block", "row", "tile"}, every_method));
  cross(&cases, &Case::batch, axes.integers("batch", {128, 256, 1024}, 1, "rows of inputs"));
  cross(&cases, &Case::features, axes.integers("features", {2048}, 1, "inputs and outputs"));
  cross(&cases, &Case::outputs, axes.integers("outputs", {0}, 0, "0: as many as features"));
  cross(&cases, &Case::keep, axes.rates("keep", {0.5, 0.25}, "of bernoulli, gyro and block"));
  cross(&cases, &Case::period, axes.integers("period", {2, 4}, 1, "of row and tile"));
  cross(&cases, &Case::side,
        axes.words("side", {"both"}, {"both", "input", "output"}, "of all but tile"));
  cross(&cases, &Case::rows, axes.integers("rows", {0, 128}, 0, "of a group of blocks; 0: batch"));
  cross(&cases, &Case::cols, axes.integers("cols", {32}, 1, "of a block; sides of a tile"));
  cross(&cases, &Case::dtype, axes.words("dtype", {"float32"}, dtype_names()));
  cross(&cases, &Case::precision,
        axes.words("precision", {"highest"}, {"highest", "medium"}, "of float32 products"));
  cross(&cases, &Case::threads, axes.threads({0}));
  cross(&cases, &Case::backend, axes.words("backend", {backends.front()}, backends));
  if (const auto status = axes.finish()) return *status;
  for (Case& each : cases) {
    if (each.outputs == 0) each.outputs = each.features;
  }
  return run_all(cases, run);
}
