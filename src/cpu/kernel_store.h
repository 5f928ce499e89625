// The epilogue of every ISA: a tile of sums on its way to D.
#pragma once

#include <cmath>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "cpu/kernel_pack.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int32_t kActNone = 0, kActRelu = 1, kActGeluErf = 2, kActGeluTanh = 3;

template <class T>
inline T activate(std::int32_t activation, T z) {
  constexpr T kSqrtHalf = T(0.70710678118654752440), kSqrtTwoOverPi = T(0.79788456080286535588);
  switch (activation) {
    case kActRelu:
      return z < T(0) ? T(0) : z;
    case kActGeluErf:
      return T(0.5) * z * (T(1) + T(erf(double(z * kSqrtHalf))));
    case kActGeluTanh:
      return T(0.5) * z * (T(1) + T(tanh(double(kSqrtTwoOverPi * (z + T(0.044715) * z * z * z)))));
    default:
      return z;
  }
}

template <class T>
inline T multiply_by_gradient(std::int32_t activation, T z, T g) {
  constexpr T kSqrtHalf = T(0.70710678118654752440);
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  constexpr T kInvSqrtTwoPi = T(0.39894228040143267794);
  switch (activation) {
    case kActRelu:
      return z <= T(0) ? T(0) : g;
    case kActGeluErf:
      return g * (T(0.5) * (T(1) + T(erf(double(z * kSqrtHalf)))) +
                  z * kInvSqrtTwoPi * T(exp(double(T(-0.5) * z * z))));
    case kActGeluTanh: {
      // In float64, where the square of a large z does not overflow into 0 * infinity.
      const double x = double(z), t = tanh(kSqrtTwoOverPi * (x + 0.044715 * x * x * x));
      const double slope = kSqrtTwoOverPi * (1 + 3 * 0.044715 * x * x);
      return g * T(0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope);
    }
    default:
      return g;
  }
}

// Tiles of kNv vectors of kLanes on their way to arrays of S.
template <class S, int kLanes, int kNv>
struct Storing {
  typedef typename SumOf<S>::Type T;
  static constexpr int kNr = kNv * kLanes;
  typedef Lanes<T, kLanes> Register;
  typedef typename Register::V Vector;
  typedef Lanes<S, kLanes> Line;

  static T finish(const Epilogue<S>& e, T sum, std::int64_t m, std::int64_t n) {
    T z = e.scale * sum;
    if (e.addend.data != nullptr) {
      z += widen(e.addend.data[m * e.addend.row_stride + n * e.addend.col_stride]);
    }
    if (e.bias != nullptr) z += widen(e.bias[n * e.bias_stride]);
    if (e.aux_out.data != nullptr) {
      e.aux_out.data[m * e.aux_out.row_stride + n * e.aux_out.col_stride] = narrow<S>(z);
    }
    T value = e.out_scale * activate(e.activation, z);
    if (e.grad_aux.data != nullptr) {
      const T below = widen(e.grad_aux.data[m * e.grad_aux.row_stride + n * e.grad_aux.col_stride]);
      value = multiply_by_gradient(e.grad_activation, below, value);
    }
    return value;
  }

  // Any strides, ragged tiles, masks of single elements, GELU.
  static void store_elements(const Epilogue<S>& e, const TileStore<T>& t) {
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      for (std::int32_t j = 0; j < t.cols; ++j) {
        const std::int64_t n = at(t.col_index, t.col_begin + j);
        S* d = e.d.data + m * e.d.row_stride + n * e.d.col_stride;
        T sum = t.acc[i * kNr + j];
        if (t.add_partial) sum += widen(*d);
        if (!t.is_final) {
          *d = narrow<S>(sum);
        } else if (t.keep != nullptr && (t.keep[i] >> j & 1U) == 0) {
          *d = S{};
          if (e.aux_out.data != nullptr) {
            e.aux_out.data[m * e.aux_out.row_stride + n * e.aux_out.col_stride] = S{};
          }
        } else {
          *d = narrow<S>(finish(e, sum, m, n));
        }
      }
      if (e.step > 1 && t.is_final) {
        clear_between(e, t, e.d, m);
        if (e.aux_out.data != nullptr) clear_between(e, t, e.aux_out, m);
      }
    }
  }

  // Zeros in the tile's span of row m of D or aux_out, but for its columns.
  static void clear_between(const Epilogue<S>& e, const TileStore<T>& t, const Plane<S>& out,
                            std::int64_t m) {
    S* row = out.data + m * out.row_stride + t.col_begin * e.step - e.before;
    for (std::int32_t j = 0, column = e.before; j < t.span; ++j) {
      if (j == column) {
        column += e.step;
      } else {
        row[j] = S{};
      }
    }
  }

  // Columns of every array of the epilogue lie e.step apart.
  static bool row_major(const Epilogue<S>& e) {
    return e.d.col_stride == e.step && (e.bias == nullptr || e.bias_stride == e.step) &&
           (e.addend.data == nullptr || e.addend.col_stride == e.step) &&
           (e.aux_out.data == nullptr || e.aux_out.col_stride == e.step) &&
           (e.grad_aux.data == nullptr || e.grad_aux.col_stride == e.step);
  }

  // Whether a tile's part of row m begins with a cache line.
  static bool in_lines(const Epilogue<S>& e, const Plane<S>& out, std::int64_t m, std::int64_t n) {
    const S* begin = out.data + m * out.row_stride + n - e.before;
    return reinterpret_cast<std::uintptr_t>(begin) % 64 == 0 && kNr * sizeof(S) % 64 == 0;
  }

  // Columns one after the other, or kApart: e.step apart with zeros between.
  template <bool kApart>
  static Vector get(const Epilogue<S>& e, const S* p) {
    return Stored<S, kLanes>::widen(kApart ? Line::load_apart(p, e.step) : Line::load(p));
  }
  template <bool kApart>
  static void set(const Epilogue<S>& e, S* p, Vector z, bool around) {
    const typename Line::V line = Stored<S, kLanes>::narrow(z);
    if (kApart) {
      Line::put_apart(p - e.before, line, e.step, e.before, around);
    } else {
      Line::put(p, line, around);
    }
  }

  // A full-width tile, nothing but sums, scales, adds and ReLU.
  template <bool kApart>
  static void store_vectors(const Epilogue<S>& e, const TileStore<T>& t) {
    const Vector zero = {};
    const std::int64_t n = at(t.col_index, t.col_begin) * (kApart ? e.step : 1);
    typedef decltype(zero == zero) Keep;
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      // Whole lines only: a line that is written both ways is written twice.
      const bool around = e.stream && in_lines(e, e.d, m, n) &&
                          (e.aux_out.data == nullptr || in_lines(e, e.aux_out, m, n));
      for (int v = 0; v < kNv; ++v) {
        const int lane = v * kLanes;
        const std::int64_t j = n + lane * (kApart ? e.step : 1);
        S* d = e.d.data + m * e.d.row_stride + j;
        Vector z = Register::load(t.acc + i * kNr + lane);
        if (t.add_partial) z += get<kApart>(e, d);
        if (t.is_final) {
          z *= e.scale;
          if (e.addend.data != nullptr) {
            z += get<kApart>(e, e.addend.data + m * e.addend.row_stride + j);
          }
          if (e.bias != nullptr) z += get<kApart>(e, e.bias + j);
          Keep keep = zero == zero;
          if (t.keep != nullptr) {
            for (int l = 0; l < kLanes; ++l) keep[l] = -(t.keep[i] >> (lane + l) & 1U);
          }
          if (e.aux_out.data != nullptr) {
            set<kApart>(e, e.aux_out.data + m * e.aux_out.row_stride + j, keep ? z : zero, around);
          }
          if (e.activation == kActRelu) z = z < zero ? zero : z;
          z *= e.out_scale;
          if (e.grad_aux.data != nullptr && e.grad_activation == kActRelu) {
            const Vector below = get<kApart>(e, e.grad_aux.data + m * e.grad_aux.row_stride + j);
            z = below <= zero ? zero : z;
          }
          z = keep ? z : zero;
        }
        set<kApart>(e, d, z, around);
      }
    }
  }

  static void store(const Epilogue<S>& e, const TileStore<T>& t) {
    const bool simple = e.activation <= kActRelu && e.grad_activation <= kActRelu;
    const bool whole = t.cols == kNr && contiguous(t.col_index, t.col_begin, kNr);
    if (!simple || !whole || !row_major(e)) {
      store_elements(e, t);
    } else if (e.step == 1) {
      store_vectors<false>(e, t);
    } else if (t.span == kNr * e.step) {
      store_vectors<true>(e, t);
    } else {
      store_elements(e, t);
    }
  }

  static void stream_zeros(S* out, std::int64_t count) {
    std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(S));
#if defined(__AVX__)
    if (reinterpret_cast<std::uintptr_t>(out) % 64 == 0 && bytes % 64 == 0) {
      for (char* line = reinterpret_cast<char*>(out); bytes > 0; bytes -= 64, line += 64) {
        _mm256_stream_si256(reinterpret_cast<__m256i*>(line), _mm256_setzero_si256());
        _mm256_stream_si256(reinterpret_cast<__m256i*>(line + 32), _mm256_setzero_si256());
      }
      return;
    }
#endif
    memset(out, 0, static_cast<std::size_t>(bytes));
  }
};

}  // namespace
}  // namespace dropgemm::cpu
