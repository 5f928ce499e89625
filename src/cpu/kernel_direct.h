// The microkernels over operands where they lie: 1 to kMr rows of single elements times one or more
// vectors, and rows of vectors times rows of vectors. Included by ISA files only: internal linkage,
// nothing of the standard library.
#pragma once

#include "cpu/kernel_vector.h"

namespace dropgemm::cpu {
namespace {

// kNv vectors of kLanes.
template <class T, int kLanes, int kNv>
struct Direct {
  static constexpr int kLine = 64 / static_cast<int>(sizeof(T));
  typedef Lanes<T, kLanes> Register;
  typedef typename Register::V Vector;

  // Adds one run of depth to the sums.
  template <int kRows, bool kLooksAhead>
  [[gnu::always_inline]] static inline void add_run(const DirectArgs<T>& x, const DepthRun& run,
                                                    const T* const* row, const T* lane0,
                                                    const T* const* next, Vector (*c)[kNv]) {
    const std::int64_t left_stride = x.left_stride, right_stride = x.right_stride;
    std::int64_t left = run.left * left_stride;
    const T* right = lane0 + run.right * right_stride;
    const std::int64_t ahead = (run.ahead - run.right) * right_stride;
    for (std::int32_t rest = run.length; rest > 0; rest -= kLine) {
      if (next != nullptr) {
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) __builtin_prefetch(next[i] + left, 0, 2);
      }
#pragma GCC unroll 2
      for (std::int32_t k = rest < kLine ? rest : kLine; k > 0; --k) {
        Vector v[kNv];
#pragma GCC unroll 8
        for (int j = 0; j < kNv; ++j) v[j] = Register::load(right + j * kLanes);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
          for (int j = 0; j < kNv; ++j) c[i][j] += row[i][left] * v[j];
        }
        if (kLooksAhead) {
#pragma GCC unroll 8
          for (int j = 0; j < kNv * kLanes; j += kLine) {
            __builtin_prefetch(right + ahead + j, 0, 2);
          }
        }
        left += left_stride;
        right += right_stride;
      }
    }
  }

  // Never inlined: register allocation must not depend on the caller.
  template <int kRows>
  [[gnu::noinline]] static void multiply(const DirectArgs<T>& x) {
    const T* row[kRows];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) row[i] = x.rows[i];
    for (std::int32_t t = 0; t < x.num_tiles; ++t) {
      const T* const lane0 = x.right + x.tiles[t].right;
      const std::int64_t at = x.tiles[t].out;
      const T* const* const next = t + 1 == x.num_tiles ? x.next_rows : nullptr;
      Vector c[kRows][kNv] = {};
      if (x.adds) {
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
          for (int j = 0; j < kNv; ++j) c[i][j] = Register::load(x.out[i] + at + j * kLanes);
        }
      }
      for (std::int32_t r = 0; r < x.num_runs; ++r) {
        if (x.looks_ahead) {
          add_run<kRows, true>(x, x.runs[r], row, lane0, next, c);
        } else {
          add_run<kRows, false>(x, x.runs[r], row, lane0, next, c);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < kNv; ++j) {
          Register::put(x.out[i] + at + j * kLanes, x.out_scale * (x.scale * c[i][j]), x.around);
        }
      }
    }
  }

  template <int kMr, int kRows = 1>
  static constexpr void enter(DirectKernels<T>& table, int which) {
    table.width[which] = kNv * kLanes;
    table.multiply[which][kRows - 1] = &multiply<kRows>;
    if constexpr (kRows < kMr) enter<kMr, kRows + 1>(table, which);
  }
};

// Rows times rows.
template <class T, int kLanes>
struct Dots {
  typedef Lanes<T, kLanes> Register;
  typedef typename Register::V Vector;
#if defined(__AVX512F__) || defined(__ARM_NEON)
  static constexpr int kRegisters = 32;
#else
  static constexpr int kRegisters = 16;
#endif
  // So many of the many rows at a time that sums and what is loaded stay in registers.
  template <int kFew>
  static constexpr int kMany = kFew * 4 + 5 <= kRegisters && kLanes >= 4 ? 4 : 2;
  static_assert(kDotsAhead >= 4, "DotArgs::many");

  // Sums of neighbouring lanes of x, then of y.
  static Vector fold(Vector x, Vector y) {
    typename Register::Index even;
#pragma GCC unroll 32
    for (int i = 0; i < kLanes; ++i) even[i] = 2 * i;
    return __builtin_shuffle(x, y, even) + __builtin_shuffle(x, y, even + 1);
  }

  // Lane i: the sum of all lanes of v[i].
  template <int kCount>
  static Vector sums_of(Vector* v) {
#pragma GCC unroll 4
    for (int count = kCount; count > 1; count /= 2) {
#pragma GCC unroll 4
      for (int i = 0; i < count / 2; ++i) v[i] = fold(v[2 * i], v[2 * i + 1]);
    }
#pragma GCC unroll 8
    for (int width = kLanes / kCount; width > 1; width /= 2) v[0] = fold(v[0], v[0]);
    return v[0];
  }

  template <int kFew>
  [[gnu::noinline]] static void multiply(const DotArgs<T>& x) {
    constexpr int kAtOnce = kMany<kFew>;
    const T* few[kFew];
#pragma GCC unroll 8
    for (int i = 0; i < kFew; ++i) few[i] = x.few[i];
    for (std::int32_t first = 0; first < x.num_many; first += kAtOnce) {
      const T *many[kAtOnce], *const *ahead = x.many + first + kAtOnce;
      const int used = x.num_many - first < kAtOnce ? x.num_many - first : kAtOnce;
#pragma GCC unroll 4
      for (int j = 0; j < kAtOnce; ++j) many[j] = x.many[j < used ? first + j : first];
      if (used < kAtOnce) ahead = x.many + first;
      Vector c[kFew][kAtOnce] = {};
      for (std::int32_t r = 0; r < x.num_runs; ++r) {
        const std::int64_t end = x.runs[r].begin + std::int64_t{x.runs[r].length};
        std::int64_t k = x.runs[r].begin;
        for (; k + kLanes <= end; k += kLanes) {
          Vector m[kAtOnce];
#pragma GCC unroll 4
          for (int j = 0; j < kAtOnce; ++j) m[j] = Register::load(many[j] + k);
#pragma GCC unroll 4
          for (int j = 0; j < kAtOnce; ++j) __builtin_prefetch(ahead[j] + k, 0, 2);
#pragma GCC unroll 8
          for (int i = 0; i < kFew; ++i) {
            const Vector f = Register::load(few[i] + k);
#pragma GCC unroll 4
            for (int j = 0; j < kAtOnce; ++j) c[i][j] += f * m[j];
          }
        }
        if (k == end) continue;
        const int rest = static_cast<int>(end - k);
#pragma GCC unroll 8
        for (int i = 0; i < kFew; ++i) {
          const Vector f = Register::load_some(few[i] + k, rest);
#pragma GCC unroll 4
          for (int j = 0; j < kAtOnce; ++j) c[i][j] += f * Register::load_some(many[j] + k, rest);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < kFew; ++i) {
        T dots[kLanes];
        Register::put(dots, sums_of<kAtOnce>(c[i]));
        T* const sums = x.sums + i * x.few_stride + first * x.many_stride;
        for (int j = 0; j < used; ++j) {
          T& sum = sums[j * x.many_stride];
          sum = x.adds ? sum + dots[j] : dots[j];
        }
      }
    }
  }

  template <int kMr, int kFew = 1>
  static constexpr void enter(DirectKernels<T>& table) {
    table.dots[kFew - 1] = &multiply<kFew>;
    if constexpr (kFew < kMr) enter<kMr, kFew + 1>(table);
  }
};

// Tiles of kNv vectors, of one, and of half a one: where fewer lanes are left, fewer are computed.
template <class T, int kVectorBytes, int kMr, int kNv>
constexpr DirectKernels<T> direct_kernels() {
  static_assert(kMr <= kMaxRows, "DirectKernels::multiply");
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  DirectKernels<T> table{};
  Direct<T, kLanes, kNv>::template enter<kMr>(table, 0);
  Direct<T, kLanes, 1>::template enter<kMr>(table, 1);
  Direct<T, kLanes / 2, 1>::template enter<kMr>(table, 2);
  Dots<T, kLanes>::template enter<kMr>(table);
  return table;
}

}  // namespace
}  // namespace dropgemm::cpu
