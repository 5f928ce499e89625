// A tile's sums on their way from shared memory to D, or to a staging array: a warp a row, so that
// neighbouring lanes write neighbouring columns.
#pragma once

#include "cuda/work.h"

namespace dropgemm::cuda {

template <class E, std::int32_t kTileM, std::int32_t kTileN, std::int32_t kThreads>
struct TileStore {
  using Sum = typename Number<E>::Sum;
  static constexpr std::int32_t kGranule = 32;            // one lane a column
  static constexpr std::int32_t kSumStride = kTileN + 4;  // keeps 16-byte alignment, spreads banks
  static constexpr std::int32_t kShared =
      kTileM * kSumStride * static_cast<std::int32_t>(sizeof(Sum));

  const Product<E>& p;
  const WorkItem& item;
  const Block& block;

  // Calls f(row, col, row of tile, column of tile) for every element of D that the tile holds.
  template <class F>
  DROPGEMM_DEVICE void for_each(const F& f) const {
    std::int32_t cols[kTileN / kGranule];
    DROPGEMM_UNROLL
    for (std::int32_t j = 0; j < kTileN / kGranule; ++j) {
      const std::int32_t id = p.lists.n_ids[item.n_begin + j];
      cols[j] = id < 0 ? p.n : id * kGranule + block.lane();
    }
    for (std::int32_t i = block.warp(); i < kTileM; i += kThreads / kWarp) {
      const std::int32_t id = p.lists.m_ids[item.m_begin + i / kGranule];
      const std::int32_t row = id * kGranule + i % kGranule;
      if (id < 0 || row >= p.m) continue;
      DROPGEMM_UNROLL
      for (std::int32_t j = 0; j < kTileN / kGranule; ++j) {
        if (cols[j] < p.n) f(row, cols[j], i, j * kGranule + block.lane());
      }
    }
  }

  DROPGEMM_DEVICE void put(const typename Epilogue<E>::Factors& factors, Sum sum, std::int32_t row,
                           std::int32_t col) const {
    if (p.staging.data == nullptr) return p.epilogue.store(factors, sum, row, col);
    Sum* const to = p.staging.data + row * p.staging.row_stride + col;
    if (p.staging.adds) {
      atomic_add(to, sum);
    } else {
      *to = sum;
    }
  }

  // Of sums in shared memory, rows kSumStride apart.
  DROPGEMM_DEVICE void sums(const typename Epilogue<E>::Factors& factors, const Sum* from) const {
    for_each([&](std::int32_t row, std::int32_t col, std::int32_t i, std::int32_t j) {
      put(factors, from[i * kSumStride + j], row, col);
    });
  }
  // Of an item that nothing is multiplied for.
  DROPGEMM_DEVICE void nothing(const typename Epilogue<E>::Factors& factors) const {
    const bool dropped = item.k_count == kDropped;
    for_each([&](std::int32_t row, std::int32_t col, std::int32_t, std::int32_t) {
      if (dropped) {
        p.epilogue.store_zero(row, col);
      } else if (!p.staging.adds) {
        put(factors, Sum(0), row, col);
      }
    });
  }
};

}  // namespace dropgemm::cuda
