// The three products of a layer on a GPU, timed by events on the device.
//
//   cuda_bench --batch=8192 --features=4096 --method=block --rows=1024 --cols=64 --keep=.5
//
// Contenders: dropgemm; its own dense product; cuBLAS, which drops nothing; and SparseDrop's way,
// blocks of 128 x 128 dropped from the inputs alone, by this library's kernels. The second-level
// cache is overwritten before every call (--cache=cold), or left as it is; calls are launched one
// by one or replayed from a graph.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"
#include "device.h"
#include "dropgemm/backend.h"
#include "dropgemm/gemm.h"
#include "operands.h"

namespace dropgemm::bench {
namespace {

struct Case {
  std::string contender, dtype, precision, product, method, side, cache, launch;
  std::int64_t batch = 0, features = 0, outputs = 0, rows = 0, cols = 0, period = 0;
  double keep = 1;

  [[nodiscard]] bool drops() const { return contender == "dropgemm" || contender == "sparsedrop"; }
  [[nodiscard]] std::string name() const {
    std::string line = product + "/" + contender + "/batch:" + text(batch) +
                       "/features:" + text(features) +
                       (outputs != features ? "/outputs:" + text(outputs) : "");
    if (drops()) {
      if (contender == "dropgemm") line += "/" + method;
      line += has_period(method) ? "/period:" + text(period) : "/keep:" + text(keep);
      if (method != "tile" && contender == "dropgemm") line += "/side:" + side;
      if (method == "block" && contender == "dropgemm") {
        line += "/rows:" + (rows > 0 ? text(rows) : "batch") + "/cols:" + text(cols);
      }
    }
    line += "/" + dtype;
    if (precision != "highest" && dtype == "float32") line += "/" + precision;
    return line + "/" + cache + "/" + launch;
  }
};

// A matrix and a mask on the device.
class DeviceOperand {
 public:
  DeviceOperand(DType dtype, std::int64_t rows, std::int64_t cols) : host_(dtype, rows, cols) {}

  Status upload() {
    view_ = host_.view();
    DROPGEMM_RETURN_IF_ERROR(memory_.allocate(static_cast<std::size_t>(host_.bytes()), view_.data));
    view_.data = memory_.data();
    return {};
  }
  // Bits are drawn by the cpu backend: every backend draws the same.
  Status mask(const MaskRecipe& recipe) {
    Context cpu;
    DROPGEMM_RETURN_IF_ERROR(find_backend("cpu", &cpu.backend));
    mask_ = std::make_unique<Mask>(recipe);
    DROPGEMM_RETURN_IF_ERROR(mask_->draw(cpu));
    mask_view_ = mask_->view();
    DROPGEMM_RETURN_IF_ERROR(
        bits_.allocate(static_cast<std::size_t>(mask_->bytes()), mask_view_.bits));
    mask_view_.bits = static_cast<const std::uint32_t*>(bits_.data());
    return {};
  }
  [[nodiscard]] const MatrixView& view() const { return view_; }
  [[nodiscard]] const TileMaskView* mask_view() const {
    return mask_ != nullptr ? &mask_view_ : nullptr;
  }
  [[nodiscard]] double kept() const { return mask_ != nullptr ? mask_->keep_rate() : 1; }

 private:
  Matrix host_;
  MatrixView view_;
  DeviceArray memory_, bits_;
  std::unique_ptr<Mask> mask_;
  TileMaskView mask_view_;
};

// One product of a layer.
class Product {
 public:
  explicit Product(const Case& c)
      : case_(c), x_(dtype_of_name(c.dtype), c.batch, c.features),
        y_(dtype_of_name(c.dtype), c.batch, c.outputs),
        w_(dtype_of_name(c.dtype), c.outputs, c.features) {}

  Status prepare(cudaStream_t stream) {
    for (DeviceOperand* each : {&x_, &y_, &w_}) DROPGEMM_RETURN_IF_ERROR(each->upload());
    if (case_.drops()) DROPGEMM_RETURN_IF_ERROR(draw());
    if (case_.product == "forward") set(x_, w_, y_);
    if (case_.product == "input_gradient") set(y_, w_, x_);
    if (case_.product == "weight_gradient") set(y_, x_, w_);
    if (case_.precision == "medium") args_.precision = Precision::kMedium;
    args_.trans_b = case_.product == "forward";
    args_.trans_a = case_.product == "weight_gradient";
    if (case_.contender == "cublas") return cublas_.open(stream);
    DROPGEMM_RETURN_IF_ERROR(find_backend("cuda", &ctx_.backend));
    ctx_.stream = stream;
    DROPGEMM_RETURN_IF_ERROR(gemm_workspace_bytes(ctx_, args_, &ctx_.workspace_bytes));
    DROPGEMM_RETURN_IF_ERROR(workspace_.allocate(ctx_.workspace_bytes + 64));
    ctx_.workspace = workspace_.data();
    return {};
  }
  Status run() { return case_.contender == "cublas" ? cublas_.gemm(args_) : gemm(ctx_, args_); }

  [[nodiscard]] double share() const { return x_.kept() * y_.kept() * w_.kept(); }
  [[nodiscard]] double flops() const {
    const GemmShape shape = gemm_shape(args_);
    return 2.0 * share() * static_cast<double>(shape.m * shape.n * shape.k);
  }

 private:
  Status draw() {
    MaskRecipe recipe{case_.method, case_.batch, case_.features, case_.keep,
                      case_.period, case_.rows,  case_.cols,     0};
    if (case_.contender == "sparsedrop") {
      recipe.method = "block";
      recipe.group_rows = recipe.block_cols = 128;
      return x_.mask(recipe);
    }
    if (case_.method == "tile") {
      recipe.rows = case_.outputs;
      return w_.mask(recipe);
    }
    if (case_.side != "output") DROPGEMM_RETURN_IF_ERROR(x_.mask(recipe));
    recipe.cols = case_.outputs;
    recipe.site = 1;
    return case_.side != "input" ? y_.mask(recipe) : Status();
  }
  void set(const DeviceOperand& a, const DeviceOperand& b, const DeviceOperand& d) {
    args_.a = a.view();
    args_.b = b.view();
    args_.d = d.view();
    args_.a_mask = a.mask_view();
    args_.b_mask = b.mask_view();
    args_.d_mask = d.mask_view();
  }

  Case case_;
  DeviceOperand x_, y_, w_;
  DeviceArray workspace_;
  Cublas cublas_;
  Context ctx_;
  GemmArgs args_;
};

void run(benchmark::State& state, const Case& c) {
  Stopwatch watch;
  Product product(c);
  Status status = watch.open();
  if (status.ok()) status = product.prepare(watch.stream());
  if (status.ok()) {
    status = watch.start(c.cache == "cold", c.launch == "graph", [&] { return product.run(); });
  }
  for (auto _ : state) {
    double seconds = 0;
    if (status.ok()) status = watch.time(&seconds);
    state.SetIterationTime(seconds);
  }
  if (!status.ok()) state.SkipWithError(status.message().c_str());
  state.counters["FLOP/s"] =
      benchmark::Counter(product.flops(), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["share"] = product.share();
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;
  Axes axes("The three products of a layer on a GPU.", argc, argv);
  const std::vector<std::string> products = {"forward", "input_gradient", "weight_gradient"};
  const std::vector<std::string> contenders = {"cublas", "dense", "sparsedrop", "dropgemm"};

  std::vector<Case> cases(1);
  cross(&cases, &Case::product, axes.words("product", products, products));
  cross(&cases, &Case::batch, axes.integers("batch", {8192}, 1, "rows of inputs"));
  cross(&cases, &Case::features, axes.integers("features", {4096}, 1, "inputs and outputs"));
  cross(&cases, &Case::outputs, axes.integers("outputs", {0}, 0, "0: as many as features"));
  cross(&cases, &Case::method, axes.words("method", {"block"}, {"block", "row", "tile"}));
  cross(&cases, &Case::keep, axes.rates("keep", {0.5}, "of block and of sparsedrop"));
  cross(&cases, &Case::period, axes.integers("period", {2}, 1, "of row and tile"));
  cross(&cases, &Case::side,
        axes.words("side", {"both"}, {"both", "input", "output"}, "of all but tile"));
  cross(&cases, &Case::rows, axes.integers("rows", {1024}, 0, "of a group of blocks; 0: batch"));
  cross(&cases, &Case::cols, axes.integers("cols", {64}, 1, "of a block; sides of a tile"));
  cross(&cases, &Case::dtype, axes.words("dtype", {"bfloat16"}, dtype_names()));
  cross(&cases, &Case::precision,
        axes.words("precision", {"highest"}, {"highest", "medium"}, "of float32 products"));
  cross(&cases, &Case::contender, axes.words("contender", contenders, contenders));
  cross(&cases, &Case::cache, axes.words("cache", {"cold"}, {"cold", "warm"}));
  cross(&cases, &Case::launch, axes.words("launch", {"stream"}, {"stream", "graph"}));
  if (const auto status = axes.finish()) return *status;
  for (Case& each : cases) {
    if (each.outputs == 0) each.outputs = each.features;
  }
  return run_all(cases, run, Clock::kOwn);
}
