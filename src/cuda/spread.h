// Compacted sums on their way to D: spread over the rows and columns that were kept, zeros (or what
// is owed to an output without sums) between them, every element of D written once.
#pragma once

#include "cuda/work.h"

namespace dropgemm::cuda {

// Kept rows or columns of a block of sums, and those of D that it writes.
struct SpreadRange {
  std::int32_t first = 0;           // kept ones before the block
  std::int32_t begin = 0, end = 0;  // of D

  // Of `size` kept ones from `first` on.
  DROPGEMM_DEVICE SpreadRange(const SpreadAxis& axis, std::int32_t extent, std::int32_t from,
                              std::int32_t size)
      : first(from) {
    const std::int32_t count = *axis.count;
    const auto place = [&](std::int32_t kept) {
      if (kept == 0) return 0;
      if (kept >= count) return extent;
      return axis.index != nullptr ? axis.index[kept] : kept;
    };
    begin = place(from), end = place(from + size);
  }
};

template <class E>
class Spread {
 public:
  using Sum = typename Number<E>::Sum;
  using Factors = typename Epilogue<E>::Factors;

  // Of a block of sums, of which sums(i, j) is the one of the block's row i and column j, for all
  // of `threads` threads: neighbours write what lies side by side, 16 bytes each where they can.
  template <class Sums>
  static DROPGEMM_DEVICE void write(const Product<E>& p, const Factors& factors,
                                    const SpreadRange& rows, const SpreadRange& cols,
                                    const Sums& sums, std::int32_t thread, std::int32_t threads) {
    const std::int32_t wide = p.epilogue.vectors ? kVector : 1;  // columns of a chunk
    const std::int32_t begin = cols.begin / wide, end = (cols.end + wide - 1) / wide;
    std::int32_t across = 1;
    while (across < end - begin && across < threads) across *= 2;
    const std::int32_t first_row = rows.begin + thread / across, row_step = threads / across;
    for (std::int32_t chunk = begin + thread % across; chunk < end; chunk += across) {
      const std::int32_t col = chunk * wide;
      if (wide > 1 && col >= cols.begin && col + wide <= cols.end) {
        const Columns<kVector> columns(p.cols, cols, col);
        for (std::int32_t row = first_row; row < rows.end; row += row_step) {
          write_vector(p, factors, columns, row, rows.first, sums);
        }
        continue;
      }
      // Not all of a chunk's columns are the block's.
      for (std::int32_t i = 0; i < wide; ++i) {
        if (col + i < cols.begin || col + i >= cols.end) continue;
        const Columns<1> column(p.cols, cols, col + i);
        for (std::int32_t row = first_row; row < rows.end; row += row_step) {
          write_element(p, factors, column, row, rows.first, sums);
        }
      }
    }
  }

 private:
  static constexpr std::int32_t kVector = Epilogue<E>::kVector;

  // Neighbouring columns.
  template <std::int32_t kWide>
  struct Columns {
    std::int32_t col;                    // the first
    std::int32_t at[kWide];              // in the block of sums, where there are any
    std::uint32_t kept = 0, summed = 0;  // bit by bit: not dropped, and has sums

    DROPGEMM_DEVICE Columns(const SpreadAxis& axis, const SpreadRange& cols, std::int32_t first)
        : col(first) {
      DROPGEMM_UNROLL
      for (std::int32_t i = 0; i < kWide; ++i) {
        const std::int32_t position = axis.position != nullptr ? axis.position[col + i] : col + i;
        kept |= position != kZero ? 1U << i : 0;
        summed |= position >= 0 ? 1U << i : 0;
        at[i] = position - cols.first;
      }
    }
  };

  // Of a row of D: where it has its sums, kNoSum or kZero.
  static DROPGEMM_DEVICE std::int32_t position_of(const SpreadAxis& rows, std::int32_t row) {
    return rows.position != nullptr ? rows.position[row] : row;
  }

  template <class Sums>
  static DROPGEMM_DEVICE void write_vector(const Product<E>& p, const Factors& factors,
                                           const Columns<kVector>& columns, std::int32_t row,
                                           std::int32_t first_row, const Sums& sums) {
    const std::int32_t position = position_of(p.rows, row);
    const std::uint32_t summed = position >= 0 ? columns.summed : 0;
    Sum values[kVector];
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kVector; ++i) {
      values[i] = (summed >> i & 1U) != 0 ? sums(position - first_row, columns.at[i]) : Sum(0);
    }
    p.epilogue.store(factors, values, position != kZero ? columns.kept : 0, row, columns.col);
  }

  template <class Sums>
  static DROPGEMM_DEVICE void write_element(const Product<E>& p, const Factors& factors,
                                            const Columns<1>& column, std::int32_t row,
                                            std::int32_t first_row, const Sums& sums) {
    const std::int32_t position = position_of(p.rows, row);
    if (position == kZero || column.kept == 0) return p.epilogue.store_zero(row, column.col);
    const bool summed = position >= 0 && column.summed != 0;
    const Sum sum = summed ? sums(position - first_row, column.at[0]) : Sum(0);
    p.epilogue.store(factors, sum, row, column.col);
  }
};

}  // namespace dropgemm::cuda
