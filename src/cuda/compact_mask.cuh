// Reading a mask line by line on the device, by ballot and popc.
#pragma once

#include "cuda/compact.h"
#include "cuda/mask_word.cuh"

namespace dropgemm::cuda {

// Bits 32 * word and on of a line, for all lanes of a warp, which call this together.
DROPGEMM_DEVICE std::uint32_t line_word(const MaskLines& mask, std::int64_t line, std::int64_t word,
                                        std::int32_t lane) {
  if (!mask.across) {
    return mask.bits[line * mask.row_words + word] & valid_bits(mask.tiles, word);
  }
  const std::int64_t tile = 32 * word + lane;
  const bool kept =
      tile < mask.tiles && (mask.bits[tile * mask.row_words + line / 32] >> (line % 32) & 1U) != 0;
  return ballot(kept);
}

// The bits below one of them.
DROPGEMM_DEVICE std::int32_t popc_below(std::uint32_t word, std::int32_t bit) {
  return popc(word & ((std::uint32_t{1} << bit) - 1));
}

// The sum of the lanes up to this one.
DROPGEMM_DEVICE std::int32_t sum_through(std::int32_t own, std::int32_t lane) {
  for (std::int32_t step = 1; step < kWarp; step *= 2) {
    const std::int32_t below = shuffle(own, lane < step ? 0 : lane - step);
    if (lane >= step) own += below;
  }
  return own;
}

// The sum over all threads of the block. `scratch` is one word of shared memory.
DROPGEMM_DEVICE std::int64_t sum_of_block(std::uint32_t own, const Block& block,
                                          std::uint32_t* scratch) {
  sync_block();
  if (block.thread == 0) *scratch = 0;
  sync_block();
  if (own != 0) atomic_add(scratch, own);
  sync_block();
  return static_cast<std::int64_t>(*scratch);
}

// The kept tiles of a line before tile 32 * word, by all threads of the block, as in the next.
DROPGEMM_DEVICE std::int64_t tiles_of_line_before(const MaskLines& mask, std::int64_t line,
                                                  std::int64_t word, const Block& block,
                                                  std::int32_t threads, std::uint32_t* scratch) {
  std::uint32_t own = 0;
  if (!mask.across) {
    const std::uint32_t* const row = mask.bits + line * mask.row_words;
    for (std::int64_t i = block.thread; i < word; i += threads) own += popc(row[i]);
  } else {
    for (std::int64_t t = block.thread; t < 32 * word; t += threads) {
      own += mask.bits[t * mask.row_words + line / 32] >> (line % 32) & 1U;
    }
  }
  return sum_of_block(own, block, scratch);
}

// The kept tiles before tile 32 * word of a line, in row-major order. line may be one past the
// last, with word 0.
DROPGEMM_DEVICE std::int64_t tiles_before(const MaskLines& mask, std::int64_t line,
                                          std::int64_t word, const Block& block,
                                          std::int32_t threads, std::uint32_t* scratch) {
  std::uint32_t own = 0;
  if (!mask.across) {
    for (std::int64_t i = block.thread; i < line * mask.row_words + word; i += threads) {
      own += popc(mask.bits[i] & valid_bits(mask.tiles, i % mask.row_words));
    }
  } else {
    const auto bit = static_cast<std::int32_t>(line % 32);
    for (std::int64_t t = block.thread; t < mask.tiles; t += threads) {
      const std::uint32_t* const row = mask.bits + t * mask.row_words;
      for (std::int64_t w = 0; w < line / 32; ++w) own += popc(row[w]);
      if (bit != 0) own += popc_below(row[line / 32], bit);
      if (t < 32 * word) own += row[line / 32] >> bit & 1U;
    }
  }
  return sum_of_block(own, block, scratch);
}

}  // namespace dropgemm::cuda
