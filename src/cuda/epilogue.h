// What happens to a sum on its way to D, shared by all families of kernels:
//
//   z = scale * sum + addend + bias,   d = out_scale * act(z) * act'(grad_aux),   0 where dropped
//
// Which parts there are is the same for a whole launch, so branches on them are uniform.
#pragma once

#include <cstdint>

#include "cuda/activation.h"
#include "cuda/axis_mask.h"
#include "cuda/device.h"
#include "cuda/number.h"
#include "dropgemm/gemm.h"

namespace dropgemm::cuda {

template <class T>
struct Plane {
  T* data = nullptr;  // null: there is none
  std::int64_t row_stride = 0, col_stride = 1;

  [[nodiscard]] DROPGEMM_DEVICE T* at(std::int32_t row, std::int32_t col) const {
    return data + row * row_stride + col * col_stride;
  }
};

template <class E>
struct Epilogue {
  using Sum = typename Number<E>::Sum;

  Plane<E> d, aux_out;
  Plane<const E> addend, grad_aux;
  const E* bias = nullptr;
  std::int64_t bias_stride = 1;
  Sum scale = 1, out_scale = 1;
  const float* scale_device = nullptr;  // null: 1
  const float* out_scale_device = nullptr;
  Activation activation = Activation::kNone, grad_activation = Activation::kNone;
  DeviceMask mask;    // of D, where no list has dropped its tiles already
  bool fills = true;  // what is dropped becomes 0; otherwise it stays as it is

  // Read once by each thread, before its first item.
  struct Factors {
    Sum scale, out_scale;
  };
  [[nodiscard]] DROPGEMM_DEVICE Factors factors() const {
    return {
        scale_device != nullptr ? scale * static_cast<Sum>(*scale_device) : scale,
        out_scale_device != nullptr ? out_scale * static_cast<Sum>(*out_scale_device) : out_scale};
  }

  // The pre-activation of (row, col), and what becomes of it.
  [[nodiscard]] DROPGEMM_DEVICE Sum preactivation(const Factors& f, Sum sum, std::int32_t row,
                                                  std::int32_t col) const {
    Sum z = f.scale * sum;
    if (addend.data != nullptr) z += Number<E>::load(*addend.at(row, col));
    if (bias != nullptr) z += Number<E>::load(bias[col * bias_stride]);
    return z;
  }
  [[nodiscard]] DROPGEMM_DEVICE Sum value(const Factors& f, Sum z, std::int32_t row,
                                          std::int32_t col) const {
    const Sum y = f.out_scale * activate(activation, z);
    if (grad_aux.data == nullptr) return y;
    return multiply_by_gradient(grad_activation, Number<E>::load(*grad_aux.at(row, col)), y);
  }
  // Both in one, for kernels that write D by other means than store(), where there is no aux_out.
  [[nodiscard]] DROPGEMM_DEVICE Sum apply(const Factors& f, Sum sum, std::int32_t row,
                                          std::int32_t col) const {
    if (!mask.kept(row, col)) return Sum(0);
    return value(f, preactivation(f, sum, row, col), row, col);
  }

  // Writes one element, of aux_out too.
  DROPGEMM_DEVICE void store(const Factors& f, Sum sum, std::int32_t row, std::int32_t col) const {
    if (!mask.kept(row, col)) return store_zero(row, col);
    const Sum z = preactivation(f, sum, row, col);
    if (aux_out.data != nullptr) *aux_out.at(row, col) = Number<E>::store(z);
    *d.at(row, col) = Number<E>::store(value(f, z, row, col));
  }
  DROPGEMM_DEVICE void store_zero(std::int32_t row, std::int32_t col) const {
    if (!fills) return;
    if (aux_out.data != nullptr) *aux_out.at(row, col) = Number<E>::store(Sum(0));
    *d.at(row, col) = Number<E>::store(Sum(0));
  }
};

}  // namespace dropgemm::cuda
