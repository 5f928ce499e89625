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
#if defined(__AVX512BF16__)
    if constexpr (kW == 16) return (V)_mm512_cvtneps_pbh(x);
#endif
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
inline float widen(BFloat16 x) { return x; }
template <class S>
inline S narrow(typename SumOf<S>::Type x) {
  return S(x);
}

// ---- words of panels --------------------------------------------------------------------------

// kW words of P from numbers stored as S.
template <class S, class P, int kW>
struct Words {
  typedef typename Lanes<P, kW>::V V;

  // Of neighbouring depths of one lane, kStep elements apart.
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

template <int kW>
struct Words<BFloat16, BFloat16Pair, kW> {
  typedef typename Lanes<BFloat16Pair, kW>::V V;

  template <int kStep>
  static V along(const BFloat16* p) {
    return (V)Lanes<BFloat16, 2 * kW>::template load_apart<kStep>(p);
  }
  template <int kStep>
  static V across(const BFloat16* const* row, std::int64_t offset) {
    typedef Lanes<BFloat16, kW> Half;
    const V low = __builtin_convertvector(Half::template load_apart<kStep>(row[0] + offset), V);
    const V high = __builtin_convertvector(Half::template load_apart<kStep>(row[1] + offset), V);
    return low | high << 16;
  }
  static BFloat16Pair word(const BFloat16* depth) {
    return {std::uint32_t{depth[1].bits} << 16 | depth[0].bits};
  }
};

#if defined(__AVX512BF16__)
// Rounded to the nearest, to even of two, by one instruction for a vector or two; what is below
// 2^-126 becomes 0.
template <int kW>
struct Words<float, BFloat16Pair, kW> {
  typedef typename Lanes<BFloat16Pair, kW>::V V;

  template <int kStep>
  static V along(const float* p) {
    static_assert(kW == 8 || kW == 16, "of vectors of 16 floats");
    typedef Lanes<float, 16> Source;
    const __m512 low = Source::template load_apart<kStep>(p);
    if constexpr (kW == 8) {
      return (V)_mm512_cvtneps_pbh(low);
    } else {
      return (V)_mm512_cvtne2ps_pbh(Source::template load_apart<kStep>(p + 16 * kStep), low);
    }
  }
  template <int kStep>
  static V across(const float* const* row, std::int64_t offset) {
    typedef Lanes<float, kW> Source;
    typedef Lanes<BFloat16, 2 * kW> Halves;
    const auto low = Source::template load_apart<kStep>(row[0] + offset);
    const auto high = Source::template load_apart<kStep>(row[1] + offset);
    typename Halves::V apart;  // all of the first depth, then all of the second
    if constexpr (kW == 8) {
      const __m512 both = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
      apart = (typename Halves::V)_mm512_cvtneps_pbh(both);
    } else {
      apart = (typename Halves::V)_mm512_cvtne2ps_pbh(high, low);
    }
    typename Halves::Index from;
#pragma GCC unroll 32
    for (int i = 0; i < 2 * kW; ++i) from[i] = i / 2 + (i & 1) * kW;
    return (V)__builtin_shuffle(apart, from);
  }
  static BFloat16Pair word(const float* depth) {
    const BFloat16 pair[2] = {BFloat16(depth[0]), BFloat16(depth[1])};
    return Words<BFloat16, BFloat16Pair, 1>::word(pair);
  }
};
#endif

// A word, of which depth d is 0 where bit d is.
template <class P>
inline P kept(P word, std::uint32_t bits) {
  return (bits & 1U) != 0 ? word : P{};
}
inline BFloat16Pair kept(BFloat16Pair word, std::uint32_t bits) {
  return {word.bits & ((bits & 1U) * 0xFFFFU | (bits >> 1 & 1U) * 0xFFFF0000U)};
}

// Sums plus the products of kW words of B with one of A.
template <class P, int kW>
struct Dot {
  typedef typename Lanes<P, kW>::V V;
  static V add(V sums, P a, V b) { return sums + a * b; }
};
#if defined(__AVX512BF16__)
template <>
struct Dot<BFloat16Pair, 16> {
  typedef typename Lanes<float, 16>::V Sums;
  typedef typename Lanes<BFloat16Pair, 16>::V V;
  static Sums add(Sums sums, BFloat16Pair a, V b) {
    return _mm512_dpbf16_ps(sums, (__m512bh)b, (__m512bh)(V{} + a.bits));
  }
};
#endif

}  // namespace
}  // namespace dropgemm::cpu
