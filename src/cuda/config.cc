// Which kernel, in which tiles, over which copies of the operands.
#include "cuda/config.h"

#include <algorithm>
#include <limits>

#include "cuda/dense.h"
#include "cuda/kernel_sm90.h"
#include "cuda/lists.h"
#include "cuda/plan.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int32_t kGranule = 32;
constexpr std::int64_t kVectorBytes = 16;  // what tensor-core kernels load at once

// An operand's strides, in elements, along its axis of D and along K.
struct Strides {
  std::int64_t line, depth;
};
Strides a_strides(const GemmArgs& args) {
  if (args.trans_a) return {args.a.col_stride, args.a.row_stride};
  return {args.a.row_stride, args.a.col_stride};
}
Strides b_strides(const GemmArgs& args) {
  if (args.trans_b) return {args.b.row_stride, args.b.col_stride};
  return {args.b.col_stride, args.b.row_stride};
}

Major major_of(const Strides& strides) {
  return strides.depth != 1 && strides.line == 1 ? Major::kLine : Major::kDepth;
}

// Whether 16 bytes at a time can be loaded.
bool is_aligned(const ConstMatrixView& view, const Strides& strides) {
  if (strides.depth != 1 && strides.line != 1) return false;
  const std::int64_t other = strides.depth == 1 ? strides.line : strides.depth;
  const auto size = static_cast<std::int64_t>(dtype_size(view.dtype));
  return reinterpret_cast<std::uintptr_t>(view.data) % kVectorBytes == 0 && other >= 0 &&
         other * size % kVectorBytes == 0;
}

// Whether a library can multiply an operand as it lies: dense lines, some way apart.
bool is_matrix(const Strides& strides, std::int64_t lines, std::int64_t depth) {
  const std::int64_t apart = strides.depth == 1 ? strides.line : strides.depth;
  if (strides.depth != 1 && strides.line != 1) return false;
  return apart >= (strides.depth == 1 ? depth : lines) &&
         apart <= std::numeric_limits<std::int32_t>::max();
}

// Whether a library can write D: one factor times the product, and where it takes them addend and
// bias, which it knows along contiguous rows alone. Activations stay here: its ReLU and GELU are
// not promised to be ours, of NaN and far from 0.
bool suits_library(const GemmArgs& args) {
  const GemmShape s = gemm_shape(args);
  const bool product = args.d_mask == nullptr && args.aux_out.data == nullptr &&
                       !args.grad_aux.present() && args.activation == Activation::kNone &&
                       args.scale_device == nullptr && args.out_scale_device == nullptr &&
                       args.out_scale == 1.0 &&
                       is_matrix({args.d.row_stride, args.d.col_stride}, s.m, s.n);
  if (!product || !has_dense_library()) return false;
  if (args.bias == nullptr && !args.addend.present()) return true;
  const auto by_rows = [&](std::int64_t row_stride, std::int64_t col_stride) {
    return col_stride == 1 && is_matrix({row_stride, col_stride}, s.m, s.n);
  };
  const bool bias =
      args.bias == nullptr ||
      (args.bias_stride == 1 && reinterpret_cast<std::uintptr_t>(args.bias) % kVectorBytes == 0);
  const bool addend =
      !args.addend.present() || by_rows(args.addend.row_stride, args.addend.col_stride);
  return has_dense_epilogues() && bias && addend && by_rows(args.d.row_stride, args.d.col_stride);
}

bool takes_tensor_cores(const GemmArgs& args) {
  switch (args.a.dtype) {
    case DType::kFloat32:
      return args.precision == Precision::kMedium;
    case DType::kFloat64:
      return false;
    case DType::kBFloat16:
    case DType::kFloat16:
      return true;
  }
  return false;
}

// The share of D that is expected to be computed, all items taken together: units of K that keep
// different things compute parts of it once each.
double computed_share(const GemmConfig& config, const GemmArgs& args, const GemmPlan& plan) {
  const auto hint = [](const TileMaskView* mask) {
    return mask != nullptr ? mask->keep_hint : 1.0;
  };
  switch (config.lists) {
    case Lists::kRows:
    case Lists::kCols:
    case Lists::kPairs:
      return hint(args.d_mask);
    case Lists::kDepth:
      return hint(args.a_mask) * hint(args.b_mask) *
             static_cast<double>(ceil_div(gemm_shape(args).k, plan.unit_k));
    case Lists::kWhole:
      break;
  }
  if (config.path != GemmPath::kCompact) return 1.0;
  // Along M and N; what a mask of K keeps has no part in this.
  double share = hint(args.d_mask);
  const GemmShape s = gemm_shape(args);
  if (a_axis_mask(args).present() && a_axis_mask(args).second_tile() >= s.k) {
    share = std::min(share, hint(args.a_mask));
  }
  if (b_axis_mask(args).present() && b_axis_mask(args).second_tile() >= s.k) {
    share *= args.d_mask != nullptr ? 1.0 : hint(args.b_mask);
  }
  return share;
}

// Why a product that Hopper's kernel was offered is not that kernel's.
const char* obstacle_to_sm90(const GemmConfig& c) {
  return has_sm90_kernel(c.dtype, c.a_major, c.b_major, Sm90Shape::kSquare) ? "units or strides"
                                                                            : "majors";
}

void set_tiles(std::int32_t side, std::int32_t stages, GemmConfig* c) {
  c->tile_m = c->tile_n = side;
  c->tile_k = c->granule_m = c->granule_n = c->granule_k = kGranule;
  c->stages = stages;
}

}  // namespace

GemmConfig make_config(const Device& device, const GemmArgs& args) {
  GemmConfig c;
  const Admission admission = admit(args);
  c.dtype = args.a.dtype;
  c.path = admission.plan.path;
  c.lists = admission.lists;
  const bool wide = dtype_size(c.dtype) > 2;
  if (takes_tensor_cores(args)) {
    c.family = Family::kSm80;
    set_tiles(128, wide ? 3 : 4, &c);
  } else {
    set_tiles(c.dtype == DType::kFloat64 ? 64 : 128, 1, &c);
  }
  if (c.lists == Lists::kDepth && args.deterministic) {
    c.turns = static_cast<std::int32_t>(ceil_div(gemm_shape(args).k, admission.plan.unit_k));
  }
  if (c.path == GemmPath::kPruned && !lists_fit(c, args)) {
    c.path = GemmPath::kSelect;
    c.lists = Lists::kWhole;
    c.turns = 1;
  }
  const bool selects = c.path == GemmPath::kSelect && !args.dropped_are_zero;
  const bool gathers = c.path == GemmPath::kCompact;
  const Strides a = a_strides(args), b = b_strides(args);
  const bool pads = c.family != Family::kSimt;
  c.a_major = major_of(a);
  c.b_major = major_of(b);
  const GemmShape s = gemm_shape(args);
  const bool dense = c.path == GemmPath::kDense || c.path == GemmPath::kSelect;
  if (dense && suits_library(args)) {
    c.family = Family::kLibrary;
    c.copies_a = (selects && args.a_mask != nullptr) || !is_matrix(a, s.m, s.k);
    c.copies_b = (selects && args.b_mask != nullptr) || !is_matrix(b, s.n, s.k);
    return c;
  }
  c.copies_a = gathers || (selects && args.a_mask != nullptr) || (pads && !is_aligned(args.a, a));
  c.copies_b = gathers || (selects && args.b_mask != nullptr) || (pads && !is_aligned(args.b, b));
  if (c.family == Family::kSm80 && c.path != GemmPath::kNone) {
    choose_sm90(device, args, admission.plan, computed_share(c, args, admission.plan), &c);
    if (device.arch == 90 && c.family != Family::kSm90) c.not_sm90 = obstacle_to_sm90(c);
  }
  return c;
}

std::string to_string(const GemmConfig& c) {
  static constexpr const char* kFamilies[] = {"simt", "sm80", "sm90", "library"};
  static constexpr const char* kPaths[] = {"none", "dense", "compact", "pruned", "select"};
  static constexpr const char* kLists[] = {"whole", "rows", "cols", "depth", "pairs"};
  static constexpr const char* kMajors[] = {"k", "l"};
  const auto sizes = [](std::int32_t m, std::int32_t n, std::int32_t k) {
    return std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k);
  };
  std::string text = std::string(kFamilies[static_cast<int>(c.family)]) + " " +
                     dtype_name(c.dtype) + " " + kPaths[static_cast<int>(c.path)] + " " +
                     kLists[static_cast<int>(c.lists)] + " " + sizes(c.tile_m, c.tile_n, c.tile_k) +
                     " granules " + sizes(c.granule_m, c.granule_n, c.granule_k) + " stages " +
                     std::to_string(c.stages) + " cluster " + std::to_string(c.cluster_m) + "x" +
                     std::to_string(c.cluster_n) + " majors " +
                     kMajors[static_cast<int>(c.a_major)] + kMajors[static_cast<int>(c.b_major)];
  if (c.turns > 1) text += " turns " + std::to_string(c.turns);
  if (c.copies_a || c.copies_b) text += " copies";
  if (c.copies_a) text += " a";
  if (c.copies_b) text += " b";
  if (c.not_sm90 != nullptr) text += " not sm90: " + std::string(c.not_sm90);
  return text;
}

}  // namespace dropgemm::cuda
