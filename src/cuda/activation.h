// The activations of the epilogue and their derivatives. GELU is z times a share of z in [0, 1]
// that is made of an exponential of something negative, so that nothing overflows and small shares
// keep their digits.
#pragma once

#include <cmath>

#include "cuda/device.h"
#include "dropgemm/gemm.h"

namespace dropgemm::cuda {

template <class T>
struct Gelu {
  static constexpr T kSqrtHalf = T(0.70710678118654752440);
  static constexpr T kSqrtTwoOverPi = T(0.79788456080286535588);
  static constexpr T kInvSqrtTwoPi = T(0.39894228040143267794);
  static constexpr T kCubic = T(0.044715);

  // P(X < z) for a standard normal X.
  static DROPGEMM_DEVICE T normal(T z) {
    using std::erfc;
    return T(0.5) * erfc(-z * kSqrtHalf);
  }
  static DROPGEMM_DEVICE T erf_slope(T z) {
    using std::exp;
    const T at = near(z);
    return normal(z) + at * kInvSqrtTwoPi * exp(T(-0.5) * at * at);
  }

  // (1 + tanh u) / 2, u = sqrt(2 / pi) (z + kCubic z^3), and that times (1 - tanh u) / 2.
  struct Logistic {
    T share, product;
  };
  static DROPGEMM_DEVICE Logistic logistic(T z) {
    using std::exp;
    const T u = kSqrtTwoOverPi * (z + kCubic * z * z * z);
    const T power = exp(T(-2) * (u < T(0) ? -u : u));
    const T larger = T(1) / (T(1) + power);
    return {z < T(0) ? power * larger : larger, power * larger * larger};
  }
  static DROPGEMM_DEVICE T tanh_slope(T z) {
    const Logistic l = logistic(z);
    const T at = near(z);
    return l.share + T(2) * at * l.product * (kSqrtTwoOverPi * (T(1) + T(3) * kCubic * at * at));
  }

 private:
  // Past kFlat what a slope adds to the share is 0, and nothing need overflow into 0 * infinity.
  static DROPGEMM_DEVICE T near(T z) {
    constexpr T kFlat = 64;
    return z > kFlat ? kFlat : z < -kFlat ? -kFlat : z;
  }
};

template <class T>
DROPGEMM_DEVICE T activate(Activation activation, T z) {
  switch (activation) {
    case Activation::kNone:
      return z;
    case Activation::kRelu:
      return z < T(0) ? T(0) : z;  // NaN stays NaN, as torch has it
    case Activation::kGeluErf:
      return z * Gelu<T>::normal(z);
    case Activation::kGeluTanh:
      return z * Gelu<T>::logistic(z).share;
  }
  return z;
}

// act'(z) * g. ReLU's derivative selects: a NaN in g does not pass where z <= 0.
template <class T>
DROPGEMM_DEVICE T multiply_by_gradient(Activation activation, T z, T g) {
  switch (activation) {
    case Activation::kNone:
      return g;
    case Activation::kRelu:
      return z <= T(0) ? T(0) : g;
    case Activation::kGeluErf:
      return g * Gelu<T>::erf_slope(z);
    case Activation::kGeluTanh:
      return g * Gelu<T>::tanh_slope(z);
  }
  return g;
}

// The same of several numbers, for which the activation is looked at once.
template <Activation kActivation, class T, std::int32_t kCount>
DROPGEMM_DEVICE void activate_each(T (&z)[kCount]) {
  DROPGEMM_UNROLL
  for (T& each : z) each = activate(kActivation, each);
}
template <class T, std::int32_t kCount>
DROPGEMM_DEVICE void activate_all(Activation activation, T (&z)[kCount]) {
  if (activation == Activation::kRelu) activate_each<Activation::kRelu>(z);
  if (activation == Activation::kGeluErf) activate_each<Activation::kGeluErf>(z);
  if (activation == Activation::kGeluTanh) activate_each<Activation::kGeluTanh>(z);
}

template <Activation kActivation, class T, std::int32_t kCount>
DROPGEMM_DEVICE void multiply_each_by_gradient(const T (&z)[kCount], T (&g)[kCount]) {
  DROPGEMM_UNROLL
  for (std::int32_t i = 0; i < kCount; ++i) g[i] = multiply_by_gradient(kActivation, z[i], g[i]);
}
template <class T, std::int32_t kCount>
DROPGEMM_DEVICE void multiply_all_by_gradient(Activation activation, const T (&z)[kCount],
                                              T (&g)[kCount]) {
  if (activation == Activation::kRelu) multiply_each_by_gradient<Activation::kRelu>(z, g);
  if (activation == Activation::kGeluErf) multiply_each_by_gradient<Activation::kGeluErf>(z, g);
  if (activation == Activation::kGeluTanh) multiply_each_by_gradient<Activation::kGeluTanh>(z, g);
}

}  // namespace dropgemm::cuda
