// The kernel that sums rows of A.
#pragma once

#include "cuda/row_sum.h"

namespace dropgemm::cuda {

template <class E>
DROPGEMM_DEVICE void RowSumKernel<E>::run(const Params& p, const Block& block) {
  auto* const sums = reinterpret_cast<Sum*>(block.shared);  // [kParts][kLines]
  // Neighbouring threads read what lies side by side.
  const bool lines_first = p.a.line_stride == 1;
  const std::int32_t line = lines_first ? block.thread % kLines : block.thread / kParts;
  const std::int32_t part = lines_first ? block.thread / kLines : block.thread % kParts;
  for (std::int32_t first = block.index * kLines; first < p.lines; first += block.count * kLines) {
    const std::int32_t i = first + line;
    Sum sum = 0;
    for (std::int32_t begin = 0; i < p.lines && begin < p.depth; begin += p.depth_tile) {
      if (!p.mask.kept(i, begin)) continue;
      const std::int32_t left = p.depth - begin;
      const std::int32_t end = begin + (left < p.depth_tile ? left : p.depth_tile);
      // Part by part of the whole depth, however short a tile is.
      const std::int32_t ahead = (part - begin % kParts + kParts) % kParts;
      for (std::int32_t k = begin + ahead; k < end; k += kParts) {
        sum += Number<E>::load(p.a.data[i * p.a.line_stride + k * p.a.depth_stride]);
      }
    }
    sums[part * kLines + line] = sum;
    sync_block();
    if (block.thread < kLines && first + block.thread < p.lines) {
      Sum whole = 0;
      for (std::int32_t other = 0; other < kParts; ++other) {
        whole += sums[other * kLines + block.thread];
      }
      p.to[first + block.thread] = Number<E>::store(whole);
    }
    sync_block();
  }
}

}  // namespace dropgemm::cuda
