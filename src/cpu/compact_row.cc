// Compaction of one row, for each instruction set: words of all or of nothing are runs; what is
// mixed, as in a row pattern, is squeezed together or spread out in registers where the processor
// can do that.
#include "cpu/compact_row.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa.h"
#include "dropgemm/bfloat16.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dropgemm::cpu {
namespace {

constexpr std::uint32_t kAll = ~std::uint32_t{0};

// ---- any processor ------------------------------------------------------------------------------

template <class T>
T* gather_bits(std::uint32_t word, const T* x, T* xc) {
  for (; word != 0; word &= word - 1) *xc++ = x[__builtin_ctz(word)];
  return xc;
}
template <class T>
const T* scatter_bits(std::uint32_t word, std::int64_t width, const T* xc, T* x) {
  std::fill_n(x, width, T(0));
  for (; word != 0; word &= word - 1) x[__builtin_ctz(word)] = *xc++;
  return xc;
}

template <class T>
std::int64_t gather_generic(const std::uint32_t* bits, std::int64_t cols, const T* x, T* xc,
                            std::int64_t /*room*/) {
  T* out = xc;
  for (std::int64_t j = 0; j < cols; j += 32) {
    const std::uint32_t word = bits[j / 32];
    if (word == kAll) {
      std::memcpy(out, x + j, 32 * sizeof(T));
      out += 32;
    } else {
      out = gather_bits(word, x + j, out);
    }
  }
  return out - xc;
}

template <class T>
std::int64_t scatter_generic(const std::uint32_t* bits, std::int64_t cols, const T* xc,
                             std::int64_t /*room*/, T* x) {
  const T* in = xc;
  for (std::int64_t j = 0; j < cols; j += 32) {
    const std::uint32_t word = bits[j / 32];
    if (word == kAll) {
      std::memcpy(x + j, in, 32 * sizeof(T));
      in += 32;
    } else {
      in = scatter_bits(word, std::min<std::int64_t>(32, cols - j), in, x + j);
    }
  }
  return in - xc;
}

#if defined(__x86_64__)

// ---- AVX-512: the instructions are there, and masked loads and stores touch no other lanes -----

#define DROPGEMM_AVX512 [[gnu::target("avx512f,avx512bw,avx512vl,avx512dq,popcnt,bmi")]]

constexpr std::uint32_t first_bits(std::int64_t count) { return (std::uint32_t{1} << count) - 1; }

DROPGEMM_AVX512 inline void squeeze(std::uint32_t mask, int kept, const float* x, float* xc) {
  const auto from = static_cast<__mmask16>(mask), to = static_cast<__mmask16>(first_bits(kept));
  _mm512_mask_storeu_ps(xc, to, _mm512_maskz_compress_ps(from, _mm512_maskz_loadu_ps(from, x)));
}
DROPGEMM_AVX512 inline void squeeze(std::uint32_t mask, int kept, const double* x, double* xc) {
  const auto from = static_cast<__mmask8>(mask), to = static_cast<__mmask8>(first_bits(kept));
  _mm512_mask_storeu_pd(xc, to, _mm512_maskz_compress_pd(from, _mm512_maskz_loadu_pd(from, x)));
}
// In 4-byte lanes: 2-byte ones are squeezed and spread by VBMI2 only.
DROPGEMM_AVX512 inline void squeeze(std::uint32_t mask, int kept, const BFloat16* x, BFloat16* xc) {
  const auto from = static_cast<__mmask16>(mask), to = static_cast<__mmask16>(first_bits(kept));
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(from, _mm256_maskz_loadu_epi16(from, x));
  _mm256_mask_storeu_epi16(
      xc, to, _mm512_maskz_cvtepi32_epi16(to, _mm512_maskz_compress_epi32(from, wide)));
}
DROPGEMM_AVX512 inline void spread(std::uint32_t mask, int kept, std::uint32_t valid,
                                   const BFloat16* xc, BFloat16* x) {
  const auto to = static_cast<__mmask16>(mask), from = static_cast<__mmask16>(first_bits(kept));
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(from, _mm256_maskz_loadu_epi16(from, xc));
  _mm256_mask_storeu_epi16(x, static_cast<__mmask16>(valid),
                           _mm512_maskz_cvtepi32_epi16(to, _mm512_maskz_expand_epi32(to, wide)));
}
DROPGEMM_AVX512 inline void spread(std::uint32_t mask, int kept, std::uint32_t valid,
                                   const float* xc, float* x) {
  const auto to = static_cast<__mmask16>(mask), from = static_cast<__mmask16>(first_bits(kept));
  _mm512_mask_storeu_ps(x, static_cast<__mmask16>(valid),
                        _mm512_maskz_expand_ps(to, _mm512_maskz_loadu_ps(from, xc)));
}
DROPGEMM_AVX512 inline void spread(std::uint32_t mask, int kept, std::uint32_t valid,
                                   const double* xc, double* x) {
  const auto to = static_cast<__mmask8>(mask), from = static_cast<__mmask8>(first_bits(kept));
  _mm512_mask_storeu_pd(x, static_cast<__mmask8>(valid),
                        _mm512_maskz_expand_pd(to, _mm512_maskz_loadu_pd(from, xc)));
}

template <class T>
DROPGEMM_AVX512 std::int64_t gather_avx512(const std::uint32_t* bits, std::int64_t cols, const T* x,
                                           T* xc, std::int64_t /*room*/) {
  constexpr int kLanes = sizeof(T) == 8 ? 8 : 16;
  T* out = xc;
  for (std::int64_t j = 0; j < cols; j += 32) {
    const std::uint32_t word = bits[j / 32];
    if (word == 0) continue;
    if (word == kAll) {
      std::memcpy(out, x + j, 32 * sizeof(T));
      out += 32;
      continue;
    }
    for (int lane = 0; lane < 32; lane += kLanes) {
      const std::uint32_t mask = word >> lane & first_bits(kLanes);
      const int kept = __builtin_popcount(mask);
      squeeze(mask, kept, x + j + lane, out);
      out += kept;
    }
  }
  return out - xc;
}

template <class T>
DROPGEMM_AVX512 std::int64_t scatter_avx512(const std::uint32_t* bits, std::int64_t cols,
                                            const T* xc, std::int64_t /*room*/, T* x) {
  constexpr int kLanes = sizeof(T) == 8 ? 8 : 16;
  const T* in = xc;
  for (std::int64_t j = 0; j < cols; j += 32) {
    const std::uint32_t word = bits[j / 32];
    if (word == kAll) {
      std::memcpy(x + j, in, 32 * sizeof(T));
      in += 32;
      continue;
    }
    const std::uint32_t valid = cols - j >= 32 ? kAll : first_bits(cols - j);
    for (int lane = 0; lane < 32; lane += kLanes) {
      const std::uint32_t mask = word >> lane & first_bits(kLanes);
      const int kept = __builtin_popcount(mask);
      spread(mask, kept, valid >> lane & first_bits(kLanes), in, x + j + lane);
      in += kept;
    }
  }
  return in - xc;
}

// ---- AVX2: permutations from a table, whole vectors where the row has room for them -------------

#define DROPGEMM_AVX2 [[gnu::target("avx2,popcnt,bmi")]]

// For each mask of eight 4-byte lanes, one lane number a byte: squeeze has the set lanes in order;
// spread has for each lane how many set ones are below it.
struct LaneTables {
  std::uint64_t squeeze[256];
  std::uint64_t spread[256];
};
constexpr LaneTables make_lane_tables() {
  LaneTables tables = {};
  for (int mask = 0; mask < 256; ++mask) {
    std::uint64_t kept = 0;
    for (int lane = 0; lane < 8; ++lane) {
      tables.spread[mask] |= kept << (8 * lane);
      if ((mask >> lane & 1) == 0) continue;
      tables.squeeze[mask] |= static_cast<std::uint64_t>(lane) << (8 * kept);
      ++kept;
    }
  }
  return tables;
}
constexpr LaneTables kLaneTables = make_lane_tables();

// The 4-byte lanes of a mask of elements.
template <class T>
constexpr std::uint32_t lanes_of(std::uint32_t mask) {
  if (sizeof(T) == 4) return mask;
  return (mask & 1) * 0x03 | (mask >> 1 & 1) * 0x0C | (mask >> 2 & 1) * 0x30 |
         (mask >> 3 & 1) * 0xC0;
}

DROPGEMM_AVX2 inline __m256i widen(std::uint64_t lane_numbers) {
  return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(lane_numbers)));
}
DROPGEMM_AVX2 inline void squeeze8(std::uint32_t lanes, const void* x, void* xc) {
  const __m256i all = _mm256_loadu_si256(static_cast<const __m256i*>(x));
  _mm256_storeu_si256(static_cast<__m256i*>(xc),
                      _mm256_permutevar8x32_epi32(all, widen(kLaneTables.squeeze[lanes])));
}
DROPGEMM_AVX2 inline void spread8(std::uint32_t lanes, const void* xc, void* x) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), bit);
  const __m256i all = _mm256_loadu_si256(static_cast<const __m256i*>(xc));
  const __m256i placed = _mm256_permutevar8x32_epi32(all, widen(kLaneTables.spread[lanes]));
  _mm256_storeu_si256(static_cast<__m256i*>(x),
                      _mm256_and_si256(placed, _mm256_cmpeq_epi32(set, bit)));
}

template <class T>
DROPGEMM_AVX2 std::int64_t gather_avx2(const std::uint32_t* bits, std::int64_t cols, const T* x,
                                       T* xc, std::int64_t room) {
  constexpr int kLanes = 32 / sizeof(T);
  T* out = xc;
  for (std::int64_t j = 0; j < cols; j += 32) {
    const std::uint32_t word = bits[j / 32];
    if (word == 0) continue;
    if (word == kAll) {
      std::memcpy(out, x + j, 32 * sizeof(T));
      out += 32;
    } else if (cols - j < 32 || xc + room - out < 32) {
      out = gather_bits(word, x + j, out);
    } else {
      for (int lane = 0; lane < 32; lane += kLanes) {
        const std::uint32_t mask = word >> lane & first_bits(kLanes);
        squeeze8(lanes_of<T>(mask), x + j + lane, out);
        out += __builtin_popcount(mask);
      }
    }
  }
  return out - xc;
}

template <class T>
DROPGEMM_AVX2 std::int64_t scatter_avx2(const std::uint32_t* bits, std::int64_t cols, const T* xc,
                                        std::int64_t room, T* x) {
  constexpr int kLanes = 32 / sizeof(T);
  const T* in = xc;
  for (std::int64_t j = 0; j < cols; j += 32) {
    const std::uint32_t word = bits[j / 32];
    if (word == kAll) {
      std::memcpy(x + j, in, 32 * sizeof(T));
      in += 32;
    } else if (cols - j < 32 || xc + room - in < 32) {
      in = scatter_bits(word, std::min<std::int64_t>(32, cols - j), in, x + j);
    } else {
      for (int lane = 0; lane < 32; lane += kLanes) {
        const std::uint32_t mask = word >> lane & first_bits(kLanes);
        spread8(lanes_of<T>(mask), in, x + j + lane);
        in += __builtin_popcount(mask);
      }
    }
  }
  return in - xc;
}
#endif

}  // namespace

template <class T>
RowKernels<T> row_kernels() {
#if defined(__x86_64__)
  if (isa_has("avx512")) return {gather_avx512<T>, scatter_avx512<T>};
  if constexpr (sizeof(T) >= 4) {
    if (isa_has("avx2")) return {gather_avx2<T>, scatter_avx2<T>};
  }
#endif
  return {gather_generic<T>, scatter_generic<T>};
}

template RowKernels<float> row_kernels<float>();
template RowKernels<double> row_kernels<double>();
template RowKernels<BFloat16> row_kernels<BFloat16>();

}  // namespace dropgemm::cpu
