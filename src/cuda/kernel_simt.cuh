// The SIMT kernel.
#pragma once

#include "cuda/kernel_simt.h"
#include "cuda/tile_store.cuh"

namespace dropgemm::cuda {

// An operand's tile on its way through registers, so that the next one is asked for while this one
// is multiplied. Neighbouring threads read what lies side by side.
template <class E>
struct SimtLoader {
  using Kernel = SimtKernel<E>;
  static constexpr std::int32_t kPerThread = Kernel::kSide * Kernel::kDepth / Kernel::kThreads;

  const Input<E>& input;
  const std::int32_t* ids;
  std::int32_t lines, depth;
  bool depth_first;  // threads run along the depth
  std::int32_t thread;
  E values[kPerThread];

  [[nodiscard]] DROPGEMM_DEVICE std::int32_t line_of(std::int32_t i) const {
    const std::int32_t at = i * Kernel::kThreads + thread;
    return depth_first ? at / Kernel::kDepth : at % Kernel::kSide;
  }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t depth_of(std::int32_t i) const {
    const std::int32_t at = i * Kernel::kThreads + thread;
    return depth_first ? at % Kernel::kDepth : at / Kernel::kSide;
  }

  // Part `part` of a granule.
  DROPGEMM_DEVICE void load(std::int32_t granule, std::int32_t part) {
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kPerThread; ++i) {
      const std::int32_t at = line_of(i), id = ids[at / 32];
      const std::int32_t line = id * 32 + at % 32;
      const std::int32_t k = granule * 32 + part * Kernel::kDepth + depth_of(i);
      const bool valid = id >= 0 && granule >= 0 && line < lines && k < depth;
      values[i] = valid ? input.data[line * input.line_stride + k * input.depth_stride] : E(0);
    }
  }
  DROPGEMM_DEVICE void store(E* to) const {
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kPerThread; ++i) {
      to[depth_of(i) * Kernel::kStride + line_of(i)] = values[i];
    }
  }
};

// Rows and columns of a thread's sums: fours, 64 apart, so that a warp's loads meet all banks.
template <class E>
DROPGEMM_DEVICE std::int32_t simt_place(std::int32_t thread, std::int32_t i) {
  return i / 4 * 64 + thread * 4 + i % 4;
}

template <class E>
DROPGEMM_DEVICE void simt_add(const E* a, const E* b, std::int32_t row, std::int32_t col,
                              E (&sums)[SimtKernel<E>::kPer][SimtKernel<E>::kPer]) {
  using Kernel = SimtKernel<E>;
  DROPGEMM_UNROLL_TWO
  for (std::int32_t k = 0; k < Kernel::kDepth; ++k) {
    E x[Kernel::kPer], y[Kernel::kPer];
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < Kernel::kPer; ++i) {
      x[i] = a[k * Kernel::kStride + simt_place<E>(row, i)];
      y[i] = b[k * Kernel::kStride + simt_place<E>(col, i)];
    }
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < Kernel::kPer; ++i) {
      DROPGEMM_UNROLL
      for (std::int32_t j = 0; j < Kernel::kPer; ++j) sums[i][j] += x[i] * y[j];
    }
  }
}

// The sums of an item, of which a thread has kPer x kPer.
template <class E>
DROPGEMM_DEVICE void simt_multiply(const Product<E>& p, const WorkItem& item, E* tile_a, E* tile_b,
                                   std::int32_t thread,
                                   E (&sums)[SimtKernel<E>::kPer][SimtKernel<E>::kPer]) {
  constexpr std::int32_t kParts = 32 / SimtKernel<E>::kDepth;
  SimtLoader<E> a{p.a, p.lists.m_ids + item.m_begin, p.m, p.k, p.a.depth_stride == 1, thread, {}};
  SimtLoader<E> b{p.b, p.lists.n_ids + item.n_begin, p.n, p.k, p.b.depth_stride == 1, thread, {}};
  const std::int32_t* const k_ids = p.lists.k_ids + item.k_begin;
  a.load(k_ids[0], 0);
  b.load(k_ids[0], 0);
  for (std::int32_t part = 1; part <= kParts * item.k_count; ++part) {
    a.store(tile_a);
    b.store(tile_b);
    sync_block();
    if (part < kParts * item.k_count) {
      a.load(k_ids[part / kParts], part % kParts);
      b.load(k_ids[part / kParts], part % kParts);
    }
    simt_add<E>(tile_a, tile_b, thread / 16, thread % 16, sums);
    sync_block();
  }
}

template <class E>
DROPGEMM_DEVICE void SimtKernel<E>::run(const Params& p, const Block& block) {
  using Store = TileStore<E, kSide, kSide, kThreads>;
  static_assert(Store::kSumStride == kStride, "the size of shared memory");
  E* const tile_a = reinterpret_cast<E*>(block.shared);
  E* const tile_b = tile_a + kDepth * kStride;
  const auto factors = p.epilogue.factors();
  const std::int32_t num_items = *p.lists.num_items;
  const std::int32_t row = block.thread / 16, col = block.thread % 16;
  for (std::int32_t round = 0;; ++round) {
    const std::int32_t index = item_of_round(round, block.index, block.count);
    if (index >= num_items) break;
    const WorkItem item = p.lists.items[index];
    const Store store{p, item, block};
    if (item.k_count > 0) {
      E sums[kPer][kPer] = {};
      simt_multiply<E>(p, item, tile_a, tile_b, block.thread, sums);
      DROPGEMM_UNROLL
      for (std::int32_t i = 0; i < kPer; ++i) {
        DROPGEMM_UNROLL
        for (std::int32_t j = 0; j < kPer; ++j) {
          tile_a[simt_place<E>(row, i) * kStride + simt_place<E>(col, j)] = sums[i][j];
        }
      }
      sync_block();
    }
    store.write(factors, item.k_count > 0 ? tile_a : nullptr);
    sync_block();
  }
}

}  // namespace dropgemm::cuda
