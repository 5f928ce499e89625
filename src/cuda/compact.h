// Internal: compaction on the device, and the kernels that do it (compact.cuh).
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "dropgemm/backend.h"

namespace dropgemm::cuda {

std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error);
std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error);

// A mask as lines of tiles, one a row of tiles of the array that is moved. `across`: the bits of a
// line lie one below the other, since they are the transposed array's.
struct MaskLines {
  const std::uint32_t* bits;
  std::int64_t lines, tiles;  // of a line
  std::int64_t row_words;     // of the bits as they lie
  bool across;
};

// x and its compact side, of elements that move as they are: E is std::uint16_t, 32 or 64. Rows
// are lines of the mask; what runs the other way has been transposed.
template <class E>
struct CompactParams {
  MaskLines mask;
  std::int64_t tile_rows, tile_cols;
  E* x;
  std::int64_t rows, cols, row_stride, col_stride;
  E* xc;
  std::int64_t xc_row_stride, xc_col_stride;
  std::int64_t size;     // elements of a compact row, or tiles
  bool gathers;          // else x is written
  bool lanes_along_row;  // else along columns, where x has its neighbours there
  std::int64_t parts;    // that the rows of a line are shared out in
  std::int64_t spans;    // that its words are, span_words each, where there are few rows
  std::int64_t span_words;
};

// Kept elements of each row. A block some rows of a line, which it walks from end to end, or a span
// of it, before which it counts what is kept.
template <class E>
struct CompactListsKernel {
  using Params = CompactParams<E>;
  static constexpr const char* kName = "compact_lists";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int64_t kPartRows = 64;
  static constexpr std::int64_t kChunkWords = kThreads;  // which it has in hand at a time
  static constexpr std::int32_t kSharedBytes = (2 * kThreads + kThreads / kWarp + 1) * 4;
  DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
};

// Kept tiles. A block 32 of a line at a time.
template <class E>
struct CompactTilesKernel {
  using Params = CompactParams<E>;
  static constexpr const char* kName = "compact_tiles";
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kSharedBytes = 4;
  DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
};

}  // namespace dropgemm::cuda
