// The microkernel over operands where they lie: 1 to kMr rows of single elements times one or more
// vectors. Included by ISA files only: internal linkage, nothing of the standard library.
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

// Tiles of kNv vectors, of one, and of half a one: where fewer lanes are left, fewer are computed.
template <class T, int kVectorBytes, int kMr, int kNv>
constexpr DirectKernels<T> direct_kernels() {
  static_assert(kMr <= kMaxRows, "DirectKernels::multiply");
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  DirectKernels<T> table{};
  Direct<T, kLanes, kNv>::template enter<kMr>(table, 0);
  Direct<T, kLanes, 1>::template enter<kMr>(table, 1);
  Direct<T, kLanes / 2, 1>::template enter<kMr>(table, 2);
  return table;
}

}  // namespace
}  // namespace dropgemm::cpu
