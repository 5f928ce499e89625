// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and how
// this library spends its counter: a mask bit is a pure function of (seed, domain, site, index,
// call, tile), the same on every backend and in every framework.
//
//   key     = (seed low 32, seed high 32)
//   counter = (tile / 4, index, site, domain << 28 | call), the draw is word tile % 4
//   index   = the training step, or the subnet id (gyro); low 32 bits
//   tile    = for one row of tiles its column; row i of a mask starts at i * 4 * ceil(columns / 4)
//
// Bernoulli: a tile is kept iff its draw >= floor(p * 2^32), compared in 64 bits.
// Exact: the k tiles with the smallest draws are kept, ties to the lower tile.
// Pattern: index is the step, tile 0. period = 1 + #{i : kPattern's draw >= t[i]} for thresholds
//   t[i] = floor(2^32 * P(period <= i + 1)); offset = kOffset's draw * period >> 32, in 64 bits.
#pragma once

#include <array>
#include <cstdint>

#include "dropgemm/host_device.h"

namespace dropgemm {

// What a draw is for: keeps streams of different uses apart.
enum class Domain : std::uint32_t {
  kBits = 1,       // one bit per tile
  kExact = 2,      // sort keys of an exact draw
  kSubnetIds = 3,  // sort keys of order="random"
  kPattern = 4,    // the period of a pattern
  kOffset = 5,     // the offset of a pattern
};

constexpr std::int64_t kMaxCall = (std::int64_t{1} << 28) - 1;
constexpr std::int64_t kMaxSite = (std::int64_t{1} << 32) - 1;
constexpr std::int64_t kMaxStep = (std::int64_t{1} << 32) - 1;
constexpr std::int64_t kMaxDraws = std::int64_t{1} << 34;

struct PhiloxBlock {
  std::uint32_t word[4];
};

// The ten rounds, for a counter of four words and a key of two.
DROPGEMM_HOST_DEVICE constexpr PhiloxBlock philox4x32_10(PhiloxBlock counter, std::uint32_t key0,
                                                         std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter.word[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

// One stream of draws: everything of the counter but the tile.
struct DrawStream {
  std::uint64_t seed = 0;
  Domain domain = Domain::kBits;
  std::uint32_t site = 0;
  std::uint32_t index = 0;
  std::uint32_t call = 0;

  // Draws 4 * block .. 4 * block + 3.
  DROPGEMM_HOST_DEVICE constexpr PhiloxBlock block(std::uint32_t block_index) const {
    return philox4x32_10(
        {{block_index, index, site, static_cast<std::uint32_t>(domain) << 28 | call}},
        static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  }
  DROPGEMM_HOST_DEVICE constexpr std::uint32_t draw(std::uint64_t tile) const {
    return block(static_cast<std::uint32_t>(tile / 4)).word[tile % 4];
  }
};

// A Bernoulli draw keeps iff draw >= threshold; p = 1 keeps nothing, p = 0 everything.
DROPGEMM_HOST_DEVICE constexpr std::uint64_t drop_threshold(double p) {
  return static_cast<std::uint64_t>(p * 4294967296.0);
}

}  // namespace dropgemm
