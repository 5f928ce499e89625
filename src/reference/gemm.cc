// The definition of gemm(): naive loops, sums in float64, every mask looked up per element. What
// is stored as bfloat16 is rounded from float32, as every other backend's sums are.
// Slow on purpose; every other backend is tested against it.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "reference/reference.h"

namespace dropgemm::reference {
namespace {

constexpr double kSqrtHalf = 0.70710678118654752440;
constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
constexpr double kInvSqrtTwoPi = 0.39894228040143267794;
constexpr double kGeluCubic = 0.044715;
constexpr double kGeluFlat = 40;  // beyond, either way, GELU's derivative is 0 or 1 to the bit

double activate(Activation activation, double z) {
  switch (activation) {
    case Activation::kNone:
      return z;
    case Activation::kRelu:
      return z < 0 ? 0.0 : z;  // NaN stays NaN, as torch has it
    case Activation::kGeluErf:
      return 0.5 * z * (1 + std::erf(z * kSqrtHalf));
    case Activation::kGeluTanh:
      return 0.5 * z * (1 + std::tanh(kSqrtTwoOverPi * (z + kGeluCubic * z * z * z)));
  }
  return z;
}

// act'(z) * g. ReLU's derivative selects: a NaN in g does not pass where z <= 0.
double multiply_by_gradient(Activation activation, double z, double g) {
  switch (activation) {
    case Activation::kNone:
      return g;
    case Activation::kRelu:
      return z <= 0 ? 0.0 : g;
    case Activation::kGeluErf: {
      const double x = std::clamp(z, -kGeluFlat, kGeluFlat);  // no infinity times 0; NaN stays NaN
      return g * (0.5 * (1 + std::erf(x * kSqrtHalf)) + x * kInvSqrtTwoPi * std::exp(-0.5 * x * x));
    }
    case Activation::kGeluTanh: {
      const double x = std::clamp(z, -kGeluFlat, kGeluFlat);
      const double t = std::tanh(kSqrtTwoOverPi * (x + kGeluCubic * x * x * x));
      const double slope = kSqrtTwoOverPi * (1 + 3 * kGeluCubic * x * x);
      return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope);
    }
  }
  return g;
}

template <class T>
double load(const ConstMatrixView& m, std::int64_t i, std::int64_t j) {
  return static_cast<double>(static_cast<const T*>(m.data)[i * m.row_stride + j * m.col_stride]);
}
template <class T>
void store(const MatrixView& m, std::int64_t i, std::int64_t j, double value) {
  static_cast<T*>(m.data)[i * m.row_stride + j * m.col_stride] = T(value);
}

// An operand after transposition: element (i, j) and whether its tile is kept.
template <class T>
class Operand {
 public:
  Operand(const ConstMatrixView& view, bool trans, const TileMaskView* mask, Precision precision)
      : view_(view), trans_(trans), mask_(mask), rounds_(precision == Precision::kMedium) {}
  // As it is multiplied.
  [[nodiscard]] double factor(std::int64_t i, std::int64_t j) const {
    const double x = value(i, j);
    if (!rounds_ || view_.dtype != DType::kFloat32) return x;
    return static_cast<double>(BFloat16(static_cast<float>(x)));
  }
  [[nodiscard]] double value(std::int64_t i, std::int64_t j) const {
    return trans_ ? load<T>(view_, j, i) : load<T>(view_, i, j);
  }
  [[nodiscard]] bool kept(std::int64_t i, std::int64_t j) const {
    if (mask_ == nullptr) return true;
    return trans_ ? element_kept(*mask_, j, i) : element_kept(*mask_, i, j);
  }

 private:
  ConstMatrixView view_;
  bool trans_;
  const TileMaskView* mask_;
  bool rounds_;
};

// What packing makes of B: the same matrix without gaps.
ConstMatrixView packed_view(const ConstMatrixView& b, const void* packed) {
  return {packed, b.rows, b.cols, b.cols, 1, b.dtype};
}
ConstMatrixView b_view(const GemmArgs& args) {
  return args.b_packed != nullptr ? packed_view(args.b, args.b_packed) : args.b;
}

template <class T>
void run(const GemmArgs& args) {
  const auto [m_size, n_size, k_size] = gemm_shape(args);
  const Operand<T> a(args.a, args.trans_a, args.a_mask, args.precision);
  const Operand<T> b(b_view(args), args.trans_b, args.b_mask, args.precision);
  const double scale = args.scale * (args.scale_device != nullptr ? *args.scale_device : 1.0);
  const double out_scale =
      args.out_scale * (args.out_scale_device != nullptr ? *args.out_scale_device : 1.0);

  for (std::int64_t i = 0; i < m_size; ++i) {
    for (std::int64_t j = 0; j < n_size; ++j) {
      if (args.d_mask != nullptr && !element_kept(*args.d_mask, i, j)) {
        if (args.out_fill == OutFill::kZero) {
          store<T>(args.d, i, j, 0.0);
          if (args.aux_out.data != nullptr) store<T>(args.aux_out, i, j, 0.0);
        }
        continue;
      }
      double sum = 0.0;
      for (std::int64_t k = 0; k < k_size; ++k) {
        if (a.kept(i, k) && b.kept(k, j)) sum += a.factor(i, k) * b.factor(k, j);
      }
      double z = scale * sum;
      if (args.addend.present()) z += load<T>(args.addend, i, j);
      if (args.bias != nullptr) {
        z += static_cast<double>(static_cast<const T*>(args.bias)[j * args.bias_stride]);
      }
      if (args.aux_out.data != nullptr) store<T>(args.aux_out, i, j, z);
      double value = out_scale * activate(args.activation, z);
      if (args.grad_aux.present()) {
        value = multiply_by_gradient(args.grad_activation, load<T>(args.grad_aux, i, j), value);
      }
      store<T>(args.d, i, j, value);
    }
  }
  if (args.a_sum != nullptr) {
    for (std::int64_t i = 0; i < m_size; ++i) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < k_size; ++k) {
        if (a.kept(i, k)) sum += a.value(i, k);
      }
      static_cast<T*>(args.a_sum)[i] = T(sum);
    }
  }
}

}  // namespace

std::int32_t gemm_plan(const Context* /*ctx*/, const GemmArgs* args, GemmPlan* plan) {
  const GemmShape shape = gemm_shape(*args);
  const bool empty = shape.m == 0 || shape.n == 0 || shape.k == 0;
  const bool masked = args->a_mask != nullptr || args->b_mask != nullptr || args->d_mask != nullptr;
  *plan = GemmPlan{};
  plan->path = empty ? GemmPath::kNone : masked ? GemmPath::kSelect : GemmPath::kDense;
  plan->unit_m = shape.m;
  plan->unit_n = shape.n;
  plan->unit_k = shape.k;
  return 0;
}

std::int32_t gemm_workspace_bytes(const Context* /*ctx*/, const GemmArgs* /*args*/,
                                  std::size_t* bytes) {
  *bytes = 0;
  return 0;
}

std::int32_t gemm_packed_bytes(const Context* /*ctx*/, const GemmArgs* args, std::size_t* bytes,
                               ErrorText /*error*/) {
  *bytes = static_cast<std::size_t>(args->b.rows * args->b.cols) * dtype_size(args->b.dtype);
  return 0;
}

std::int32_t gemm_pack(const Context* /*ctx*/, const GemmArgs* args, void* packed,
                       ErrorText /*error*/) {
  const std::size_t size = dtype_size(args->b.dtype);
  const auto at = [size](const ConstMatrixView& m, std::int64_t i, std::int64_t j) {
    return static_cast<const char*>(m.data) +
           (i * m.row_stride + j * m.col_stride) * static_cast<std::int64_t>(size);
  };
  const ConstMatrixView out = packed_view(args->b, packed);
  for (std::int64_t i = 0; i < out.rows; ++i) {
    for (std::int64_t j = 0; j < out.cols; ++j) {
      std::memcpy(const_cast<char*>(at(out, i, j)), at(args->b, i, j), size);
    }
  }
  return 0;
}

std::int32_t gemm(const Context* /*ctx*/, const GemmArgs* args, ErrorText /*error*/) {
  switch (args->a.dtype) {
    case DType::kFloat32:
      run<float>(*args);
      break;
    case DType::kFloat64:
      run<double>(*args);
      break;
    case DType::kBFloat16:
      run<BFloat16>(*args);
      break;
    case DType::kFloat16:
      run<Float16>(*args);
      break;
  }
  return 0;
}

}  // namespace dropgemm::reference
