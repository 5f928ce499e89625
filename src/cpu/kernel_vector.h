// kW lanes of T in the compiler's vector extensions: transposition, loads of elements that lie a
// small step apart, and lanes that are chosen by bits. Included by ISA files only: internal
// linkage, nothing of the standard library.
#pragma once

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "cpu/kernel.h"

namespace dropgemm::cpu {
namespace {

// What a vector of T has in its lanes, and integers of the same size.
template <class T>
struct LaneOf;
template <>
struct LaneOf<float> {
  typedef float Type;
  typedef std::int32_t Int;
  typedef std::uint32_t Unsigned;
};
template <>
struct LaneOf<double> {
  typedef double Type;
  typedef std::int64_t Int;
  typedef std::uint64_t Unsigned;
};
template <>
struct LaneOf<BFloat16> {
  typedef std::uint16_t Type;
  typedef std::int16_t Int;
  typedef std::uint16_t Unsigned;
};
template <>
struct LaneOf<BFloat16Pair> {
  typedef std::uint32_t Type;
  typedef std::int32_t Int;
  typedef std::uint32_t Unsigned;
};

// lane[bits][i]: how many of the bits below i are 1, for vectors of up to 8 lanes.
struct ExpandTable {
  std::uint8_t lane[256][8];
  constexpr ExpandTable() : lane() {
    for (int bits = 0; bits < 256; ++bits) {
      for (int i = 1; i < 8; ++i) {
        lane[bits][i] = static_cast<std::uint8_t>(lane[bits][i - 1] + (bits >> (i - 1) & 1));
      }
    }
  }
};
constexpr ExpandTable kExpand{};

template <class T, int kW>
struct Lanes {
  typedef typename LaneOf<T>::Type Lane;
  typedef typename LaneOf<T>::Int Int;
  typedef Lane V __attribute__((vector_size(kW * static_cast<int>(sizeof(T)))));
  typedef Int Index __attribute__((vector_size(sizeof(V))));
  typedef typename LaneOf<T>::Unsigned Unsigned;
  typedef Unsigned Bits __attribute__((vector_size(sizeof(V))));

  static V load(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof(V));
    return v;
  }
  static void put(T* p, V v) { __builtin_memcpy(p, &v, sizeof(V)); }

  // Around the cache where the ISA can and `around` is set; p lies in whole vectors then.
  static void put(T* p, V v, [[maybe_unused]] bool around) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64) {
      if (around) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(V) == 32) {
      if (around) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
    }
#endif
    put(p, v);
  }

  // The first `count` lanes, and zeros; the memory behind the rest is left alone.
  static V load_some(const T* p, int count) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4) {
      return (V)_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << count) - 1), p);
    }
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8) {
      return (V)_mm512_maskz_loadu_epi64(static_cast<__mmask8>((1U << count) - 1), p);
    }
    if constexpr (sizeof(V) == 32 && sizeof(T) == 2) {
      return (V)_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << count) - 1), p);
    }
#endif
    T line[kW] = {};
    for (int i = 0; i < count; ++i) line[i] = p[i];
    return load(line);
  }
  static void put_some(T* p, V v, int count) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4) {
      return _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1U << count) - 1), (__m512i)v);
    }
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8) {
      return _mm512_mask_storeu_epi64(p, static_cast<__mmask8>((1U << count) - 1), (__m512i)v);
    }
    if constexpr (sizeof(V) == 32 && sizeof(T) == 2) {
      return _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1U << count) - 1), (__m256i)v);
    }
#endif
    T line[kW];
    put(line, v);
    for (int i = 0; i < count; ++i) p[i] = line[i];
  }

  // Lanes whose bit is 1, and zeros.
  static V keep(V v, std::uint32_t bits) {
    Bits lane;
#pragma GCC unroll 16
    for (int i = 0; i < kW; ++i) lane[i] = static_cast<Unsigned>(Unsigned{1} << i);
    return ((Bits{} + static_cast<Unsigned>(bits)) & lane) != 0 ? v : V{};
  }

  // ---- transposition --------------------------------------------------------------------------

  template <int kStep>
  static void exchange(V* r) {
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
  // kW vectors in place: log2(kW) rounds of exchanging halves.
  static void transpose(V* r) {
    exchange<1>(r);
    if constexpr (kW > 2) exchange<2>(r);
    if constexpr (kW > 4) exchange<4>(r);
    if constexpr (kW > 8) exchange<8>(r);
  }

  // ---- elements apart -------------------------------------------------------------------------

  // p[0], p[kStep], p[2 kStep], ...: vectors side by side over all that lies between, of which
  // each gives its lanes. Reads nothing past the last element: the last vector ends with it.
  template <int kStep>
  static V load_apart(const T* p) {
    V r = load(p);
    if constexpr (kStep > 1) pick<kStep, 1>(p, &r);
    return r;
  }
  static V load_apart(const T* p, std::int64_t step) {
    static_assert(kMaxStep == 8, "one case a step");
    switch (step) {
      case 1:
        return load_apart<1>(p);
      case 2:
        return load_apart<2>(p);
      case 3:
        return load_apart<3>(p);
      case 4:
        return load_apart<4>(p);
      case 5:
        return load_apart<5>(p);
      case 6:
        return load_apart<6>(p);
      case 7:
        return load_apart<7>(p);
      case 8:
        return load_apart<8>(p);
      default: {
        T line[kW];
        for (int i = 0; i < kW; ++i) line[i] = p[i * step];
        return load(line);
      }
    }
  }

  // Lanes whose bit is 1 are those of v in turn, the others 0.
  static V expand(V v, std::uint32_t bits) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4) {
      return (V)_mm512_maskz_expand_epi32(static_cast<__mmask16>(bits), (__m512i)v);
    }
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8) {
      return (V)_mm512_maskz_expand_epi64(static_cast<__mmask8>(bits), (__m512i)v);
    }
#endif
    if constexpr (kW <= 8) {
      const std::uint8_t* lane = kExpand.lane[bits & ((1U << kW) - 1)];
      Index from;
#pragma GCC unroll 8
      for (int i = 0; i < kW; ++i) from[i] = lane[i];
      return keep(__builtin_shuffle(v, from), bits);
    } else {
      T line[kW], out[kW] = {};
      put(line, v);
      for (int i = 0, from = 0; i < kW; ++i) {
        if ((bits >> i & 1U) != 0) out[i] = line[from++];
      }
      return load(out);
    }
  }

 private:
  // Lanes whose elements lie in the kVector-th vector's share of what is read.
  template <int kStep, int kVector>
  static void pick(const T* p, V* r) {
    constexpr int kLast = (kW - 1) * (kStep - 1);  // where the last vector may begin
    constexpr int kBegin = kVector * kW < kLast ? kVector * kW : kLast;
    constexpr bool kAny = (kVector * kW + kStep - 1) / kStep * kStep < kVector * kW + kW;
    Index from;
#pragma GCC unroll 16
    for (int i = 0; i < kW; ++i) {
      const int at = i * kStep;
      from[i] = at / kW == kVector ? kW + at - kBegin : kVector == 1 && at < kW ? at : i;
    }
    if constexpr (kAny) *r = __builtin_shuffle(*r, load(p + kBegin), from);
    if constexpr (kVector + 1 < kStep) pick<kStep, kVector + 1>(p, r);
  }
};

}  // namespace
}  // namespace dropgemm::cpu
