// The template behind every ISA's KernelTable, written with the compiler's vector extensions.
// Included by exactly one kernel_<isa>.cc each, inside its own flags; everything has internal
// linkage, and nothing of the standard library is instantiated.
//
//   Kernel<T, VectorBytes, MR, NV>: MR rows x NV vectors of T, so NR = NV * VectorBytes/sizeof(T)
#pragma once

#include <cmath>
#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "cpu/kernel.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int32_t kActNone = 0, kActRelu = 1, kActGeluErf = 2, kActGeluTanh = 3;
constexpr std::int64_t kPrefetchRows = 8;

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

inline std::int64_t at(const std::int32_t* index, std::int64_t i) {
  return index != nullptr ? index[i] : i;
}
// Indices ascend, so a range is contiguous iff its ends are as far apart as it is long.
inline bool contiguous(const std::int32_t* index, std::int64_t begin, std::int64_t count) {
  return index == nullptr || index[begin + count - 1] - index[begin] == count - 1;
}

template <class T, int kVectorBytes, int kMr, int kNv>
struct Kernel {
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int kNr = kNv * kLanes;
  static_assert(kNr <= 32, "TileStore::keep has one 32-bit word a row");
  typedef T Vector __attribute__((vector_size(kVectorBytes)));

  template <class V>
  static V load(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof(V));
    return v;
  }
  template <class V>
  static void put(T* p, V v) {
    __builtin_memcpy(p, &v, sizeof(V));
  }

  // Never inlined: register allocation must not depend on the caller.
  [[gnu::noinline]] static void multiply(const Segment* segments, std::int32_t count, const T* a,
                                         const T* b, T* acc) {
    Vector c[kMr][kNv] = {};
    for (std::int32_t s = 0; s < count; ++s) {
      const T* pa = a + static_cast<std::int64_t>(segments[s].begin) * kMr;
      const T* pb = b + static_cast<std::int64_t>(segments[s].begin) * kNr;
#pragma GCC unroll 4
      for (std::int32_t k = segments[s].length; k > 0; --k) {
        Vector bv[kNv];
#pragma GCC unroll 8
        for (int j = 0; j < kNv; ++j) bv[j] = load<Vector>(pb + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kMr; ++i) {
#pragma GCC unroll 8
          for (int j = 0; j < kNv; ++j) c[i][j] += pa[i] * bv[j];
        }
        pa += kMr;
        pb += kNr;
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kMr; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < kNv; ++j) put(acc + i * kNr + j * kLanes, c[i][j]);
    }
  }

  // ---- packing ----------------------------------------------------------------------------

  // Transposes kW vectors of kW lanes in place: log2(kW) rounds of exchanging halves.
  template <int kW>
  struct Square {
    typedef T V __attribute__((vector_size(kW * static_cast<int>(sizeof(T)))));
    template <int kStep>
    static void round(V* r) {
      typedef decltype(V{} == V{}) Index;
      Index low, high;
#pragma GCC unroll 16
      for (int i = 0; i < kW; ++i) {
        low[i] = (i & kStep) != 0 ? (i ^ kStep) + kW : i;
        high[i] = (i & kStep) != 0 ? i + kW : (i ^ kStep);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kW; ++i) {
        if ((i & kStep) != 0) continue;
        const V x = r[i], y = r[i | kStep];
        r[i] = __builtin_shuffle(x, y, low);
        r[i | kStep] = __builtin_shuffle(x, y, high);
      }
    }
    static void transpose(V* r) {
      round<1>(r);
      if constexpr (kW > 2) round<2>(r);
      if constexpr (kW > 4) round<4>(r);
      if constexpr (kW > 8) round<8>(r);
    }
  };

  static constexpr int smaller(int x, int y) { return x < y ? x : y; }
  // The widest power of two that fits a vector and does not waste more than half of kP lanes.
  static constexpr int square_width(int p) {
    int w = 2;
    while (w * 2 <= kLanes && w < p) w *= 2;
    return w;
  }

  // Source rows are contiguous along the depth: transpose squares of kW lanes x kW depth.
  template <int kP>
  static void pack_depth_contiguous(const PackArgs<T>& x, std::int64_t lane, int lanes, T* out) {
    constexpr int kW = square_width(kP);
    typedef typename Square<kW>::V V;
    for (int h = 0; h < kP; h += kW) {
      constexpr int kBytes = static_cast<int>(sizeof(T));
      const int width = smaller(kW, kP - h);
      const T* row[kW];
      for (int i = 0; i < kW; ++i) {
        row[i] = x.source + at(x.lane_index, lane + smaller(h + i, lanes - 1)) * x.lane_stride;
      }
      for (std::int32_t s = 0; s < x.num_segments; ++s) {
        std::int64_t k = x.segments[s].begin;
        const std::int64_t end = k + x.segments[s].length;
        for (; k + kW <= end; k += kW) {
          T* o = out + (k - x.depth_origin) * kP + h;
          if (contiguous(x.depth_index, k, kW)) {
            const std::int64_t source_k = at(x.depth_index, k);
            V r[kW];
#pragma GCC unroll 16
            for (int i = 0; i < kW; ++i) r[i] = load<V>(row[i] + source_k);
            Square<kW>::transpose(r);
            if (width == kW) {
#pragma GCC unroll 16
              for (int i = 0; i < kW; ++i) put(o + i * kP, r[i]);
            } else {
              constexpr int kRest = kP % kW == 0 ? kW : kP % kW;
              for (int i = 0; i < kW; ++i) __builtin_memcpy(o + i * kP, &r[i], kRest * kBytes);
            }
          } else {
            for (int j = 0; j < kW; ++j) {
              const std::int64_t source_k = x.depth_index[k + j];
              for (int i = 0; i < width; ++i) o[j * kP + i] = row[i][source_k];
            }
          }
        }
        for (; k < end; ++k) {
          const std::int64_t source_k = at(x.depth_index, k);
          T* o = out + (k - x.depth_origin) * kP + h;
          for (int i = 0; i < width; ++i) o[i] = row[i][source_k];
        }
      }
    }
  }

  // Source is contiguous along the panel axis: whole depth rows, all panels of a row together.
  template <int kP>
  static void pack_lane_contiguous(const PackArgs<T>& x) {
    const std::int64_t full = x.count / kP * kP;
    const bool flat = contiguous(x.lane_index, x.lane_begin, x.count);
    for (std::int32_t s = 0; s < x.num_segments; ++s) {
      const std::int64_t end = x.segments[s].begin + x.segments[s].length;
      for (std::int64_t k = x.segments[s].begin; k < end; ++k) {
        const T* row = x.source + at(x.depth_index, k) * x.depth_stride;
        const std::int64_t ahead = k + kPrefetchRows < end ? k + kPrefetchRows : end - 1;
        const T* next = x.source + at(x.depth_index, ahead) * x.depth_stride;
        for (std::int64_t i = 0; i < full; i += kP) {
          T* o = x.out + i / kP * x.panel_stride + (k - x.depth_origin) * kP;
          const std::int64_t p = x.lane_begin + i;
          if (flat || contiguous(x.lane_index, p, kP)) {
            const std::int64_t first = at(x.lane_index, p);
            __builtin_prefetch(next + first);
            __builtin_prefetch(next + first + kP - 1);
            __builtin_memcpy(o, row + first, kP * sizeof(T));
          } else {
            for (int j = 0; j < kP; ++j) o[j] = row[x.lane_index[p + j]];
          }
        }
        if (full < x.count) {
          T* o = x.out + full / kP * x.panel_stride + (k - x.depth_origin) * kP;
          for (std::int64_t j = 0; j < kP; ++j) {
            const std::int64_t p = full + j;
            o[j] = p < x.count ? row[at(x.lane_index, x.lane_begin + p)] : T(0);
          }
        }
      }
    }
  }

  // Neither stride is 1.
  template <int kP>
  static void pack_strided(const PackArgs<T>& x, std::int64_t lane, int lanes, T* out) {
    for (std::int32_t s = 0; s < x.num_segments; ++s) {
      const std::int64_t end = x.segments[s].begin + x.segments[s].length;
      for (std::int64_t k = x.segments[s].begin; k < end; ++k) {
        const T* column = x.source + at(x.depth_index, k) * x.depth_stride;
        for (int i = 0; i < kP; ++i) {
          const std::int64_t p = lane + smaller(i, lanes - 1);
          out[(k - x.depth_origin) * kP + i] = column[at(x.lane_index, p) * x.lane_stride];
        }
      }
    }
  }

  template <int kP>
  static void pack(const PackArgs<T>& x) {
    if (x.lane_stride == 1 && x.depth_stride != 1) {
      pack_lane_contiguous<kP>(x);
      return;
    }
    for (std::int64_t i = 0; i < x.count; i += kP) {
      const int lanes = static_cast<int>(x.count - i < kP ? x.count - i : kP);
      T* out = x.out + i / kP * x.panel_stride;
      if (x.depth_stride == 1) {
        pack_depth_contiguous<kP>(x, x.lane_begin + i, lanes, out);
      } else {
        pack_strided<kP>(x, x.lane_begin + i, lanes, out);
      }
    }
  }

  template <int kP>
  static void select(T* panel, const std::uint32_t* words, std::int32_t depth) {
    for (std::int32_t k = 0; k < depth; ++k) {
      T* o = panel + static_cast<std::int64_t>(k) * kP;
      for (int i = 0; i < kP; ++i) o[i] = (words[i] >> k & 1U) != 0 ? o[i] : T(0);
    }
  }

  // ---- epilogue ---------------------------------------------------------------------------

  static T finish(const Epilogue<T>& e, T sum, std::int64_t m, std::int64_t n) {
    T z = e.scale * sum;
    if (e.addend.data != nullptr) {
      z += e.addend.data[m * e.addend.row_stride + n * e.addend.col_stride];
    }
    if (e.bias != nullptr) z += e.bias[n * e.bias_stride];
    if (e.aux_out.data != nullptr) {
      e.aux_out.data[m * e.aux_out.row_stride + n * e.aux_out.col_stride] = z;
    }
    T value = e.out_scale * activate(e.activation, z);
    if (e.grad_aux.data != nullptr) {
      const T below = e.grad_aux.data[m * e.grad_aux.row_stride + n * e.grad_aux.col_stride];
      value = multiply_by_gradient(e.grad_activation, below, value);
    }
    return value;
  }

  // Any strides, ragged tiles, masks of single elements, GELU.
  static void store_elements(const Epilogue<T>& e, const TileStore<T>& t) {
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      for (std::int32_t j = 0; j < t.cols; ++j) {
        const std::int64_t n = at(t.col_index, t.col_begin + j);
        T* d = e.d.data + m * e.d.row_stride + n * e.d.col_stride;
        T sum = t.acc[i * kNr + j];
        if (t.add_partial) sum += *d;
        if (!t.is_final) {
          *d = sum;
        } else if (t.keep != nullptr && (t.keep[i] >> j & 1U) == 0) {
          *d = T(0);
          if (e.aux_out.data != nullptr) {
            e.aux_out.data[m * e.aux_out.row_stride + n * e.aux_out.col_stride] = T(0);
          }
        } else {
          *d = finish(e, sum, m, n);
        }
      }
    }
  }

  static bool row_major(const Epilogue<T>& e) {
    return e.d.col_stride == 1 && (e.bias == nullptr || e.bias_stride == 1) &&
           (e.addend.data == nullptr || e.addend.col_stride == 1) &&
           (e.aux_out.data == nullptr || e.aux_out.col_stride == 1) &&
           (e.grad_aux.data == nullptr || e.grad_aux.col_stride == 1);
  }

  // A full-width tile of contiguous columns, nothing but sums, scales, adds and ReLU.
  static void store_vectors(const Epilogue<T>& e, const TileStore<T>& t) {
    const Vector zero = {};
    const std::int64_t n = at(t.col_index, t.col_begin);
    typedef decltype(zero == zero) Keep;
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      T* d = e.d.data + m * e.d.row_stride + n;
      for (int v = 0; v < kNv; ++v) {
        const int j = v * kLanes;
        Vector z = load<Vector>(t.acc + i * kNr + j);
        if (t.add_partial) z += load<Vector>(d + j);
        if (t.is_final) {
          z *= e.scale;
          if (e.addend.data != nullptr) {
            z += load<Vector>(e.addend.data + m * e.addend.row_stride + n + j);
          }
          if (e.bias != nullptr) z += load<Vector>(e.bias + n + j);
          Keep keep = zero == zero;
          if (t.keep != nullptr) {
            for (int l = 0; l < kLanes; ++l) keep[l] = -(t.keep[i] >> (j + l) & 1U);
          }
          if (e.aux_out.data != nullptr) {
            put(e.aux_out.data + m * e.aux_out.row_stride + n + j, keep ? z : zero);
          }
          if (e.activation == kActRelu) z = z < zero ? zero : z;
          z *= e.out_scale;
          if (e.grad_aux.data != nullptr && e.grad_activation == kActRelu) {
            const Vector below = load<Vector>(e.grad_aux.data + m * e.grad_aux.row_stride + n + j);
            z = below <= zero ? zero : z;
          }
          z = keep ? z : zero;
        }
        put(d + j, z);
      }
    }
  }

  static void store(const Epilogue<T>& e, const TileStore<T>& t) {
    const bool simple = e.activation <= kActRelu && e.grad_activation <= kActRelu;
    if (t.cols == kNr && simple && row_major(e) && contiguous(t.col_index, t.col_begin, kNr)) {
      store_vectors(e, t);
    } else {
      store_elements(e, t);
    }
  }

  static void stream_zeros(T* out, std::int64_t count) {
    std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
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

  static constexpr KernelTable<T> table() {
    return {kMr,    kNr,           &multiply,    &pack<kMr>,  &pack<kNr>,
            &store, &stream_zeros, &select<kMr>, &select<kNr>};
  }
};

}  // namespace
}  // namespace dropgemm::cpu
