// A tile's sums on their way from shared memory to D, or to a staging array.
#pragma once

#include "cuda/spread.h"
#include "cuda/work.h"

namespace dropgemm::cuda {

template <class E, std::int32_t kTileM, std::int32_t kTileN, std::int32_t kThreads>
struct TileStore {
  using Sum = typename Number<E>::Sum;
  using Factors = typename Epilogue<E>::Factors;
  static constexpr std::int32_t kGranule = 32;
  static constexpr std::int32_t kSumStride = kTileN + 4;  // keeps 16-byte alignment, spreads banks
  static constexpr std::int32_t kShared =
      kTileM * kSumStride * static_cast<std::int32_t>(sizeof(Sum));

  const Product<E>& p;
  const WorkItem& item;
  const Block& block;

  // `from`: sums in shared memory, rows kSumStride apart; null for an item that nothing is
  // multiplied for.
  DROPGEMM_DEVICE void write(const Factors& factors, const Sum* from) const {
    if (p.staging.data != nullptr) {
      if (from != nullptr) add(from);
    } else if (p.spreads()) {
      spread(factors, from);
    } else {
      store(factors, from);
    }
  }

 private:
  static constexpr std::int32_t kVector = Epilogue<E>::kVector;

  // Calls f(row, col, row of tile, column of tile) for the first of every `wide` neighbours that
  // the tile has in D: neighbouring threads have neighbouring columns.
  template <class F>
  DROPGEMM_DEVICE void for_each(std::int32_t wide, const F& f) const {
    const std::int32_t across = kTileN / wide < kWarp ? kTileN / wide : kWarp;
    for (std::int32_t first = 0; first < kTileN; first += across * wide) {
      const std::int32_t j = first + block.thread % across * wide;
      const std::int32_t n = p.lists.n_ids[item.n_begin + j / kGranule];
      const std::int32_t col = n * kGranule + j % kGranule;
      if (n < 0 || col >= p.n) continue;
      for (std::int32_t i = block.thread / across; i < kTileM; i += kThreads / across) {
        const std::int32_t m = p.lists.m_ids[item.m_begin + i / kGranule];
        const std::int32_t row = m * kGranule + i % kGranule;
        if (m >= 0 && row < p.m) f(row, col, i, j);
      }
    }
  }

  DROPGEMM_DEVICE void store(const Factors& factors, const Sum* from) const {
    const bool dropped = item.k_count == kDropped;
    const std::int32_t wide = p.epilogue.vectors ? kVector : 1;
    for_each(wide, [&](std::int32_t row, std::int32_t col, std::int32_t i, std::int32_t j) {
      const Sum* const sums = from != nullptr ? from + i * kSumStride + j : nullptr;
      if (wide > 1 && col + wide <= p.n) return store_vector(factors, sums, dropped, row, col);
      for (std::int32_t e = 0; e < wide && col + e < p.n; ++e) {
        if (dropped) {
          p.epilogue.store_zero(row, col + e);
        } else {
          p.epilogue.store(factors, sums != nullptr ? sums[e] : Sum(0), row, col + e);
        }
      }
    });
  }
  DROPGEMM_DEVICE void store_vector(const Factors& factors, const Sum* from, bool dropped,
                                    std::int32_t row, std::int32_t col) const {
    constexpr std::int32_t kCount = Vector<Sum>::kCount;
    Sum sums[kVector] = {};
    if (from != nullptr) {
      DROPGEMM_UNROLL
      for (std::int32_t i = 0; i < kVector; i += kCount) {
        const Vector<Sum> some = *reinterpret_cast<const Vector<Sum>*>(from + i);
        DROPGEMM_UNROLL
        for (std::int32_t e = 0; e < kCount; ++e) sums[i + e] = some.elements[e];
      }
    }
    p.epilogue.store(factors, sums, dropped ? 0 : Epilogue<E>::kKeepsAll, row, col);
  }

  DROPGEMM_DEVICE void add(const Sum* from) const {
    for_each(1, [&](std::int32_t row, std::int32_t col, std::int32_t i, std::int32_t j) {
      atomic_add(p.staging.data + row * p.staging.row_stride + col, from[i * kSumStride + j]);
    });
  }

  // Items of compacted products name neighbours.
  DROPGEMM_DEVICE void spread(const Factors& factors, const Sum* from) const {
    const auto sums = [from](std::int32_t i, std::int32_t j) {
      return from != nullptr ? from[i * kSumStride + j] : Sum(0);
    };
    const std::int32_t row = p.lists.m_ids[item.m_begin] * kGranule;
    const std::int32_t col = p.lists.n_ids[item.n_begin] * kGranule;
    Spread<E>::write(p, factors, SpreadRange(p.rows, p.m, row, kTileM),
                     SpreadRange(p.cols, p.n, col, kTileN), sums, block.thread, kThreads);
  }
};

}  // namespace dropgemm::cuda
