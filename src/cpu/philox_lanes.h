// Internal: many Philox blocks at a time, in loops that a compiler turns into vector code. A word
// of a mask is 32 draws, which are 8 blocks; the functions here work on whole words.
// Included by mask.cc alone, which compiles it once for each instruction set.
#pragma once

#include <cstdint>

#include "dropgemm/philox.h"

namespace dropgemm::cpu {

constexpr int kLanes = 16;              // blocks at a time
constexpr int kLaneWords = kLanes / 8;  // words of a mask that they fill

// draw[w][i]: word w of block first_block + i.
struct LaneDraws {
  std::uint32_t draw[4][kLanes];
};

// The rounds of philox4x32_10 with the loop over blocks inside out. Spelt out again because the
// vectoriser wants scalars, not a struct of four words, to live across the rounds.
[[gnu::always_inline]] inline void draw_lanes(const DrawStream& stream, std::uint32_t first_block,
                                              LaneDraws* draws) {
  const std::uint32_t word1 = stream.index;
  const std::uint32_t word2 = stream.site;
  const std::uint32_t word3 = static_cast<std::uint32_t>(stream.domain) << 28 | stream.call;
  const auto seed0 = static_cast<std::uint32_t>(stream.seed);
  const auto seed1 = static_cast<std::uint32_t>(stream.seed >> 32);
#pragma omp simd
  for (int lane = 0; lane < kLanes; ++lane) {
    std::uint32_t c0 = first_block + static_cast<std::uint32_t>(lane);
    std::uint32_t c1 = word1, c2 = word2, c3 = word3, key0 = seed0, key1 = seed1;
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * c0;
      const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * c2;
      c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key0;
      c1 = static_cast<std::uint32_t>(product1);
      c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key1;
      c3 = static_cast<std::uint32_t>(product0);
      key0 += 0x9E3779B9U;
      key1 += 0xBB67AE85U;
    }
    draws->draw[0][lane] = c0;
    draws->draw[1][lane] = c1;
    draws->draw[2][lane] = c2;
    draws->draw[3][lane] = c3;
  }
}

// Bit 4 * b + w of each word: draw w of block b is at least `threshold`.
[[gnu::always_inline]] inline void threshold_words_body(const DrawStream& stream,
                                                        std::uint32_t first_block,
                                                        std::int64_t words, std::uint32_t threshold,
                                                        std::uint32_t* bits) {
  LaneDraws lanes;
  for (std::int64_t word = 0; word < words; word += kLaneWords) {
    draw_lanes(stream, first_block + static_cast<std::uint32_t>(word) * 8, &lanes);
    for (int part = 0; part < kLaneWords && word + part < words; ++part) {
      std::uint32_t packed = 0;
#pragma omp simd reduction(| : packed)
      for (int b = 0; b < 8; ++b) {
        const int lane = part * 8 + b;
        packed |= (static_cast<std::uint32_t>(lanes.draw[0][lane] >= threshold) |
                   static_cast<std::uint32_t>(lanes.draw[1][lane] >= threshold) << 1 |
                   static_cast<std::uint32_t>(lanes.draw[2][lane] >= threshold) << 2 |
                   static_cast<std::uint32_t>(lanes.draw[3][lane] >= threshold) << 3)
                  << (4 * b);
      }
      bits[word + part] = packed;
    }
  }
}

// The draws themselves: 32 a word, in order.
[[gnu::always_inline]] inline void draw_words_body(const DrawStream& stream,
                                                   std::uint32_t first_block, std::int64_t words,
                                                   std::uint32_t* draws) {
  LaneDraws lanes;
  for (std::int64_t word = 0; word < words; word += kLaneWords) {
    draw_lanes(stream, first_block + static_cast<std::uint32_t>(word) * 8, &lanes);
    for (int part = 0; part < kLaneWords && word + part < words; ++part) {
      for (int i = 0; i < 32; ++i) {
        draws[(word + part) * 32 + i] = lanes.draw[i % 4][part * 8 + i / 4];
      }
    }
  }
}

}  // namespace dropgemm::cpu
