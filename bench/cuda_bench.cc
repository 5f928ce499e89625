// Work of the CUDA backend, timed by events on the device: the three products of a layer; drawing a
// mask; compaction.
//
//   cuda_bench --batch=8192 --features=4096 --method=block --rows=1024 --cols=64 --keep=.5
//
// Contenders in products: dropgemm; its own dense product; cuBLAS, which drops nothing; and
// SparseDrop's way, blocks of 128 x 128 dropped from the inputs alone, by this library's kernels.
// The second-level cache is overwritten before every call (--cache=cold), or left as it is; calls
// are launched one by one or replayed from a graph.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "axes.h"
#include "cases.h"
#include "device.h"
#include "dropgemm/backend.h"
#include "dropgemm/compact.h"
#include "dropgemm/gemm.h"
#include "operands.h"

namespace dropgemm::bench {
namespace {

struct Case {
  std::string contender, dtype, precision, work, method, side, cache, launch;
  std::int64_t batch = 0, features = 0, outputs = 0, rows = 0, cols = 0, period = 0;
  double keep = 1;

  [[nodiscard]] bool multiplies() const {
    return work != "mask" && work != "compact" && work != "expand";
  }
  [[nodiscard]] bool drops() const { return contender == "dropgemm" || contender == "sparsedrop"; }
  [[nodiscard]] std::string name() const {
    std::string line = work + "/" + contender + "/batch:" + text(batch) +
                       "/features:" + text(features) +
                       (outputs != features ? "/outputs:" + text(outputs) : "");
    if (drops()) {
      if (contender == "dropgemm") line += "/" + method;
      line += has_period(method) ? "/period:" + text(period) : "/keep:" + text(keep);
      if (method != "tile" && contender == "dropgemm" && multiplies()) line += "/side:" + side;
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
  DeviceOperand(DType dtype, std::int64_t rows, std::int64_t cols)
      : view_{nullptr, rows, cols, cols, 1, dtype} {}

  Status upload() {
    const Matrix values(view_.dtype, 1, kPeriodOfValues);
    DROPGEMM_RETURN_IF_ERROR(memory_.repeat(static_cast<std::size_t>(bytes()), values.view().data,
                                            static_cast<std::size_t>(values.bytes())));
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
  Status draw(const Context& ctx) {
    return mask_->draw(ctx, static_cast<std::uint32_t*>(bits_.data()));
  }

  [[nodiscard]] const MatrixView& view() const { return view_; }
  [[nodiscard]] std::int64_t bytes() const {
    return view_.rows * view_.cols * static_cast<std::int64_t>(dtype_size(view_.dtype));
  }
  [[nodiscard]] const TileMaskView* mask_view() const {
    return mask_ != nullptr ? &mask_view_ : nullptr;
  }
  [[nodiscard]] const Mask& host_mask() const { return *mask_; }
  [[nodiscard]] double kept() const { return mask_ != nullptr ? mask_->keep_rate() : 1; }

 private:
  MatrixView view_;
  DeviceArray memory_, bits_;
  std::unique_ptr<Mask> mask_;
  TileMaskView mask_view_;
};

// What a case times.
class Work {
 public:
  Work() = default;
  virtual ~Work() = default;
  Work(const Work&) = delete;
  Work& operator=(const Work&) = delete;

  virtual Status prepare(cudaStream_t stream) = 0;
  virtual Status run() = 0;
  virtual void count(benchmark::State* state) const = 0;

 protected:
  static void rate(benchmark::State* state, const char* name, double value) {
    state->counters[name] =
        benchmark::Counter(value, benchmark::Counter::kIsIterationInvariantRate);
  }
};

// One product of a layer.
class Product : public Work {
 public:
  explicit Product(const Case& c)
      : case_(c), x_(dtype_of_name(c.dtype), c.batch, c.features),
        y_(dtype_of_name(c.dtype), c.batch, c.outputs),
        w_(dtype_of_name(c.dtype), c.outputs, c.features) {}

  Status prepare(cudaStream_t stream) override {
    for (DeviceOperand* each : {&x_, &y_, &w_}) DROPGEMM_RETURN_IF_ERROR(each->upload());
    if (case_.drops()) DROPGEMM_RETURN_IF_ERROR(draw());
    if (case_.work == "forward") set(x_, w_, y_);
    if (case_.work == "input_gradient") set(y_, w_, x_);
    if (case_.work == "weight_gradient") set(y_, x_, w_);
    if (case_.precision == "medium") args_.precision = Precision::kMedium;
    args_.trans_b = case_.work == "forward";
    args_.trans_a = case_.work == "weight_gradient";
    if (case_.contender == "cublas") return cublas_.open(stream);
    DROPGEMM_RETURN_IF_ERROR(find_backend("cuda", &ctx_.backend));
    ctx_.stream = stream;
    DROPGEMM_RETURN_IF_ERROR(gemm_workspace_bytes(ctx_, args_, &ctx_.workspace_bytes));
    DROPGEMM_RETURN_IF_ERROR(workspace_.allocate(ctx_.workspace_bytes + 64));
    ctx_.workspace = workspace_.data();
    return {};
  }
  Status run() override {
    return case_.contender == "cublas" ? cublas_.gemm(args_) : gemm(ctx_, args_);
  }
  void count(benchmark::State* state) const override {
    const GemmShape shape = gemm_shape(args_);
    const double share = x_.kept() * y_.kept() * w_.kept();
    rate(state, "FLOP/s", 2.0 * share * static_cast<double>(shape.m * shape.n * shape.k));
    state->counters["share"] = share;
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

// A mask of the inputs is drawn, or they are compacted by it, or spread again.
class Masked : public Work {
 public:
  explicit Masked(const Case& c)
      : case_(c), x_(dtype_of_name(c.dtype), c.batch, c.features),
        axis_(c.method == "tile" ? CompactAxis::kTiles : CompactAxis::kCols) {}

  Status prepare(cudaStream_t stream) override {
    DROPGEMM_RETURN_IF_ERROR(find_backend("cuda", &ctx_.backend));
    ctx_.stream = stream;
    DROPGEMM_RETURN_IF_ERROR(x_.mask({case_.method, case_.batch, case_.features, case_.keep,
                                      case_.period, case_.rows, case_.cols, 0}));
    if (case_.work == "mask") return {};
    DROPGEMM_RETURN_IF_ERROR(x_.upload());
    std::int64_t least = 0, most = 0;
    const TileMaskView& mask = x_.host_mask().view();
    DROPGEMM_RETURN_IF_ERROR(kept_count(mask, axis_, &least, &most));
    const bool tiles = axis_ == CompactAxis::kTiles;
    xc_ = std::make_unique<DeviceOperand>(x_.view().dtype,
                                          tiles ? most * mask.tile_rows : case_.batch,
                                          tiles ? mask.tile_cols : most);
    return xc_->upload();
  }
  Status run() override {
    if (case_.work == "mask") return x_.draw(ctx_);
    const TileMaskView& mask = *x_.mask_view();
    return case_.work == "compact" ? compact(ctx_, {x_.view(), xc_->view(), mask, axis_})
                                   : expand(ctx_, {xc_->view(), x_.view(), mask, axis_});
  }
  // The least that a call moves: bits, or what is kept, read and written, of expand also zeros.
  void count(benchmark::State* state) const override {
    if (case_.work == "mask") {
      rate(state, "bytes/s", static_cast<double>(x_.host_mask().bytes()));
      return;
    }
    const auto all = static_cast<double>(x_.bytes());
    const double kept = x_.kept() * all;
    rate(state, "bytes/s", kept + (case_.work == "compact" ? kept : all));
  }

 private:
  Case case_;
  DeviceOperand x_;
  std::unique_ptr<DeviceOperand> xc_;
  CompactAxis axis_;
  Context ctx_;
};

std::unique_ptr<Work> work_of(const Case& c) {
  if (c.multiplies()) return std::make_unique<Product>(c);
  return std::make_unique<Masked>(c);
}

void run(benchmark::State& state, const Case& c) {
  Stopwatch watch;
  const std::unique_ptr<Work> work = work_of(c);
  Status status = watch.open();
  if (status.ok()) status = work->prepare(watch.stream());
  if (status.ok()) {
    status = watch.start(c.cache == "cold", c.launch == "graph", [&] { return work->run(); });
  }
  if (!status.ok()) return state.SkipWithError(status.message().c_str());
  for (auto _ : state) {
    double seconds = 0;
    status = watch.time(&seconds);
    if (!status.ok()) return state.SkipWithError(status.message().c_str());
    state.SetIterationTime(seconds);
  }
  work->count(&state);
}

}  // namespace
}  // namespace dropgemm::bench

int main(int argc, char** argv) {
  using namespace dropgemm::bench;
  Axes axes("Products of a layer, masks and compaction on a GPU.", argc, argv);
  const std::vector<std::string> products = {"forward", "input_gradient", "weight_gradient"};
  const std::vector<std::string> works = {"forward", "input_gradient", "weight_gradient",
                                          "mask",    "compact",        "expand"};
  const std::vector<std::string> contenders = {"cublas", "dense", "sparsedrop", "dropgemm"};

  std::vector<Case> cases(1);
  cross(&cases, &Case::work, axes.words("work", products, works));
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
    if (!each.multiplies()) each.contender = "dropgemm";
  }
  return run_all(cases, run, Clock::kOwn);
}
