// The template behind every ISA's KernelTable, written with the compiler's vector extensions.
// Included by exactly one kernel_<isa>.cc each, inside its own flags; everything has internal
// linkage, and nothing of the standard library is instantiated.
//
//   Kernel<F, VectorBytes, MR, NV>: MR rows x NV vectors of sums, NR = NV * VectorBytes/sizeof(Sum)
#pragma once

#include "cpu/kernel_direct.h"
#include "cpu/kernel_lstm.h"
#include "cpu/kernel_pack.h"
#include "cpu/kernel_store.h"

namespace dropgemm::cpu {
namespace {

template <class F, int kVectorBytes, int kMr, int kNv>
struct Kernel {
  typedef typename F::Storage S;
  typedef typename F::Packed P;
  typedef typename F::Sum T;
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  static constexpr int kNr = kNv * kLanes;
  static_assert(kNr <= 32, "TileStore::keep has one 32-bit word a row");
  static constexpr std::int64_t kPrefetchLines = 8;
  typedef Lanes<T, kLanes> Register;
  typedef typename Register::V Vector;
  typedef Packing<F, kLanes, kMr> PackingA;
  typedef Packing<F, kLanes, kNr> PackingB;
  typedef Storing<S, kLanes, kNv> Store;

  // Never inlined: register allocation must not depend on the caller.
  template <int kRows>
  [[gnu::noinline]] static void multiply(const Segment* segments, std::int32_t count, const P* a,
                                         const P* b, T* acc) {
    Vector c[kRows][kNv] = {};
    for (std::int32_t s = 0; s < count; ++s) {
      const P* pa = a + static_cast<std::int64_t>(segments[s].begin / F::kDepths) * kMr;
      const P* pb = b + static_cast<std::int64_t>(segments[s].begin / F::kDepths) * kNr;
      // Processors look ahead within a segment, not across the gap to the next.
      const P* next = a + static_cast<std::int64_t>(segments[s + 1 < count ? s + 1 : 0].begin) /
                              F::kDepths * kMr;
#pragma GCC unroll 4
      for (std::int32_t k = segments[s].length; k > 0; k -= F::kDepths) {
        typename Lanes<P, kLanes>::V bv[kNv];
#pragma GCC unroll 8
        for (int j = 0; j < kNv; ++j) bv[j] = Lanes<P, kLanes>::load(pb + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
          for (int j = 0; j < kNv; ++j) c[i][j] = Dot<P, kLanes>::add(c[i][j], pa[i], bv[j]);
        }
        __builtin_prefetch(next);
        next += kMr;
        pa += kMr;
        pb += kNr;
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int j = 0; j < kNv; ++j) Register::put(acc + i * kNr + j * kLanes, c[i][j]);
    }
  }

  static void add_lines(const S* lines, std::int64_t line_stride, std::int64_t count,
                        std::int64_t width, double* sums) {
    constexpr int kDoubles = kVectorBytes / static_cast<int>(sizeof(double)), kAtOnce = 8;
    typedef Lanes<double, kDoubles> Sum;
    typedef Lanes<S, kDoubles> Line;
    std::int64_t i = 0;
    for (; i + kAtOnce * kDoubles <= width; i += kAtOnce * kDoubles) {
      typename Sum::V sum[kAtOnce];
#pragma GCC unroll 8
      for (int v = 0; v < kAtOnce; ++v) sum[v] = Sum::load(sums + i + v * kDoubles);
      for (std::int64_t k = 0; k < count; ++k) {
        const S* line = lines + k * line_stride + i;
        if (k + kPrefetchLines < count) __builtin_prefetch(line + kPrefetchLines * line_stride);
#pragma GCC unroll 8
        for (int v = 0; v < kAtOnce; ++v) {
          sum[v] += __builtin_convertvector(
              Stored<S, kDoubles>::widen(Line::load(line + v * kDoubles)), typename Sum::V);
        }
      }
#pragma GCC unroll 8
      for (int v = 0; v < kAtOnce; ++v) Sum::put(sums + i + v * kDoubles, sum[v]);
    }
    for (std::int64_t k = 0; k < count; ++k) {
      for (std::int64_t j = i; j < width; ++j) sums[j] += double(widen(lines[k * line_stride + j]));
    }
  }

  static constexpr KernelTable<F> table() {
    return {kMr,
            kNr,
            &multiply<kMr>,
            &multiply<kMr / 2>,
            &PackingA::pack,
            &PackingB::pack,
            &Store::store,
            &Store::stream_zeros,
            &add_lines,
            &PackingA::select,
            &PackingB::select,
            &Cell<S, kLanes>::forward,
            &Cell<S, kLanes>::backward,
            direct_kernels<T, kVectorBytes, kMr, kNv>()};
  }
};

}  // namespace
}  // namespace dropgemm::cpu
