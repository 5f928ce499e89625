// The epilogue of every ISA: a tile of sums on its way to D.
#pragma once

#include <cstring>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "cpu/kernel_math.h"
#include "cpu/kernel_pack.h"

namespace dropgemm::cpu {
namespace {

constexpr std::int32_t kActNone = 0, kActRelu = 1, kActGeluErf = 2, kActGeluTanh = 3;

// `words` from bit i on: at least 32 of them.
inline std::uint32_t bits_from(const std::uint32_t* words, std::int64_t i) {
  const std::uint64_t both = words[i / 32] | std::uint64_t{words[i / 32 + 1]} << 32;
  return static_cast<std::uint32_t>(both >> (i % 32));
}

// Tiles of kNv vectors of kLanes on their way to arrays of S.
template <class S, int kLanes, int kNv>
struct Storing {
  typedef typename SumOf<S>::Type T;
  static constexpr int kNr = kNv * kLanes;
  typedef Lanes<T, kLanes> Register;
  typedef typename Register::V Vector;
  typedef Lanes<S, kLanes> Line;

  static Vector activate(std::int32_t activation, Vector z) {
    switch (activation) {
      case kActRelu:
        return z < T(0) ? Vector{} : z;
      case kActGeluErf:
        return Gelu<T, kLanes>::erf(z);
      case kActGeluTanh:
        return Gelu<T, kLanes>::tanh(z);
      default:
        return z;
    }
  }
  static Vector multiply_by_gradient(std::int32_t activation, Vector z, Vector g) {
    switch (activation) {
      case kActRelu:
        return z <= T(0) ? Vector{} : g;
      case kActGeluErf:
        return g * Gelu<T, kLanes>::erf_slope(z);
      case kActGeluTanh:
        return g * Gelu<T, kLanes>::tanh_slope(z);
      default:
        return g;
    }
  }

  // `count` neighbours in one of the arrays.
  static Vector get(const S* p, std::int64_t stride, int count) {
    typename Line::V line;
    if (stride == 1) {
      line = count == kLanes ? Line::load(p) : Line::load_some(p, count);
    } else {
      S lanes[kLanes] = {};
      for (int l = 0; l < count; ++l) lanes[l] = p[l * stride];
      line = Line::load(lanes);
    }
    return Stored<S, kLanes>::widen(line);
  }
  static void set(S* p, std::int64_t stride, int count, Vector z, bool around) {
    const typename Line::V line = Stored<S, kLanes>::narrow(z);
    if (stride == 1) {
      if (count < kLanes) return Line::put_some(p, line, count);
      return Line::put(p, line, around);
    }
    S lanes[kLanes];
    Line::put(lanes, line);
    for (int l = 0; l < count; ++l) p[l * stride] = lanes[l];
  }

  // The sums of `count` <= kLanes columns of D from column n on, the first of them at *acc; 0 where
  // a column has none. Moves on to the next.
  static Vector spread(const TileStore<T>& t, std::int64_t n, int count, const T** acc) {
    std::uint32_t bits = bits_from(t.columns.summed, n);
    bits &= static_cast<std::uint32_t>((std::uint64_t{1} << count) - 1);
    const Vector z = Register::expand(Register::load(*acc), bits);
    *acc += __builtin_popcount(bits);
    return z;
  }

  // Whether the cache line of p, column j of a tile that is `cols` wide, is the tile's alone: one
  // that is written both through the cache and around it is written twice.
  static bool owns_line(const S* p, int j, int cols) {
    constexpr int kLine = 64 / static_cast<int>(sizeof(S));
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    const int first = j - static_cast<int>(address % 64 / sizeof(S));
    return address % sizeof(typename Line::V) == 0 && first >= 0 && first + kLine <= cols;
  }

  // kSpread: some columns of the tile have no sum.
  template <bool kSpread>
  static Vector sums(const TileStore<T>& t, std::int64_t n, int count, const T** acc) {
    if constexpr (kSpread) return spread(t, n, count, acc);
    const Vector z = Register::load(*acc);
    *acc += kLanes;
    return z;
  }

  // kPlain: D is the sums and two factors, nothing else.
  template <bool kSpread, bool kPlain>
  static void store_rows(const Epilogue<S>& e, const TileStore<T>& t) {
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      const S* begin = e.d.data + m * e.d.row_stride + t.col_begin * e.d.col_stride;
      const T* acc = t.acc + i * kNr;
      // Vectors of a row that is spread begin with lines, but for the first.
      const auto past = reinterpret_cast<std::uintptr_t>(begin) / sizeof(S) % kLanes;
      int count = kSpread ? kLanes - static_cast<int>(past) : kLanes;
      for (int j = 0; j < t.cols; j += count, count = kLanes) {
        if (t.cols - j < count) count = t.cols - j;
        const std::int64_t n = t.col_begin + j;
        Vector z = sums<kSpread>(t, n, count, &acc);
        const auto write = [&](const Plane<S>& to, Vector value) {
          S* p = to.data + m * to.row_stride + n * to.col_stride;
          set(p, to.col_stride, count, value, e.stream && owns_line(p, j, t.cols));
        };
        if constexpr (kPlain) {
          z = z * e.scale * e.out_scale;
        } else {
          const auto read = [&](const Plane<const S>& from) {
            const S* p = from.data + m * from.row_stride + n * from.col_stride;
            return get(p, from.col_stride, count);
          };
          if (t.add_partial) z += read({e.d.data, e.d.row_stride, e.d.col_stride});
          if (t.is_final) {
            const bool selects = kSpread || t.keep != nullptr;
            std::uint32_t kept = 0;
            if (selects) kept = kSpread ? bits_from(t.columns.kept, n) : t.keep[i] >> j;
            z *= e.scale;
            if (e.addend.data != nullptr) z += read(e.addend);
            if (e.bias != nullptr) z += read({e.bias, 0, e.bias_stride});
            if (e.aux_out.data != nullptr) write(e.aux_out, selects ? Register::keep(z, kept) : z);
            z = activate(e.activation, z) * e.out_scale;
            if (e.grad_aux.data != nullptr) {
              z = multiply_by_gradient(e.grad_activation, read(e.grad_aux), z);
            }
            if (selects) z = Register::keep(z, kept);
          }
        }
        write(e.d, z);
      }
    }
  }

  // A whole tile of nothing but sums, where nothing is to be asked again at every vector: a third
  // of the time.
  static void store_sums(const Epilogue<S>& e, const TileStore<T>& t) {
    for (std::int32_t i = 0; i < t.rows; ++i) {
      const std::int64_t m = at(t.row_index, t.row_begin + i);
      S* row = e.d.data + m * e.d.row_stride + t.col_begin;
      const bool around = e.stream && owns_line(row, 0, kNr) && kNr * sizeof(S) % 64 == 0;
#pragma GCC unroll 8
      for (int j = 0; j < kNr; j += kLanes) {
        const Vector z = Register::load(t.acc + i * kNr + j) * e.scale * e.out_scale;
        set(row + j, 1, kLanes, z, around);
      }
    }
  }

  static void store(const Epilogue<S>& e, const TileStore<T>& t) {
    const bool plain = e.addend.data == nullptr && e.bias == nullptr && e.aux_out.data == nullptr &&
                       e.grad_aux.data == nullptr && e.activation == kActNone &&
                       t.keep == nullptr && !t.add_partial && t.is_final;
    if (t.columns.summed != nullptr) {
      // Infinite factors make NaN of what has no sum.
      if (plain && e.empty_is_zero) return store_rows<true, true>(e, t);
      return store_rows<true, false>(e, t);
    }
    if (plain && t.cols == kNr && e.d.col_stride == 1) return store_sums(e, t);
    store_rows<false, false>(e, t);
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
