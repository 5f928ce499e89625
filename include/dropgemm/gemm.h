// The one operator of this library:
//
//   Z = scale * (A . Ma)(B . Mb) + addend + bias
//   D = out_scale * act(Z) * act'(grad_aux) . Md
//
// with A [M,K], B [K,N], D [M,N] (after trans_a, trans_b) and tile masks Ma, Mb, Md. What a
// dropped tile of A or B holds never reaches the result, not even NaN; a dropped tile of D is
// written as exactly 0, after the activation. A kept element that is not finite and meets dropped
// ones adds nothing where they are skipped, as in the reference, and NaN where a backend multiplies
// zeros in their place (GemmPath::kSelect). All three products of a layer with input mask Mi
// [batch, in], output mask Mo [batch, out] and weight mask Mw [out, in] are this call:
//
//   forward          Y  = X W^T    a = x,  b = w, trans_b   a_mask Mi  b_mask Mw  d_mask Mo
//   input gradient   dX = dZ W     a = dz, b = w            a_mask Mo  b_mask Mw  d_mask Mi
//   weight gradient  dW = dZ^T X   a = dz, trans_a, b = x   a_mask Mo  b_mask Mi  d_mask Mw
//
// Pruned on both sides at keep rate q, each is q^2 of the dense work (Gyro Dropout prunes one
// side and leaves the weight gradient dense: Lee et al., 2022, sections 4.3 and 5.4).
// Defined by src/reference/gemm.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "dropgemm/context.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {

enum class Activation : std::int32_t { kNone = 0, kRelu = 1, kGeluErf = 2, kGeluTanh = 3 };

// What may become of float32 operands on their way in; other dtypes are multiplied as they are.
enum class Precision : std::int32_t {
  kHighest = 0,  // nothing
  kMedium =
      1,  // A and B may be rounded to bfloat16, as torch.set_float32_matmul_precision("medium")
          // allows: a relative error of 2^-8 of each, for products that run twice as fast
};

enum class OutFill : std::int32_t {
  kZero = 0,       // dropped tiles of D are written as 0
  kUndefined = 1,  // they may keep what they held: for a consumer that knows the mask
};

struct GemmArgs {
  ConstMatrixView a;  // as passed: [M,K], or [K,M] with trans_a
  ConstMatrixView b;  // as passed: [K,N], or [N,K] with trans_b
  MatrixView d;       // [M,N]
  bool trans_a = false;
  bool trans_b = false;
  // Each describes its array as passed; null keeps everything.
  const TileMaskView* a_mask = nullptr;
  const TileMaskView* b_mask = nullptr;
  const TileMaskView* d_mask = nullptr;

  // A factor is value * (*device): fixed for a run, or one float32 where the operands live.
  double scale = 1.0;
  double out_scale = 1.0;
  const float* scale_device = nullptr;
  const float* out_scale_device = nullptr;

  ConstMatrixView addend;      // [M,N], optional
  const void* bias = nullptr;  // [N], the operands' dtype, optional
  std::int64_t bias_stride = 1;
  Activation activation = Activation::kNone;
  MatrixView aux_out;        // [M,N], optional: receives Z (0 where D is dropped)
  ConstMatrixView grad_aux;  // [M,N], optional: D is multiplied by act'(grad_aux)
  Activation grad_activation = Activation::kNone;

  // What gemm_pack() made of b, optional: multiplied in its place. b then counts by its shape
  // alone, and nothing is masked. For a B that meets many A: a recurrent layer's weight, step by
  // step.
  const void* b_packed = nullptr;

  // [M], contiguous, optional: receives sum over k of (op(A) . Ma), unscaled, of A as it is passed.
  // In the weight gradient this is the bias gradient, exactly 0 for a dropped output.
  void* a_sum = nullptr;

  Precision precision = Precision::kHighest;

  // The caller vouches that dropped tiles of A and B hold zeros, so a path that does not skip
  // need not select either.
  bool dropped_are_zero = false;
  OutFill out_fill = OutFill::kZero;

  // The same bits at every call. The CUDA backend may otherwise add up the row groups of a weight
  // gradient in any order; the others' results never depend on one.
  bool deterministic = false;
};

struct GemmShape {
  std::int64_t m = 0, n = 0, k = 0;
};
[[nodiscard]] GemmShape gemm_shape(const GemmArgs& args);

// Any M, N, K >= 0; K == 0 gives act(addend + bias). Any strides, one dtype. Sums and the epilogue
// are of the operands' dtype, of float32 for bfloat16 and float16 (the reference's of float64), and
// every element written is rounded once. Products of bfloat16 may take numbers below 2^-126 for 0,
// as processors' instructions for them do. Bits do not depend on the number of threads. Errors:
// kInvalidArgument (operand, expected, got), kInvalidType (mixed or unknown dtypes), kUnsupported
// (dtype on this backend), kBackendError (out of memory).
[[nodiscard]] Status gemm(const Context& ctx, const GemmArgs& args);

// B as a backend multiplies it, so that products with it need not bring it into that form each
// time: writes gemm_packed_bytes() to `packed`, 64-byte aligned. Of args b, trans_b and precision
// count, which are to be those of the products, in this process. The cuda backend has it not.
// Errors: kInvalidArgument, kInvalidType, kUnsupported.
[[nodiscard]] Status gemm_packed_bytes(const Context& ctx, const GemmArgs& args,
                                       std::size_t* bytes);
[[nodiscard]] Status gemm_pack(const Context& ctx, const GemmArgs& args, void* packed);

// The bytes of workspace that gemm() takes for arguments of these shapes, tiles, keep_hints and
// dtypes with this context, on whichever of its devices; looks at no bits and no elements, nor at
// where they lie.
[[nodiscard]] Status gemm_workspace_bytes(const Context& ctx, const GemmArgs& args,
                                          std::size_t* bytes);

// How a backend goes about a product: decided by shapes, tiles and keep_hint alone. Masks that turn
// out to drop nothing may be left out.
enum class GemmPath : std::int32_t {
  kNone = 0,     // nothing to multiply: an empty D, or K == 0
  kDense = 1,    // no mask on the way in that has to be looked at
  kCompact = 2,  // kept rows, columns and depths are gathered, then dense
  kPruned = 3,   // every output tile walks its list of kept depth units
  kSelect = 4,   // masks are applied while packing or storing, nothing is skipped
};

struct GemmPlan {
  GemmPath path = GemmPath::kNone;
  // gcd of the tile sizes of the masks that touch a dimension; its extent where none does.
  std::int64_t unit_m = 0, unit_n = 0, unit_k = 0;
  double work = 1.0;  // expected share of the dense multiply-adds, from the keep_hints
  double time = 1.0;  // expected time over the dense product's without masks, the same way
};

[[nodiscard]] Status gemm_plan(const Context& ctx, const GemmArgs& args, GemmPlan* plan);
[[nodiscard]] std::string to_string(
    const GemmPlan& plan);  // "pruned units 128x32x32 work 0.250 time 0.270"

}  // namespace dropgemm
