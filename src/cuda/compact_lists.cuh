// The kernel that moves the kept elements of rows. A block reads the bits of a line 256 words at a
// time, counts what is kept before each word, and so knows the place of every element without
// waiting for another block.
#pragma once

#include "cuda/compact_mask.cuh"

namespace dropgemm::cuda {

// Words of a line and how many tiles are kept before each of them, among those in hand.
struct LineChunk {
  static constexpr std::int32_t kWords = 256;
  static constexpr std::int32_t kWarps = kWords / kWarp;
  std::uint32_t words[kWords];
  std::int32_t before[kWords];
  std::int32_t totals[kWarps];
  std::uint32_t scratch;

  // By all threads of a block of kWords; a word past the line's last is 0.
  DROPGEMM_DEVICE void read(const MaskLines& mask, std::int64_t line, std::int64_t first,
                            const Block& block) {
    const std::int64_t end = (mask.tiles + 31) / 32;
    const std::int64_t begin = first + block.warp() * kWarp;
    const std::int32_t lane = block.lane();
    std::uint32_t own = 0;
    if (!mask.across) {
      if (begin + lane < end) own = line_word(mask, line, begin + lane, lane);
    } else {
      for (std::int32_t i = 0; i < kWarp && begin + i < end; ++i) {
        const std::uint32_t word = line_word(mask, line, begin + i, lane);
        if (i == lane) own = word;
      }
    }
    const std::int32_t through = sum_through(popc(own), lane);
    sync_block();  // nobody is still at the words before these
    words[block.thread] = own;
    before[block.thread] = through - popc(own);
    if (lane == kWarp - 1) totals[block.warp()] = through;
    sync_block();
  }
  // Kept tiles before a word of the chunk; of the whole chunk for kWords.
  [[nodiscard]] DROPGEMM_DEVICE std::int64_t kept_before(std::int32_t word) const {
    std::int64_t sum = word < kWords ? before[word] : 0;
    for (std::int32_t w = 0; w < word / kWarp; ++w) sum += totals[w];
    return sum;
  }
};

// What a thread moves of a chunk: rows begin, begin + step, ... below end; columns likewise.
struct Share {
  std::int64_t row, row_end, col;
  std::int32_t row_step, col_step;
};

// Moves the elements of the columns under a chunk, of which `kept` tiles come before.
template <class E>
DROPGEMM_DEVICE void move_chunk(const CompactParams<E>& params, const LineChunk& chunk,
                                std::int64_t first, std::int64_t kept, const Share& share) {
  const std::int64_t begin = 32 * first * params.tile_cols;
  const std::int64_t span = 32 * LineChunk::kWords * params.tile_cols;
  const std::int64_t end = params.cols - begin < span ? params.cols : begin + span;
  for (std::int64_t j = begin + share.col; j < end; j += share.col_step) {
    const std::int64_t tile = j / params.tile_cols;
    const auto at = static_cast<std::int32_t>(tile / 32 - first);
    const auto bit = static_cast<std::int32_t>(tile % 32);
    const std::uint32_t word = chunk.words[at];
    const std::int64_t before = kept + chunk.kept_before(at);
    const std::int64_t place =
        (before + popc_below(word, bit)) * params.tile_cols + j % params.tile_cols;
    const bool moves = (word >> bit & 1U) != 0 && place < params.size;
    if (params.gathers && !moves) continue;
    for (std::int64_t i = share.row; i < share.row_end; i += share.row_step) {
      E* const x = params.x + i * params.row_stride + j * params.col_stride;
      E* const xc = params.xc + i * params.xc_row_stride + place * params.xc_col_stride;
      if (params.gathers) {
        *xc = *x;
      } else {
        *x = moves ? *xc : E(0);
      }
    }
  }
}

template <class E>
DROPGEMM_DEVICE void CompactListsKernel<E>::run(const Params& params, const Block& block) {
  static_assert(sizeof(LineChunk) == kSharedBytes && LineChunk::kWords == kChunkWords);
  auto* const chunk = reinterpret_cast<LineChunk*>(block.shared);
  const std::int64_t words = (params.mask.tiles + 31) / 32;
  const std::int64_t part_rows = (params.tile_rows + params.parts - 1) / params.parts;
  const std::int64_t items = params.mask.lines * params.parts * params.spans;
  for (std::int64_t item = block.index; item < items; item += block.count) {
    const std::int64_t rows_item = item / params.spans, span = item % params.spans;
    const std::int64_t line = rows_item / params.parts, line_end = (line + 1) * params.tile_rows;
    const std::int64_t begin = line * params.tile_rows + rows_item % params.parts * part_rows;
    std::int64_t end = begin + part_rows < line_end ? begin + part_rows : line_end;
    if (end > params.rows) end = params.rows;
    constexpr std::int32_t kWarps = kThreads / kWarp;
    const bool along = params.lanes_along_row;
    const Share share = {begin + (along ? block.warp() : block.lane()), end,
                         along ? block.lane() : block.warp(), along ? kWarps : kWarp,
                         along ? kWarp : kWarps};
    const std::int64_t span_begin = span * params.span_words;
    const std::int64_t span_end = span + 1 < params.spans ? span_begin + params.span_words : words;
    std::int64_t kept = span == 0 ? 0
                                  : tiles_of_line_before(params.mask, line, span_begin, block,
                                                         kThreads, &chunk->scratch);
    bool keeps_last = false;
    for (std::int64_t first = span_begin; first < span_end; first += LineChunk::kWords) {
      chunk->read(params.mask, line, first, block);
      move_chunk(params, *chunk, first, kept, share);
      kept += chunk->kept_before(LineChunk::kWords);
      const std::int64_t last = params.mask.tiles - 1 - 32 * first;
      keeps_last =
          last < 32 * LineChunk::kWords && (chunk->words[last / 32] >> (last % 32) & 1U) != 0;
    }
    if (!params.gathers || span + 1 < params.spans) continue;
    // The last tile may clip at the edge.
    std::int64_t filled = kept * params.tile_cols;
    if (keeps_last) filled -= params.mask.tiles * params.tile_cols - params.cols;
    for (std::int64_t q = filled + share.col; q < params.size; q += share.col_step) {
      for (std::int64_t i = share.row; i < end; i += share.row_step) {
        params.xc[i * params.xc_row_stride + q * params.xc_col_stride] = E(0);
      }
    }
  }
}

}  // namespace dropgemm::cuda
