// The kernel that moves kept tiles. A block counts for itself what is kept before its 32 tiles, so
// that no block waits for another; a mask of tiles has few words.
#pragma once

#include "cuda/compact_mask.cuh"

namespace dropgemm::cuda {

// Moves tile (line, tile) to or from its place, by the lanes of a warp.
template <class E>
DROPGEMM_DEVICE void move_tile(const CompactParams<E>& params, std::int64_t line, std::int64_t tile,
                               bool moves, std::int64_t place, std::int32_t lane) {
  if (params.gathers && !moves) return;
  const std::int64_t tall = params.tile_rows, wide = params.tile_cols;
  for (std::int64_t e = lane; e < tall * wide; e += kWarp) {
    const std::int64_t a = params.lanes_along_row ? e / wide : e % tall;
    const std::int64_t b = params.lanes_along_row ? e % wide : e / tall;
    const std::int64_t i = line * tall + a, j = tile * wide + b;
    const bool inside = i < params.rows && j < params.cols;  // tiles clip at the edges
    E* const x = params.x + i * params.row_stride + j * params.col_stride;
    E* const xc = params.xc + (place * tall + a) * params.xc_row_stride + b * params.xc_col_stride;
    if (params.gathers) {
      *xc = inside ? *x : E(0);
    } else if (inside) {
      *x = moves ? *xc : E(0);
    }
  }
}

template <class E>
DROPGEMM_DEVICE void CompactTilesKernel<E>::run(const Params& params, const Block& block) {
  constexpr std::int32_t kWarps = kThreads / kWarp;
  auto* const scratch = reinterpret_cast<std::uint32_t*>(block.shared);
  const MaskLines& mask = params.mask;
  const std::int64_t words = (mask.tiles + 31) / 32;
  for (std::int64_t item = block.index; item < mask.lines * words; item += block.count) {
    const std::int64_t line = item / words, word = item % words;
    const std::int64_t before = tiles_before(mask, line, word, block, kThreads, scratch);
    const std::uint32_t bits = line_word(mask, line, word, block.lane());
    for (std::int32_t bit = block.warp(); bit < 32 && 32 * word + bit < mask.tiles; bit += kWarps) {
      const std::int64_t place = before + popc_below(bits, bit);
      const bool moves = (bits >> bit & 1U) != 0 && place < params.size;
      move_tile(params, line, 32 * word + bit, moves, place, block.lane());
    }
  }
  if (!params.gathers) return;
  const std::int64_t kept = tiles_before(mask, mask.lines, 0, block, kThreads, scratch);
  const std::int64_t wide = params.tile_cols, begin = kept * params.tile_rows * wide;
  const std::int64_t end = params.size * params.tile_rows * wide;
  for (std::int64_t e = begin + std::int64_t{block.index} * kThreads + block.thread; e < end;
       e += std::int64_t{block.count} * kThreads) {
    params.xc[e / wide * params.xc_row_stride + e % wide * params.xc_col_stride] = E(0);
  }
}

}  // namespace dropgemm::cuda
