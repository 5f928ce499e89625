// Compaction (Song et al., 2018, section 3): the kept rows, columns or tiles of a matrix, gathered
// into a smaller dense one, and scattered back. A product takes masks and needs none of this; it
// is for code that would rather hand small dense matrices to something else.
#pragma once

#include <cstdint>

#include "dropgemm/context.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"
#include "dropgemm/tile_mask.h"

namespace dropgemm {

// What is moved together, and the shape of the compact side, xc, of x [rows, cols]:
//   kCols   xc [rows, size]: row i is the kept elements of row i in order, as the mask's tile row
//           over it says, so every row group has its own columns
//   kRows   xc [size, cols]: the same of the transposed matrix
//   kTiles  xc [size * tile_rows, tile_cols]: the kept tiles one under the other, in row-major
//           order of tiles; tiles that clip at the edges are padded with zeros
// What is not filled, up to size, is zeros.
enum class CompactAxis : std::int32_t { kRows = 0, kCols = 1, kTiles = 2 };

// The least and the most that is kept: elements of a row (kCols) or of a column (kRows) over all of
// them, or tiles (kTiles: both are their number). 0 where there is nothing to keep. Reads the bits
// on the host.
// Errors: kInvalidArgument for the mask, padding bits that are not 0, the axis, or a null least or
// most.
[[nodiscard]] Status kept_count(const TileMaskView& mask, CompactAxis axis, std::int64_t* least,
                                std::int64_t* most);

struct CompactArgs {
  ConstMatrixView x;
  MatrixView xc;
  TileMaskView mask;  // of x
  CompactAxis axis = CompactAxis::kCols;
};

struct ExpandArgs {
  ConstMatrixView xc;
  MatrixView x;
  TileMaskView mask;  // of x
  CompactAxis axis = CompactAxis::kCols;
};

// Gathers x into xc, every element of which is written. What a dropped tile of x holds never moves.
// Scatters xc into x, every element of which is written: dropped ones are exactly 0. What xc holds
// past the kept elements, or in the padding of a tile, is ignored. So expand(compact(x)) is x .
// mask to the bit, and each is the other's derivative.
//
// Any strides on either side, one dtype. Allocates nothing. Asynchronous on ctx.stream.
// Errors, before anything is written: kInvalidArgument (operand, expected, got), among them a size
// that holds less than kept_count() says ("size: expected at least 12, got 8", of expand "xc:
// expected a size of at least 12, got 8") and padding bits that are not 0, where the bits lie on
// the host; kInvalidType (mixed or unknown dtypes). Defined by src/reference/compact.cc.
[[nodiscard]] Status compact(const Context& ctx, const CompactArgs& args);
[[nodiscard]] Status expand(const Context& ctx, const ExpandArgs& args);

}  // namespace dropgemm
