// Numbers on their way between formats: from storage into sums and back, and into the words of
// panels. Included by ISA files only: internal linkage, nothing of the standard library.
#pragma once

#include "cpu/kernel_vector.h"

namespace dropgemm::cpu {
namespace {

// ---- storage and sums -------------------------------------------------------------------------

// kW numbers as they are stored and as they are summed.
template <class S, int kW>
struct Stored {
  typedef typename Lanes<S, kW>::V V;
  static V widen(V x) { return x; }
  static V narrow(V x) { return x; }
};

template <int kW>
struct Stored<BFloat16, kW> {
  typedef typename Lanes<BFloat16, kW>::V V;
  typedef typename Lanes<float, kW>::V Sum;
  typedef typename Lanes<BFloat16Pair, kW>::V Word;

  static Sum widen(V x) { return (Sum)(__builtin_convertvector(x, Word) << 16); }
  // To the nearest, to even of two; a NaN stays one.
  static V narrow(Sum x) {
    const Word word = (Word)x;
    const Word rounded = (word + 0x7FFF + (word >> 16 & 1)) >> 16;
    const Word nan = word >> 16 | 0x40;
    return __builtin_convertvector((word & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded, V);
  }
};

// The same of one number.
template <class S>
inline S widen(S x) {
  return x;
}
inline float widen(BFloat16 x) {
  const std::uint32_t word = std::uint32_t{x.bits} << 16;
  float value;
  __builtin_memcpy(&value, &word, sizeof value);
  return value;
}
template <class S>
inline S narrow(typename SumOf<S>::Type x) {
  if constexpr (sizeof(S) == sizeof x) {
    return x;
  } else {
    std::uint32_t word;
    __builtin_memcpy(&word, &x, sizeof word);
    const bool is_nan = (word & 0x7FFFFFFF) > 0x7F800000;
    S value;
    value.bits = static_cast<std::uint16_t>(is_nan ? word >> 16 | 0x40
                                                   : (word + 0x7FFF + (word >> 16 & 1)) >> 16);
    return value;
  }
}

// ---- words of panels --------------------------------------------------------------------------

// kW words of P from numbers stored as S.
template <class S, class P, int kW>
struct Words {
  typedef typename Lanes<P, kW>::V V;

  // Of neighbouring depths of one lane; kStep elements apart.
  template <int kStep>
  static V along(const S* p) {
    return Stored<S, kW>::widen(Lanes<S, kW>::template load_apart<kStep>(p));
  }
  // Of neighbouring lanes, kStep elements apart, of the depths of a word, each with a row.
  template <int kStep>
  static V across(const S* const* row, std::int64_t offset) {
    return along<kStep>(row[0] + offset);
  }
  // Of one lane.
  static P word(const S* depth) { return widen(depth[0]); }
};

// A word, of which depth d is 0 where bit d is.
template <class P>
inline P kept(P word, std::uint32_t bits) {
  return (bits & 1U) != 0 ? word : P(0);
}

}  // namespace
}  // namespace dropgemm::cpu
