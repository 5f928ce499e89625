// The kernels that prepare operands.
#pragma once

#include "cuda/prepare.h"

namespace dropgemm::cuda {

// What becomes of a position that is not among the kept ones; 0 for those that are.
DROPGEMM_DEVICE std::int32_t state_of(const KeptAxis& axis, std::int32_t position) {
  if (!axis.other.kept(position, 0)) return axis.other_is_d ? kZero : kNoSum;
  return axis.operand.kept(position, 0) ? 0 : kNoSum;
}

// The sum over all threads of the block, which may come here again.
DROPGEMM_DEVICE std::int32_t sum_of_block(std::int32_t mine, const Block& block,
                                          std::int32_t* sum) {
  sync_block();
  if (block.thread == 0) *sum = 0;
  sync_block();
  if (mine != 0) atomic_add(sum, mine);
  sync_block();
  return *sum;
}

DROPGEMM_DEVICE void KeptAxesKernel::run(const Params& p, const Block& block) {
  constexpr std::int32_t kWarps = kThreads / kWarp;
  auto* const counts = reinterpret_cast<std::int32_t*>(block.shared);  // [kWarps], and a sum
  const KeptAxis& axis = p.axes[block.index % 3];
  const std::int32_t first = block.index / 3 * kPart;
  if (axis.index == nullptr) {
    if (first == 0 && block.thread == 0) *axis.count = axis.extent;
    return;
  }
  if (first >= axis.extent && first > 0) return;
  const std::int32_t last = axis.extent - first < kPart ? axis.extent : first + kPart;
  std::int32_t mine = 0;
  for (std::int32_t i = block.thread; i < first; i += kThreads) mine += state_of(axis, i) == 0;
  std::int32_t written = first == 0 ? 0 : sum_of_block(mine, block, counts + kWarps);
  for (std::int32_t begin = first; begin < last; begin += kThreads) {
    const std::int32_t i = begin + block.thread;
    const std::int32_t state = i < last ? state_of(axis, i) : kZero;
    const std::uint32_t word = ballot(state == 0);
    if (block.lane() == 0) counts[block.warp()] = popc(word);
    sync_block();
    std::int32_t before = written;
    for (std::int32_t w = 0; w < kWarps; ++w) {
      if (w < block.warp()) before += counts[w];
      written += counts[w];
    }
    const std::int32_t at = before + popc(word & ((1U << block.lane()) - 1));
    if (state == 0) axis.index[at] = i;
    if (i < last) axis.position[i] = state == 0 ? at : state;
    sync_block();
  }
  if (last == axis.extent && block.thread == 0) *axis.count = written;
}

// A copy as rows of contiguous places.
template <class E>
struct CopyRows {
  const OperandCopy<E>& copy;
  bool by_lines;             // rows are lines
  std::int32_t rows, width;  // with the zeros behind the last depth
  std::int32_t lines, depth;

  DROPGEMM_DEVICE explicit CopyRows(const OperandCopy<E>& c)
      : copy(c), by_lines(c.depth_stride == 1), rows(0), width(0),
        lines(c.line_count != nullptr ? *c.line_count : c.lines),
        depth(c.depth_count != nullptr ? *c.depth_count : c.depth) {
    // Not past the extent, which the copy has room for.
    std::int32_t padded = (depth + c.granule - 1) / c.granule * c.granule;
    if (c.depth_count == nullptr || padded > c.depth) padded = c.depth;
    rows = by_lines ? lines : padded;
    width = by_lines ? padded : lines;
  }

  // A place of a row, and of the array it comes from; negative where zeros belong.
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t source(bool of_line, std::int32_t i) const {
    if (i >= (of_line ? lines : depth)) return -1;
    const std::int32_t* const index = of_line ? copy.line_index : copy.depth_index;
    return index != nullptr ? index[i] : i;
  }
  [[nodiscard]] DROPGEMM_DEVICE E load(std::int32_t row, std::int32_t place) const {
    const std::int32_t line = by_lines ? row : place, k = by_lines ? place : row;
    if (row < 0 || place < 0 || !copy.mask.kept(line, k)) return Number<E>::store(0);
    return copy.from.data[line * copy.from.line_stride + k * copy.from.depth_stride];
  }
};

template <class E>
struct alignas(8) CopyVector {
  E elements[CopyKernel<E>::kWide];
};

// kRows rows from `first` on, by a block.
template <class E>
DROPGEMM_DEVICE void copy_rows(const CopyRows<E>& rows, std::int32_t first, std::int32_t thread) {
  using Kernel = CopyKernel<E>;
  constexpr std::int32_t kRows = Kernel::kRows, kWide = Kernel::kWide;
  const std::int64_t row_stride = rows.by_lines ? rows.copy.line_stride : rows.copy.depth_stride;
  const std::int32_t left = rows.rows - first;
  std::int32_t from[kRows];
  DROPGEMM_UNROLL
  for (std::int32_t r = 0; r < kRows; ++r) {
    from[r] = r < left ? rows.source(rows.by_lines, first + r) : -1;
  }
  for (std::int32_t i = thread * kWide; i < rows.width; i += Kernel::kThreads * kWide) {
    std::int32_t places[kWide];
    DROPGEMM_UNROLL
    for (std::int32_t e = 0; e < kWide; ++e) places[e] = rows.source(!rows.by_lines, i + e);
    CopyVector<E> values[kRows];
    DROPGEMM_UNROLL
    for (std::int32_t r = 0; r < kRows; ++r) {
      DROPGEMM_UNROLL
      for (std::int32_t e = 0; e < kWide; ++e) {
        values[r].elements[e] = rows.load(from[r], places[e]);
      }
    }
    DROPGEMM_UNROLL
    for (std::int32_t r = 0; r < kRows; ++r) {
      if (r >= left) break;
      *reinterpret_cast<CopyVector<E>*>(rows.copy.to + (first + r) * row_stride + i) = values[r];
    }
  }
}

template <class E>
DROPGEMM_DEVICE void CopyKernel<E>::run(const Params& p, const Block& block) {
  std::int32_t before = 0;  // blocks' shares of earlier copies
  for (const OperandCopy<E>& copy : p.copies) {
    if (copy.to == nullptr) continue;
    const CopyRows<E> rows(copy);
    const std::int32_t shares = (rows.rows + kRows - 1) / kRows;
    // The blocks that the last copy left over come first.
    std::int32_t share = (block.index + block.count - before % block.count) % block.count;
    for (; share < shares; share += block.count) copy_rows(rows, share * kRows, block.thread);
    before += shares;
  }
}

}  // namespace dropgemm::cuda
