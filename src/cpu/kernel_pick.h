// Elements of a line at ascending, irregular positions, picked lane by lane from whole vectors of
// all that lies there. The positions are the same for many lines, so what goes where is found
// once. Included by ISA files only: internal linkage, nothing of the standard library.
#pragma once

#include "cpu/kernel_vector.h"

namespace dropgemm::cpu {
namespace {

template <class S, int kW>
struct Picks {
  typedef Lanes<S, kW> Line;
  typedef typename Line::V V;
  typedef typename Line::Index Index;
  typedef typename Line::Bits Bits;
  static constexpr int kMaxVectors = 8;  // sparser lists are read element by element
#if defined(__AVX2__) || defined(__ARM_NEON)
  static constexpr bool kPermutes = kW >= 4;
#else
  static constexpr bool kPermutes = false;
#endif

  std::int32_t first;               // position of the first element
  std::int32_t span;                // from it to the last, both included
  std::int32_t count;               // of vectors
  std::int32_t begin[kMaxVectors];  // behind `first`; the last vector ends with the last element
  Index lane[kMaxVectors];          // of that vector, or none of its lanes

  // index[0 .. kW - 1]; false where they lie too far apart.
  bool find(const std::int32_t* index) {
    first = index[0];
    span = index[kW - 1] - first + 1;
    count = (span + kW - 1) / kW;
    if (!kPermutes || count > kMaxVectors) return false;
    Index behind;
#pragma GCC unroll 32
    for (int i = 0; i < kW; ++i) behind[i] = static_cast<typename Line::Int>(index[i] - first);
    for (int v = 0; v < count; ++v) {
      begin[v] = v + 1 < count ? v * kW : span - kW;
      lane[v] = behind - static_cast<typename Line::Int>(begin[v]);
    }
    return true;
  }

  [[nodiscard]] V get(const S* line) const {
    V r = Line::load(line + first + begin[0]);
    r = __builtin_shuffle(r, lane[0]);
    for (int v = 1; v < count; ++v) {
      const V here = __builtin_shuffle(Line::load(line + first + begin[v]), lane[v]);
      r = (Bits)lane[v] < static_cast<typename Line::Unsigned>(kW) ? here : r;
    }
    return r;
  }
};

}  // namespace
}  // namespace dropgemm::cpu
