// A product on the device, from its arguments to D: prepare operands, build lists, multiply,
// finish. Everything is queued on the caller's stream; nothing is read back.
#include "cuda/gemm.h"

#include <algorithm>
#include <cstdint>

#include "cuda/arena.h"
#include "cuda/config.h"
#include "cuda/dense.h"
#include "cuda/finish.h"
#include "cuda/kernel_simt.h"
#include "cuda/kernel_sm80.h"
#include "cuda/kernel_sm90.h"
#include "cuda/launch.h"
#include "cuda/lists.h"
#include "cuda/plan.h"
#include "cuda/prepare.h"
#include "cuda/row_sum.h"
#include "cuda/runtime.h"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

struct Extents {
  explicit Extents(const GemmArgs& args) {
    const GemmShape s = gemm_shape(args);
    m = static_cast<std::int32_t>(s.m), n = static_cast<std::int32_t>(s.n);
    k = static_cast<std::int32_t>(s.k);
  }
  std::int32_t m, n, k;
};

std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

template <class E>
Plane<E> plane(const MatrixView& m) {
  return {static_cast<E*>(m.data), m.row_stride, m.col_stride};
}
template <class E>
Plane<const E> plane(const ConstMatrixView& m) {
  return {static_cast<const E*>(m.data), m.row_stride, m.col_stride};
}

template <class E>
Epilogue<E> make_epilogue(const GemmArgs& args) {
  using Sum = typename Number<E>::Sum;
  Epilogue<E> e;
  e.d = plane<E>(args.d);
  e.aux_out = plane<E>(args.aux_out);
  e.addend = plane<E>(args.addend);
  e.grad_aux = plane<E>(args.grad_aux);
  e.bias = static_cast<const E*>(args.bias);
  e.bias_stride = args.bias_stride;
  e.scale = static_cast<Sum>(args.scale);
  e.out_scale = static_cast<Sum>(args.out_scale);
  e.scale_device = args.scale_device;
  e.out_scale_device = args.out_scale_device;
  e.activation = args.activation;
  e.grad_activation = args.grad_activation;
  e.mask = d_axis_mask(args).mask;
  e.fills = args.out_fill == OutFill::kZero;
  e.vectors = e.has_vectors();
  return e;
}

template <class E>
Input<E> a_input(const GemmArgs& args) {
  const auto* const data = static_cast<const E*>(args.a.data);
  if (args.trans_a) return {data, args.a.col_stride, args.a.row_stride};
  return {data, args.a.row_stride, args.a.col_stride};
}
template <class E>
Input<E> b_input(const GemmArgs& args) {
  const auto* const data = static_cast<const E*>(args.b.data);
  if (args.trans_b) return {data, args.b.row_stride, args.b.col_stride};
  return {data, args.b.col_stride, args.b.row_stride};
}

// A product laid out: what each step works on. Over an arena without memory it says how much of it
// there has to be.
template <class E>
class Call {
 public:
  using Sum = typename Number<E>::Sum;

  Call(const Device& device, const GemmArgs& args, Arena* arena)
      : device_(device), args_(args), extents_(args), config_(make_config(device, args)) {
    product_.a = a_input<E>(args);
    product_.b = b_input<E>(args);
    product_.m = extents_.m, product_.n = extents_.n, product_.k = extents_.k;
    product_.epilogue = make_epilogue<E>(args);
    if (config_.path == GemmPath::kNone) return;
    if (config_.path == GemmPath::kCompact) take_axes(arena);
    OperandCopy<E>* const copies = copies_.copies;
    if (config_.copies_a) take_copies(extents_.m, config_.a_major, arena, copies, &product_.a);
    if (config_.copies_b) take_copies(extents_.n, config_.b_major, arena, copies + 1, &product_.b);
    describe_copies();
    if (config_.family == Family::kLibrary) {
      library_bytes_ = dense_workspace_bytes(device.arch);
      library_memory_ = arena->take<char>(static_cast<std::int64_t>(library_bytes_));
      return;
    }
    lists_ = config_.path == GemmPath::kPruned
                 ? plan_lists(config_, args, arena)
                 : plan_whole_lists(config_, extents_.m, extents_.n, extents_.k, lengths_, arena);
    if (config_.lists == Lists::kDepth) {  // sums of units of depth meet in memory
      product_.staging.row_stride = round_up(extents_.n, 32);
      product_.staging.data = arena->take<Sum>(extents_.m * product_.staging.row_stride);
    } else if (config_.path == GemmPath::kPruned || config_.path == GemmPath::kCompact) {
      product_.epilogue.mask = {};  // no list holds what it drops, but to fill it
    }
  }

  Status run(void* stream) const {
    if (args_.a_sum != nullptr) DROPGEMM_RETURN_IF_ERROR(sum_rows(stream));
    if (extents_.m == 0 || extents_.n == 0) return {};
    if (config_.path == GemmPath::kNone) return finish(stream);
    if (config_.path == GemmPath::kCompact) DROPGEMM_RETURN_IF_ERROR(find_kept_axes(stream));
    if (config_.copies_a || config_.copies_b) DROPGEMM_RETURN_IF_ERROR(copy(stream));
    if (config_.family == Family::kLibrary) {
      return multiply_dense(dense_call(), library_memory_, library_bytes_, stream);
    }
    DROPGEMM_RETURN_IF_ERROR(build_lists(device_, lists_, stream));
    if (product_.staging.data != nullptr) {
      DROPGEMM_RETURN_IF_ERROR(fill_zero(
          product_.staging.data,
          static_cast<std::size_t>(extents_.m * product_.staging.row_stride) * sizeof(Sum),
          stream));
    }
    DROPGEMM_RETURN_IF_ERROR(multiply_in_turns(stream));
    return product_.staging.data != nullptr ? finish(stream) : Status();
  }

 private:
  // Kept positions of the three axes, of which the masks are vectors.
  void take_axes(Arena* arena) {
    const AxisMask a = a_axis_mask(args_), b = b_axis_mask(args_), d = d_axis_mask(args_);
    const auto flipped = [](AxisMask mask) {
      mask.swapped = !mask.swapped;
      return mask;
    };
    const auto first = [](const AxisMask& mask, std::int32_t second_extent) {
      return mask.present() && mask.second_tile() >= second_extent ? mask : AxisMask{};
    };
    const auto second = [&](const AxisMask& mask, std::int32_t first_extent) {
      return mask.present() && mask.first_tile() >= first_extent ? flipped(mask) : AxisMask{};
    };
    const auto [m, n, k] = extents_;
    axes_[0] = {first(a, k), first(d, n), true, m};
    axes_[1] = {first(b, k), second(d, m), true, n};
    axes_[2] = {second(a, m), second(b, n), false, k};
    std::int32_t* const counts = arena->take<std::int32_t>(3);
    lengths_ = counts;
    for (std::int32_t i = 0; i < 3; ++i) {
      axes_[i].count = counts != nullptr ? counts + i : nullptr;
      if (!axes_[i].present()) continue;
      axes_[i].index = arena->take<std::int32_t>(axes_[i].extent);
      axes_[i].position = arena->take<std::int32_t>(axes_[i].extent);
    }
    product_.rows = {axes_[0].position, axes_[0].index, axes_[0].count};
    product_.cols = {axes_[1].position, axes_[1].index, axes_[1].count};
  }

  // Room for a copy of an operand, its lines or depths at 16-byte boundaries.
  void take_copies(std::int32_t lines, Major major, Arena* arena, OperandCopy<E>* copy,
                   Input<E>* input) {
    const bool by_depth = major == Major::kDepth;
    const std::int64_t inner = round_up(by_depth ? extents_.k : lines, 32);
    copy->from = *input;
    copy->granule = config_.granule_k;
    copy->lines = lines, copy->depth = extents_.k;
    copy->line_stride = by_depth ? inner : 1, copy->depth_stride = by_depth ? 1 : inner;
    copy->to = arena->take<E>(inner * (by_depth ? lines : extents_.k));
    *input = {copy->to, copy->line_stride, copy->depth_stride};
  }

  void describe_copies() {
    OperandCopy<E>&a = copies_.copies[0], &b = copies_.copies[1];
    if (config_.path == GemmPath::kSelect && !args_.dropped_are_zero) {
      a.mask = a_axis_mask(args_);
      b.mask = b_axis_mask(args_);
    }
    if (config_.path != GemmPath::kCompact) return;
    a.line_index = axes_[0].index, a.line_count = axes_[0].count;
    b.line_index = axes_[1].index, b.line_count = axes_[1].count;
    a.depth_index = b.depth_index = axes_[2].index;
    a.depth_count = b.depth_count = axes_[2].count;
  }

  Status find_kept_axes(void* stream) const {
    using Kernel = KeptAxesKernel;
    const std::int32_t longest = std::max({extents_.m, extents_.n, extents_.k});
    const std::int32_t parts = (longest + Kernel::kPart - 1) / Kernel::kPart;
    return launch<Kernel>(3 * parts, Kernel::kShared, stream, {{axes_[0], axes_[1], axes_[2]}});
  }

  Status copy(void* stream) const {
    std::int64_t rows = 0;
    for (const OperandCopy<E>& each : copies_.copies) {
      if (each.to != nullptr) rows += each.depth_stride == 1 ? each.lines : each.depth;
    }
    return launch<CopyKernel<E>>(grid_of(device_, rows, CopyKernel<E>::kRows), 0, stream, copies_);
  }

  // A persistent grid: one block a multiprocessor walks over the items.
  [[nodiscard]] std::int32_t blocks() const {
    return static_cast<std::int32_t>(
        std::clamp<std::int64_t>(most_items(lists_), 1, device_.multiprocessors));
  }

  // The library has columns where we have rows: D's transpose is B's by A's, unless D lies so
  // itself.
  [[nodiscard]] DenseCall dense_call() const {
    struct Side {
      const void* data;
      bool by_line;
      std::int64_t apart;
      std::int32_t lines;
    };
    const auto side = [](const Input<E>& input, Major major, std::int32_t lines) -> Side {
      const bool by_line = major == Major::kLine;
      return {input.data, by_line, by_line ? input.depth_stride : input.line_stride, lines};
    };
    const Side a = side(product_.a, config_.a_major, extents_.m);
    const Side b = side(product_.b, config_.b_major, extents_.n);
    const bool by_rows = args_.d.col_stride == 1;
    const Side& left = by_rows ? b : a;
    const Side& right = by_rows ? a : b;
    DenseCall call;
    call.dtype = config_.dtype;
    call.rounds = args_.precision == Precision::kMedium;
    call.trans_a = !left.by_line, call.trans_b = right.by_line;
    call.m = left.lines, call.n = right.lines, call.k = extents_.k;
    call.alpha = args_.scale;
    call.a = left.data, call.b = right.data, call.c = args_.d.data;
    call.lda = static_cast<std::int32_t>(left.apart);
    call.ldb = static_cast<std::int32_t>(right.apart);
    call.ldc = static_cast<std::int32_t>(by_rows ? args_.d.row_stride : args_.d.col_stride);
    call.bias = args_.bias;
    if (args_.addend.present()) {
      call.addend = args_.addend.data;
      call.ld_addend = static_cast<std::int32_t>(args_.addend.row_stride);
    }
    return call;
  }

  Status multiply_in_turns(void* stream) const {
    Product<E> product = product_;
    for (std::int32_t turn = 0; turn < config_.turns; ++turn) {
      product.lists = work_lists(lists_, turn);
      DROPGEMM_RETURN_IF_ERROR(multiply(product, stream));
    }
    return {};
  }

  template <Major kMajorA, Major kMajorB>
  Status multiply_sm80(const Product<E>& product, void* stream) const {
    return launch<Sm80Kernel<E, kMajorA, kMajorB>>(blocks(), sm80_shared<E>(), stream, product);
  }

  Status multiply(const Product<E>& product, void* stream) const {
    if constexpr (std::is_same_v<E, float> || std::is_same_v<E, double>) {
      if (config_.family == Family::kSimt) {
        return launch<SimtKernel<E>>(blocks(), simt_shared<E>(), stream, product);
      }
    }
    if constexpr (!std::is_same_v<E, double>) {
      if (config_.family == Family::kSm90) {
        return run_sm90(device_, config_, product, most_items(lists_), stream);
      }
      constexpr Major kK = Major::kDepth, kL = Major::kLine;
      const bool by_line = config_.b_major == kL;
      if (config_.a_major == kK) {
        return by_line ? multiply_sm80<kK, kL>(product, stream)
                       : multiply_sm80<kK, kK>(product, stream);
      }
      return by_line ? multiply_sm80<kL, kL>(product, stream)
                     : multiply_sm80<kL, kK>(product, stream);
    }
    return {StatusCode::kUnsupported, "cuda: no kernel for " + to_string(config_)};
  }

  Status finish(void* stream) const {
    typename FinishKernel<E>::Params params;
    params.m = extents_.m, params.n = extents_.n;
    params.epilogue = product_.epilogue;
    params.staging = product_.staging;
    return launch<FinishKernel<E>>(grid_of(device_, std::max(extents_.m, extents_.n), 1), 0, stream,
                                   params);
  }

  Status sum_rows(void* stream) const {
    using Kernel = RowSumKernel<E>;
    typename Kernel::Params params;
    params.a = a_input<E>(args_);
    params.mask = a_axis_mask(args_);
    params.lines = extents_.m, params.depth = extents_.k;
    params.depth_tile = std::max(params.mask.present() ? params.mask.second_tile() : extents_.k, 1);
    params.to = static_cast<E*>(args_.a_sum);
    if (params.lines == 0) return {};
    return launch<Kernel>(grid_of(device_, params.lines, Kernel::kLines), Kernel::kShared, stream,
                          params);
  }

  const Device& device_;
  const GemmArgs& args_;
  Extents extents_;
  GemmConfig config_;
  Product<E> product_;
  ListParams lists_;
  KeptAxis axes_[3];
  const std::int32_t* lengths_ = nullptr;
  char* library_memory_ = nullptr;
  std::size_t library_bytes_ = 0;
  typename CopyKernel<E>::Params copies_;
};

// Calls use(E()) with the type of the arguments' elements.
template <class Use>
Status with_type(DType dtype, const Use& use) {
  if (dtype == DType::kFloat32) return use(float());
  if (dtype == DType::kFloat64) return use(double());
  if (dtype == DType::kBFloat16) return use(BFloat16());
  if (dtype == DType::kFloat16) return use(Float16());
  return {StatusCode::kInvalidType, "a: expected a known dtype"};
}

const void* bits_of(const TileMaskView* mask) { return mask != nullptr ? mask->bits : nullptr; }

// The device that the operands are on. What has no elements may have no memory either.
Status device_of(const GemmArgs& args, const Device** device) {
  const auto data = [](const ConstMatrixView& view) {
    return view.rows > 0 && view.cols > 0 ? view.data : nullptr;
  };
  return find_device_of({{"a", data(args.a)},
                         {"b", data(args.b)},
                         {"out", data(args.d)},
                         {"bias", args.d.cols > 0 ? args.bias : nullptr},
                         {"addend", data(args.addend)},
                         {"aux_out", data(args.aux_out)},
                         {"grad_aux", data(args.grad_aux)},
                         {"a_sum", gemm_shape(args).m > 0 ? args.a_sum : nullptr},
                         {"a_mask", bits_of(args.a_mask)},
                         {"b_mask", bits_of(args.b_mask)},
                         {"out_mask", bits_of(args.d_mask)},
                         {"scale_device", args.scale_device},
                         {"out_scale_device", args.out_scale_device}},
                        device);
}

std::size_t workspace_of(const Device& device, const GemmArgs& args) {
  std::size_t bytes = 0;
  static_cast<void>(with_type(args.a.dtype, [&](auto element) -> Status {
    Arena arena(nullptr);
    Call<decltype(element)>(device, args, &arena);
    bytes = arena.bytes();
    return {};
  }));
  return bytes;
}

Status run(const Context& ctx, const GemmArgs& args) {
  const Device* device = nullptr;
  DROPGEMM_RETURN_IF_ERROR(device_of(args, &device));
  OnDevice on_device;
  DROPGEMM_RETURN_IF_ERROR(on_device.enter(*device));
  Workspace workspace;
  DROPGEMM_RETURN_IF_ERROR(workspace.take(ctx, workspace_of(*device, args)));
  return with_type(args.a.dtype, [&](auto element) -> Status {
    Arena arena(workspace.data());
    return Call<decltype(element)>(*device, args, &arena).run(ctx.stream);
  });
}

}  // namespace

std::int32_t gemm_plan(const Context* /*ctx*/, const GemmArgs* args, GemmPlan* plan) {
  *plan = admit(*args).plan;
  return 0;
}

std::int32_t gemm_workspace_bytes(const Context* /*ctx*/, const GemmArgs* args,
                                  std::size_t* bytes) {
  *bytes = 0;
  const Device* device = nullptr;
  for (std::int32_t index = 0; index < device_count(); ++index) {
    if (find_device(index, &device).ok()) *bytes = std::max(*bytes, workspace_of(*device, *args));
  }
  return static_cast<std::int32_t>(check_machine().code());
}

std::int32_t gemm(const Context* ctx, const GemmArgs* args, ErrorText error) {
  return report(run(*ctx, *args), error);
}

}  // namespace dropgemm::cuda
