// The smallest of a stream's draws, found by all threads of a block together: a radix selection
// that draws again in each pass instead of keeping draws anywhere.
#pragma once

#include "cuda/device.h"
#include "dropgemm/philox.h"

namespace dropgemm::cuda {

// Ties go to the lower index, so what is compared is (draw, index) as one number.
DROPGEMM_DEVICE std::uint64_t draw_key(std::uint32_t draw, std::uint32_t index) {
  return std::uint64_t{draw} << 32 | index;
}

// The numbers whose upper bits, all but the last `shift`, are at most `prefix`.
struct Cutoff {
  std::uint64_t prefix = 0;
  std::int32_t shift = 0;
  [[nodiscard]] DROPGEMM_DEVICE bool holds(std::uint64_t key) const {
    return key >> shift <= prefix;
  }
};

// What a block needs of shared memory for a selection.
struct SelectScratch {
  static constexpr std::int32_t kBins = 256;
  std::uint32_t bins[kBins];
  std::uint32_t byte, before, inside;
};

// The byte at which the sum of the bins reaches `wanted`, by the first warp.
DROPGEMM_DEVICE void find_bin(const Block& block, SelectScratch* scratch, std::uint32_t wanted) {
  constexpr std::int32_t kEach = SelectScratch::kBins / kWarp;
  const std::int32_t first = kEach * block.lane();
  std::uint32_t own = 0;
  for (std::int32_t i = 0; i < kEach; ++i) own += scratch->bins[first + i];
  std::uint32_t through = own;  // of the lanes up to this one
  for (std::int32_t step = 1; step < kWarp; step *= 2) {
    const std::int32_t from = block.lane() - step;
    const std::uint32_t below = shuffle(through, from < 0 ? 0 : from);
    if (from >= 0) through += below;
  }
  std::uint32_t before = through - own;
  if (before >= wanted || through < wanted) return;  // another lane's
  std::int32_t bin = first;
  while (before + scratch->bins[bin] < wanted) before += scratch->bins[bin++];
  scratch->byte = static_cast<std::uint32_t>(bin);
  scratch->before = before;
  scratch->inside = scratch->bins[bin];
}

// The cutoff that holds the `wanted` smallest of distinct keys of `bits` bits, of which there are
// at least so many; with `alone`, its prefix is the largest of them. visit(sink) calls sink(key)
// for each key that is this thread's to look at. All threads of the block call this, and all get
// the result.
template <class Visit>
DROPGEMM_DEVICE Cutoff smallest(const Block& block, std::int32_t threads, SelectScratch* scratch,
                                std::int32_t bits, std::uint32_t wanted, bool alone,
                                const Visit& visit) {
  Cutoff cutoff;
  for (cutoff.shift = bits - 8;; cutoff.shift -= 8) {
    sync_block();
    for (std::int32_t i = block.thread; i < SelectScratch::kBins; i += threads) {
      scratch->bins[i] = 0;
    }
    sync_block();
    visit([&](std::uint64_t key) {
      const std::uint64_t upper = key >> cutoff.shift;
      if (upper >> 8 == cutoff.prefix) atomic_add(&scratch->bins[upper & 255U], std::uint32_t{1});
    });
    sync_block();
    if (block.warp() == 0) find_bin(block, scratch, wanted);
    sync_block();
    cutoff.prefix = cutoff.prefix << 8 | scratch->byte;
    wanted -= scratch->before;
    const bool all_of_them = scratch->inside == wanted && !alone;
    if (all_of_them || cutoff.shift == 0) return cutoff;
  }
}

// The cutoff of the `keep` smallest of a stream's first `count` draws, 0 < keep <= count < 2^32.
DROPGEMM_DEVICE Cutoff smallest_draws(const Block& block, std::int32_t threads,
                                      SelectScratch* scratch, const DrawStream& stream,
                                      std::uint32_t count, std::uint32_t keep) {
  return smallest(block, threads, scratch, 64, keep, false, [&](const auto& sink) {
    for (std::uint64_t first = 4 * static_cast<std::uint64_t>(block.thread); first < count;
         first += 4 * static_cast<std::uint64_t>(threads)) {
      const PhiloxBlock draws = stream.block(static_cast<std::uint32_t>(first / 4));
      for (std::uint32_t i = 0; i < 4 && first + i < count; ++i) {
        sink(draw_key(draws.word[i], static_cast<std::uint32_t>(first) + i));
      }
    }
  });
}

// The index of the draw that `rank` of those that the cutoff holds come before.
DROPGEMM_DEVICE std::uint32_t index_of_rank(const Block& block, std::int32_t threads,
                                            SelectScratch* scratch, const DrawStream& stream,
                                            std::uint32_t count, const Cutoff& cutoff,
                                            std::uint32_t rank) {
  const Cutoff last = smallest(block, threads, scratch, 32, rank + 1, true, [&](const auto& sink) {
    for (std::uint64_t first = 4 * static_cast<std::uint64_t>(block.thread); first < count;
         first += 4 * static_cast<std::uint64_t>(threads)) {
      const PhiloxBlock draws = stream.block(static_cast<std::uint32_t>(first / 4));
      for (std::uint32_t i = 0; i < 4 && first + i < count; ++i) {
        const std::uint32_t index = static_cast<std::uint32_t>(first) + i;
        if (cutoff.holds(draw_key(draws.word[i], index))) sink(index);
      }
    }
  });
  return static_cast<std::uint32_t>(last.prefix);
}

}  // namespace dropgemm::cuda
