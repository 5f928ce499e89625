// The kernels that prepare operands.
#pragma once

#include "cuda/prepare.h"

namespace dropgemm::cuda {

DROPGEMM_DEVICE void KeptAxesKernel::run(const Params& p, const Block& block) {
  constexpr std::int32_t kWarps = kThreads / kWarp;
  auto* const counts = reinterpret_cast<std::int32_t*>(block.shared);  // [kWarps]
  const KeptAxis& axis = p.axes[block.index];
  std::int32_t written = 0;
  for (std::int32_t begin = 0; begin < axis.extent; begin += kThreads) {
    const std::int32_t i = begin + block.thread;
    const bool kept = i < axis.extent && axis.first.kept(i, 0) && axis.second.kept(i, 0);
    const std::uint32_t word = ballot(kept);
    if (block.lane() == 0) counts[block.warp()] = popc(word);
    sync_block();
    std::int32_t before = written;
    for (std::int32_t w = 0; w < kWarps; ++w) {
      if (w < block.warp()) before += counts[w];
      written += counts[w];
    }
    const std::int32_t at = before + popc(word & ((1U << block.lane()) - 1));
    if (kept) axis.index[at] = i;
    if (i < axis.extent) axis.position[i] = kept ? at : -1;
    sync_block();
  }
  if (block.thread == 0) *axis.count = written;
}

template <class E>
DROPGEMM_DEVICE void CopyKernel<E>::run(const Params& p, const Block& block) {
  const std::int32_t lines = p.line_count != nullptr ? *p.line_count : p.lines;
  const std::int32_t depth = p.depth_count != nullptr ? *p.depth_count : p.depth;
  // Not past the extent, which the copy has room for.
  const std::int32_t whole = (depth + p.granule - 1) / p.granule * p.granule;
  const std::int32_t padded = p.depth_count == nullptr ? depth : whole < p.depth ? whole : p.depth;
  const bool by_lines = p.depth_stride == 1;
  const std::int32_t outer_count = by_lines ? lines : padded;
  const std::int32_t inner_count = by_lines ? padded : lines;
  for (std::int32_t outer = block.index; outer < outer_count; outer += block.count) {
    for (std::int32_t inner = block.thread; inner < inner_count; inner += kThreads) {
      const std::int32_t line = by_lines ? outer : inner, k = by_lines ? inner : outer;
      E value = Number<E>::store(0);
      if (k < depth) {
        const std::int32_t from_line = p.line_index != nullptr ? p.line_index[line] : line;
        const std::int32_t from_k = p.depth_index != nullptr ? p.depth_index[k] : k;
        if (p.mask.kept(from_line, from_k)) {
          value = p.from.data[from_line * p.from.line_stride + from_k * p.from.depth_stride];
        }
      }
      p.to[line * p.line_stride + k * p.depth_stride] = value;
    }
  }
}

}  // namespace dropgemm::cuda
