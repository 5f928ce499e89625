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
  // Whether neighbouring columns can be taken 16 bytes at a time.
  [[nodiscard]] bool has_vectors() const {
    constexpr std::uintptr_t kBytes = 16;
    return data == nullptr ||
           (col_stride == 1 && reinterpret_cast<std::uintptr_t>(data) % kBytes == 0 &&
            static_cast<std::uintptr_t>(row_stride) * sizeof(T) % kBytes == 0);
  }
};

template <class E>
struct Epilogue {
  using Sum = typename Number<E>::Sum;
  static constexpr std::int32_t kVector = Vector<E>::kCount;

  Plane<E> d, aux_out;
  Plane<const E> addend, grad_aux;
  const E* bias = nullptr;
  std::int64_t bias_stride = 1;
  Sum scale = 1, out_scale = 1;
  const float* scale_device = nullptr;  // null: 1
  const float* out_scale_device = nullptr;
  Activation activation = Activation::kNone, grad_activation = Activation::kNone;
  DeviceMask mask;       // of D, where no list has dropped its tiles already
  bool fills = true;     // what is dropped becomes 0; otherwise it stays as it is, or does not
  bool vectors = false;  // all of these can be taken kVector columns at a time: has_vectors()

  [[nodiscard]] bool has_vectors() const {
    return d.has_vectors() && aux_out.has_vectors() && addend.has_vectors() &&
           grad_aux.has_vectors() && Plane<const E>{bias, 0, bias_stride}.has_vectors();
  }

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

  // The same of kVector neighbours, where `vectors`; col is a multiple of their number. Bit i of
  // `kept` is 0 where the i-th becomes 0.
  DROPGEMM_DEVICE void store(const Factors& f, const Sum (&sums)[kVector], std::uint32_t kept,
                             std::int32_t row, std::int32_t col) const {
    kept &= kept_by_mask(row, col);
    if (kept == 0 && !fills) return;
    Sum z[kVector];
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kVector; ++i) z[i] = f.scale * sums[i];
    if (addend.data != nullptr) add(load(addend.at(row, col)), z);
    if (bias != nullptr) add(load(bias + col), z);
    if (aux_out.data != nullptr) put(z, kept, aux_out.at(row, col));
    activate_all(activation, z);
    DROPGEMM_UNROLL
    for (Sum& y : z) y *= f.out_scale;
    if (grad_aux.data != nullptr) {
      Sum slopes_at[kVector] = {};
      add(load(grad_aux.at(row, col)), slopes_at);
      multiply_all_by_gradient(grad_activation, slopes_at, z);
    }
    put(z, kept, d.at(row, col));
  }

  static constexpr std::uint32_t kKeepsAll = (std::uint32_t{1} << kVector) - 1;

 private:
  [[nodiscard]] DROPGEMM_DEVICE std::uint32_t kept_by_mask(std::int32_t row,
                                                           std::int32_t col) const {
    if (mask.bits == nullptr) return kKeepsAll;
    std::uint32_t kept = 0;
    for (std::int32_t i = 0; i < kVector; ++i) {
      kept |= std::uint32_t{mask.kept(row, col + i)} << i;
    }
    return kept;
  }
  static DROPGEMM_DEVICE Vector<E> load(const E* from) {
    return *reinterpret_cast<const Vector<E>*>(from);
  }
  static DROPGEMM_DEVICE void add(const Vector<E>& from, Sum (&to)[kVector]) {
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kVector; ++i) to[i] += Number<E>::load(from.elements[i]);
  }
  static DROPGEMM_DEVICE void put(const Sum (&from)[kVector], std::uint32_t kept, E* to) {
    Vector<E> rounded;
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kVector; ++i) {
      rounded.elements[i] = Number<E>::store((kept >> i & 1U) != 0 ? from[i] : Sum(0));
    }
    *reinterpret_cast<Vector<E>*>(to) = rounded;
  }
};

}  // namespace dropgemm::cuda
