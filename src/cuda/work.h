// What a kernel multiplies: operands, and lists of the granules that are left to multiply. Lists
// lie on the device, where lists.h builds them from bits; nothing here knows what a mask is.
//
// A granule is granule_m, granule_n or granule_k neighbours along its axis, the last one clipped by
// the extent (config.h says how many). A kernel gathers kept granules into whole tiles.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/epilogue.h"

namespace dropgemm::cuda {

constexpr std::int32_t kPadding = -1;  // an id that loads zeros and stores nothing
constexpr std::int32_t kDropped = -1;  // k_count of a tile that is to become zeros

// One output tile, loaded at once.
struct alignas(16) WorkItem {
  std::int32_t m_begin;  // of tile_m / granule_m ids in m_ids
  std::int32_t n_begin;  // of tile_n / granule_n ids in n_ids
  std::int32_t k_begin;  // of k_count * (tile_k / granule_k) ids in k_ids
  // In steps of tile_k, the ids padded to whole steps. 0: kept, but nothing to add, so that
  // act(addend + bias) is owed. kDropped: zeros.
  std::int32_t k_count;
};

// All on the device, items by falling k_count. How many there are is known there alone; room and
// grids are for everything kept.
struct WorkLists {
  const std::int32_t* m_ids = nullptr;
  const std::int32_t* n_ids = nullptr;
  const std::int32_t* k_ids = nullptr;
  const WorkItem* items = nullptr;
  const std::int32_t* num_items = nullptr;
};

// Which item a persistent block takes in its `round`-th round, from 0: blocks go through the items
// to and fro, so that who had the longest of one round has the shortest of the next. The block is
// done when this is num_items or more.
[[nodiscard]] DROPGEMM_DEVICE std::int32_t item_of_round(std::int32_t round, std::int32_t block,
                                                         std::int32_t blocks) {
  return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
}

// A as (M, K) or B as (N, K), strides in elements. A kernel of tensor cores wants one stride of 1,
// and pointer and the other stride in whole 16 bytes; kernel_simt takes any.
template <class E>
struct Input {
  const E* data = nullptr;
  std::int64_t line_stride = 0;   // from one m or n to the next
  std::int64_t depth_stride = 1;  // from one k to the next
};

// Sums that wait for their epilogue, added to what is there since items share tiles, in any order:
// row-major [m, n].
template <class Sum>
struct Staging {
  Sum* data = nullptr;  // null: the kernel applies the epilogue and writes D itself
  std::int64_t row_stride = 0;
};

// Where rows and columns of D have their sums, of a product whose operands were compacted: items
// count kept ones, and each writes all of D from its own first row and column up to the next
// item's, what has no sums along with the rest.
constexpr std::int32_t kNoSum = -1;  // in place of a position: kept, but nothing was multiplied
constexpr std::int32_t kZero = -2;   // dropped
struct SpreadAxis {
  // Of each row of D (or column), its position among the kept ones; and its inverse. Null: in
  // place.
  const std::int32_t *position = nullptr, *index = nullptr;
  const std::int32_t* count = nullptr;  // how many are kept; null: D has no such axis
};

// The parameters of every family of kernels.
template <class E>
struct Product {
  Input<E> a, b;
  std::int32_t m = 0, n = 0, k = 0;  // extents; what lies beyond is never read
  WorkLists lists;
  Epilogue<E> epilogue;
  Staging<typename Number<E>::Sum> staging;
  SpreadAxis rows, cols;  // without a count: items write the rows and columns that they name

  [[nodiscard]] DROPGEMM_DEVICE bool spreads() const { return rows.count != nullptr; }
};

}  // namespace dropgemm::cuda
