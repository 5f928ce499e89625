// The front end of gemm(): checks every operand by name, then hands over to a backend.
// Nothing here knows what a mask is for, and no backend sees an unchecked argument.
#include "dropgemm/gemm.h"

#include <cmath>
#include <limits>
#include <string>

#include "dropgemm/backend.h"
#include "operands.h"
#include "registry.h"

namespace dropgemm {
namespace {

std::string shape_text(const GemmShape& s) {
  return "M=" + std::to_string(s.m) + ", N=" + std::to_string(s.n) + ", K=" + std::to_string(s.k);
}

Status check_size(const char* name, const ConstMatrixView& view, std::int64_t rows,
                  std::int64_t cols) {
  if (view.rows == rows && view.cols == cols) return {};
  return Status::invalid(name, "shape " + size_text(rows, cols), size_text(view.rows, view.cols));
}

Status check_activation(const char* name, Activation activation) {
  const auto code = static_cast<std::int32_t>(activation);
  if (code >= 0 && code <= static_cast<std::int32_t>(Activation::kGeluTanh)) return {};
  return Status::invalid(name, "none, relu, gelu (erf) or gelu (tanh)", std::to_string(code));
}

Status check_precision(Precision precision) {
  if (precision == Precision::kHighest || precision == Precision::kMedium) return {};
  return Status::invalid("precision", "highest or medium",
                         std::to_string(static_cast<std::int32_t>(precision)));
}

Status check_shapes(const GemmArgs& args) {
  const GemmShape s = gemm_shape(args);
  const std::int64_t b_rows = args.trans_b ? s.n : s.k;
  const std::int64_t b_cols = args.trans_b ? s.k : s.n;
  DROPGEMM_RETURN_IF_ERROR(check_size("b", args.b, b_rows, b_cols));
  DROPGEMM_RETURN_IF_ERROR(check_size("out", args.d, s.m, s.n));
  if (args.addend.present()) DROPGEMM_RETURN_IF_ERROR(check_size("addend", args.addend, s.m, s.n));
  if (args.aux_out.data != nullptr) {
    DROPGEMM_RETURN_IF_ERROR(check_size("aux_out", args.aux_out, s.m, s.n));
  }
  if (args.grad_aux.present()) {
    DROPGEMM_RETURN_IF_ERROR(check_size("grad_aux", args.grad_aux, s.m, s.n));
  }
  // Kernels index padded panels with 32-bit offsets.
  constexpr std::int64_t kMaxExtent = std::numeric_limits<std::int32_t>::max() - 4096;
  if (s.m > kMaxExtent || s.n > kMaxExtent || s.k > kMaxExtent) {
    return Status::invalid("gemm", "M, N and K below 2^31 - 4096", shape_text(s));
  }
  return {};
}

ConstMatrixView bias_view(const GemmArgs& args) {
  return {args.bias, 1, args.d.cols, 0, args.bias_stride, args.d.dtype};
}
MatrixView a_sum_view(const GemmArgs& args) {
  const std::int64_t m = gemm_shape(args).m;
  return {args.a_sum, 1, m, m, 1, args.d.dtype};
}

ConstMatrixView factor_view(const float* factor) { return {factor, 1, 1, 0, 1, DType::kFloat32}; }

Status check_operands(const GemmArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_matrix("a", args.a));
  DROPGEMM_RETURN_IF_ERROR(check_matrix("b", args.b));
  DROPGEMM_RETURN_IF_ERROR(check_dtype("b", args.b.dtype, "a", args.a.dtype));
  DROPGEMM_RETURN_IF_ERROR(check_output("out", args.d));
  DROPGEMM_RETURN_IF_ERROR(check_dtype("out", args.d.dtype, "a", args.a.dtype));
  if (args.addend.present()) {
    DROPGEMM_RETURN_IF_ERROR(check_matrix("addend", args.addend));
    DROPGEMM_RETURN_IF_ERROR(check_dtype("addend", args.addend.dtype, "a", args.a.dtype));
  }
  if (args.bias != nullptr) DROPGEMM_RETURN_IF_ERROR(check_matrix("bias", bias_view(args)));
  if (args.aux_out.data != nullptr) {
    DROPGEMM_RETURN_IF_ERROR(check_output("aux_out", args.aux_out));
    DROPGEMM_RETURN_IF_ERROR(check_dtype("aux_out", args.aux_out.dtype, "a", args.a.dtype));
  }
  if (args.grad_aux.present()) {
    DROPGEMM_RETURN_IF_ERROR(check_matrix("grad_aux", args.grad_aux));
    DROPGEMM_RETURN_IF_ERROR(check_dtype("grad_aux", args.grad_aux.dtype, "a", args.a.dtype));
  }
  if (args.a_sum != nullptr) DROPGEMM_RETURN_IF_ERROR(check_output("a_sum", a_sum_view(args)));
  if (args.scale_device != nullptr) {
    DROPGEMM_RETURN_IF_ERROR(check_matrix("scale_device", factor_view(args.scale_device)));
  }
  if (args.out_scale_device != nullptr) {
    DROPGEMM_RETURN_IF_ERROR(check_matrix("out_scale_device", factor_view(args.out_scale_device)));
  }
  return {};
}

Status check_overlaps(const GemmArgs& args) {
  struct Output {
    const char* name;
    MatrixView view;
  };
  const Output outputs[] = {
      {"out", args.d}, {"aux_out", args.aux_out}, {"a_sum", a_sum_view(args)}};
  struct Input {
    const char* name;
    ConstMatrixView view;
  };
  const Input inputs[] = {{"a", args.a},
                          {"b", args.b},
                          {"bias", bias_view(args)},
                          {"addend", args.addend},
                          {"grad_aux", args.grad_aux},
                          {"a_mask", bits_view(args.a_mask)},
                          {"b_mask", bits_view(args.b_mask)},
                          {"out_mask", bits_view(args.d_mask)},
                          {"scale_device", factor_view(args.scale_device)},
                          {"out_scale_device", factor_view(args.out_scale_device)}};
  for (const Output& out : outputs) {
    if (out.view.data == nullptr) continue;
    for (const Input& in : inputs) {
      DROPGEMM_RETURN_IF_ERROR(check_disjoint(out.name, out.view, in.name, in.view));
    }
    for (const Output& other : outputs) {
      if (&other == &out) break;
      DROPGEMM_RETURN_IF_ERROR(check_disjoint(out.name, out.view, other.name, other.view));
    }
  }
  return {};
}

Status check_packed(const char* name, const void* packed) {
  constexpr std::uintptr_t kAlign = 64;
  if (packed != nullptr && reinterpret_cast<std::uintptr_t>(packed) % kAlign == 0) return {};
  return Status::invalid(name, "a 64-byte aligned pointer",
                         packed != nullptr ? "one that is not" : "null");
}

// A B that is packed: nothing of it, nor of what it meets, is skipped.
Status check_b_packed(const GemmArgs& args) {
  if (args.b_packed == nullptr) return {};
  if (args.a_mask != nullptr || args.b_mask != nullptr || args.d_mask != nullptr) {
    return Status::invalid("b_packed", "a product without masks", "one with a mask");
  }
  return check_packed("b_packed", args.b_packed);
}

Status check_args(const GemmArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_operands(args));
  DROPGEMM_RETURN_IF_ERROR(check_shapes(args));
  DROPGEMM_RETURN_IF_ERROR(check_mask_of("a_mask", args.a_mask, "a", args.a));
  DROPGEMM_RETURN_IF_ERROR(check_mask_of("b_mask", args.b_mask, "b", args.b));
  DROPGEMM_RETURN_IF_ERROR(check_mask_of("out_mask", args.d_mask, "out", args.d));
  DROPGEMM_RETURN_IF_ERROR(check_activation("activation", args.activation));
  DROPGEMM_RETURN_IF_ERROR(check_activation("grad_activation", args.grad_activation));
  DROPGEMM_RETURN_IF_ERROR(check_precision(args.precision));
  DROPGEMM_RETURN_IF_ERROR(check_b_packed(args));
  return check_overlaps(args);
}

Status check_packs(const Backend& backend) {
  if (backend.gemm_pack != nullptr) return {};
  return {StatusCode::kUnsupported,
          std::string("b_packed: expected the cpu backend, got ") + backend.name};
}

// The backend that packs what counts of these arguments.
Status find_packer(const Context& ctx, const GemmArgs& args, const Backend** backend) {
  DROPGEMM_RETURN_IF_ERROR(check_matrix("b", args.b));
  DROPGEMM_RETURN_IF_ERROR(check_precision(args.precision));
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, backend));
  return check_packs(**backend);
}

}  // namespace

GemmShape gemm_shape(const GemmArgs& args) {
  GemmShape shape;
  shape.m = args.trans_a ? args.a.cols : args.a.rows;
  shape.k = args.trans_a ? args.a.rows : args.a.cols;
  shape.n = args.trans_b ? args.b.rows : args.b.cols;
  return shape;
}

Status gemm(const Context& ctx, const GemmArgs& args) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  if (args.b_packed != nullptr) DROPGEMM_RETURN_IF_ERROR(check_packs(*backend));
  return call_backend([&](ErrorText error) { return backend->gemm(&ctx, &args, error); });
}

Status gemm_packed_bytes(const Context& ctx, const GemmArgs& args, std::size_t* bytes) {
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_packer(ctx, args, &backend));
  return call_backend(
      [&](ErrorText error) { return backend->gemm_packed_bytes(&ctx, &args, bytes, error); });
}

Status gemm_pack(const Context& ctx, const GemmArgs& args, void* packed) {
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(find_packer(ctx, args, &backend));
  DROPGEMM_RETURN_IF_ERROR(check_packed("packed", packed));
  return call_backend(
      [&](ErrorText error) { return backend->gemm_pack(&ctx, &args, packed, error); });
}

Status gemm_workspace_bytes(const Context& ctx, const GemmArgs& args, std::size_t* bytes) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText) { return backend->gemm_workspace_bytes(&ctx, &args, bytes); });
}

Status gemm_plan(const Context& ctx, const GemmArgs& args, GemmPlan* plan) {
  DROPGEMM_RETURN_IF_ERROR(check_args(args));
  const Backend* backend = nullptr;
  DROPGEMM_RETURN_IF_ERROR(resolve_backend(ctx, &backend));
  return call_backend([&](ErrorText) { return backend->gemm_plan(&ctx, &args, plan); });
}

std::string to_string(const GemmPlan& plan) {
  static constexpr const char* kNames[] = {"none", "dense", "compact", "pruned", "select"};
  const auto digits = [](double x) {
    std::string text = std::to_string(std::round(x * 1000) / 1000);
    return text.substr(0, text.find('.') + 4);
  };
  return std::string(kNames[static_cast<int>(plan.path)]) + " units " +
         std::to_string(plan.unit_m) + "x" + std::to_string(plan.unit_n) + "x" +
         std::to_string(plan.unit_k) + " work " + digits(plan.work) + " time " + digits(plan.time);
}

}  // namespace dropgemm
