// Numbers as they are stored, and as they are summed.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "dropgemm/bfloat16.h"
#include "dropgemm/float16.h"
#include "dropgemm/matrix.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace dropgemm::cuda {

// E is what memory holds; sums and epilogues are of Number<E>::Sum. Results are rounded once, to
// the nearest.
template <class E>
struct Number {
  using Sum = E;  // float, double
  static DROPGEMM_DEVICE Sum load(E x) { return x; }
  static DROPGEMM_DEVICE E store(Sum x) { return x; }
};

template <>
struct Number<BFloat16> {
  using Sum = float;
#if defined(__CUDACC__)
  static DROPGEMM_DEVICE float load(BFloat16 x) {
    return __uint_as_float(std::uint32_t{x.bits} << 16);
  }
  static DROPGEMM_DEVICE BFloat16 store(float x) {
    BFloat16 rounded;
    rounded.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
    return rounded;
  }
#else
  static float load(BFloat16 x) { return x; }
  static BFloat16 store(float x) { return BFloat16(x); }
#endif
};

template <>
struct Number<Float16> {
  using Sum = float;
#if defined(__CUDACC__)
  static DROPGEMM_DEVICE float load(Float16 x) { return __half2float(__ushort_as_half(x.bits)); }
  static DROPGEMM_DEVICE Float16 store(float x) {
    Float16 rounded;
    rounded.bits = __half_as_ushort(__float2half_rn(x));
    return rounded;
  }
#else
  static float load(Float16 x) { return x; }
  static Float16 store(float x) { return Float16(x); }
#endif
};

// Neighbours that are loaded and stored at once.
template <class E>
struct alignas(16) Vector {
  static constexpr std::int32_t kCount = 16 / sizeof(E);
  E elements[kCount];
};

}  // namespace dropgemm::cuda
