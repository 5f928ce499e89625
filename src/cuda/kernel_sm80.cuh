// The sm_80 kernel.
#pragma once

#include "cuda/kernel_sm80.h"
#include "cuda/tile_store.cuh"

namespace dropgemm::cuda {

// One operand's tile in shared memory: lines of depth or, where the operand lies so, depths of
// lines; in rows of 16-byte chunks, exchanged within a row so that the eight rows of a matrix meet
// all banks.
template <class E, Major kMajor>
struct Sm80Tile {
  static constexpr std::int32_t kVector = 16 / sizeof(E);  // elements of a chunk
  static constexpr bool kByLine = kMajor == Major::kDepth;
  static constexpr std::int32_t kRowChunks = (kByLine ? kSm80Depth : kSm80Side) / kVector;
  static constexpr std::int32_t kChunks = kSm80Side * kSm80Depth / kVector;

  static DROPGEMM_DEVICE std::int32_t exchanged(std::int32_t row, std::int32_t chunk) {
    if constexpr (kByLine) return chunk ^ (sizeof(E) == 2 ? row / 2 % 4 : row % 8);
    return chunk ^ (sizeof(E) == 2 ? row % 8 : row % 4 * 2);
  }
  static DROPGEMM_DEVICE std::int32_t offset(std::int32_t row, std::int32_t chunk) {  // in bytes
    return (row * kRowChunks + exchanged(row, chunk)) * 16;
  }
};

// Copies an operand's tiles: which lines a thread copies is looked up once an item.
template <class E, Major kMajor>
struct Sm80Loader {
  using Tile = Sm80Tile<E, kMajor>;
  static constexpr std::int32_t kThreads = 256;
  static constexpr std::int32_t kPerThread = Tile::kChunks / kThreads;
  static constexpr std::int32_t kVector = Tile::kVector;

  const Input<E>& input;
  std::int32_t depth;  // extent of K
  std::int32_t thread;
  std::int64_t base[kPerThread];   // of the thread's lines, in elements
  std::int32_t bytes[kPerThread];  // to copy at most; 0 for padding

  DROPGEMM_DEVICE Sm80Loader(const Input<E>& from, std::int32_t depth_extent, std::int32_t t)
      : input(from), depth(depth_extent), thread(t) {}

  static DROPGEMM_DEVICE std::int32_t clipped(std::int32_t elements) {
    return elements >= kVector ? 16
           : elements > 0      ? elements * static_cast<std::int32_t>(sizeof(E))
                               : 0;
  }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t row_of(std::int32_t i) const {
    return (i * kThreads + thread) / Tile::kRowChunks;
  }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t chunk_of(std::int32_t i) const {
    return (i * kThreads + thread) % Tile::kRowChunks;
  }

  // The item's lines, of `lines` in all.
  DROPGEMM_DEVICE void set_lines(const std::int32_t* ids, std::int32_t lines) {
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kPerThread; ++i) {
      const std::int32_t at = Tile::kByLine ? row_of(i) : chunk_of(i) * kVector;
      const std::int32_t id = ids[at / 32], line = id * 32 + at % 32;
      base[i] = std::int64_t{line} * input.line_stride;
      const std::int32_t left = id < 0 ? 0 : lines - line;
      bytes[i] = Tile::kByLine ? (left > 0 ? 16 : 0) : clipped(left);
    }
  }

  // Granule `id` of the depth.
  DROPGEMM_DEVICE void load(char* to, std::int32_t id) const {
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kPerThread; ++i) {
      const std::int32_t row = row_of(i), chunk = chunk_of(i);
      const std::int32_t k = id * 32 + (Tile::kByLine ? chunk * kVector : row);
      const std::int32_t left =
          id < 0 ? 0 : clipped(Tile::kByLine ? depth - k : (depth - k) * kVector);
      const std::int32_t count = left < bytes[i] ? left : bytes[i];
      const E* const from = input.data + (base[i] + k * input.depth_stride);
      cp_async16(to + Tile::offset(row, chunk), count > 0 ? from : input.data, count);
    }
  }
};

// Registers of an mma: 16 lines by kMmaDepth (of A), or two times 8 lines (of B), from line `line`
// and mma step `step` on.
template <class E, Major kMajor>
struct Sm80Fragment {
  using Tile = Sm80Tile<E, kMajor>;

  // `wide`: matrices 1 and 2 change places, as B wants both halves of its depth side by side.
  template <bool kOfB>
  static DROPGEMM_DEVICE void load(const char* tile, std::int32_t line, std::int32_t step,
                                   std::int32_t lane, std::uint32_t (&r)[4]) {
    const std::int32_t matrix = lane / 8;
    const std::int32_t by_line = kOfB ? matrix / 2 : matrix % 2;   // which 8 lines
    const std::int32_t by_depth = kOfB ? matrix % 2 : matrix / 2;  // which half of the depth
    if constexpr (Tile::kByLine) {
      load_matrices<false>(tile + Tile::offset(line + 8 * by_line + lane % 8, 2 * step + by_depth),
                           r);
    } else if constexpr (sizeof(E) == 2) {
      load_matrices<true>(
          tile + Tile::offset(16 * step + 8 * by_depth + lane % 8, line / 8 + by_line), r);
    } else {
      DROPGEMM_UNROLL
      for (std::int32_t i = 0; i < 4; ++i) {
        const std::int32_t at = line + 8 * (kOfB ? i / 2 : i % 2) + lane / 4;
        const std::int32_t k = 8 * step + 4 * (kOfB ? i % 2 : i / 2) + lane % 4;
        r[i] = *reinterpret_cast<const std::uint32_t*>(tile + Tile::offset(k, at / 4) + at % 4 * 4);
      }
    }
    if constexpr (sizeof(E) == 4) {
      DROPGEMM_UNROLL
      for (std::uint32_t& word : r) word = rounded_to_tf32(word);
    }
  }
};

// A warp's part of a tile, 64 x 32.
template <class E, Major kMajorA, Major kMajorB>
struct Sm80Sums {
  static constexpr std::int32_t kRows = 4, kCols = 4;  // of mma tiles, 16 x 8
  float sums[kRows][kCols][4];
  std::int32_t line_m, line_n, lane;

  DROPGEMM_DEVICE explicit Sm80Sums(const Block& block)
      : line_m(block.warp() / 4 * 64), line_n(block.warp() % 4 * 32), lane(block.lane()) {}

  DROPGEMM_DEVICE void clear() {
    DROPGEMM_UNROLL
    for (auto& row : sums) {
      DROPGEMM_UNROLL
      for (auto& tile : row) {
        DROPGEMM_UNROLL
        for (float& sum : tile) sum = 0;
      }
    }
  }

  // One stage.
  DROPGEMM_DEVICE void add(const char* tile_a, const char* tile_b) {
    DROPGEMM_UNROLL_TWO
    for (std::int32_t step = 0; step < kSm80Depth / kMmaDepth<E>; ++step) {
      std::uint32_t a[kRows][4], b[kCols / 2][4];
      DROPGEMM_UNROLL
      for (std::int32_t i = 0; i < kRows; ++i) {
        Sm80Fragment<E, kMajorA>::template load<false>(tile_a, line_m + 16 * i, step, lane, a[i]);
      }
      DROPGEMM_UNROLL
      for (std::int32_t j = 0; j < kCols / 2; ++j) {
        Sm80Fragment<E, kMajorB>::template load<true>(tile_b, line_n + 16 * j, step, lane, b[j]);
      }
      DROPGEMM_UNROLL
      for (std::int32_t i = 0; i < kRows; ++i) {
        DROPGEMM_UNROLL
        for (std::int32_t j = 0; j < kCols; ++j) {
          multiply_add<E>(a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1], sums[i][j]);
        }
      }
    }
  }

  // To rows `stride` apart.
  DROPGEMM_DEVICE void write(float* to, std::int32_t stride) const {
    DROPGEMM_UNROLL
    for (std::int32_t i = 0; i < kRows; ++i) {
      DROPGEMM_UNROLL
      for (std::int32_t j = 0; j < kCols; ++j) {
        DROPGEMM_UNROLL
        for (std::int32_t e = 0; e < 4; ++e) {
          const std::int32_t row = line_m + 16 * i + 8 * (e / 2) + lane / 4;
          const std::int32_t col = line_n + 8 * j + lane % 4 * 2 + e % 2;
          to[row * stride + col] = sums[i][j][e];
        }
      }
    }
  }
};

template <class E, Major kMajorA, Major kMajorB, class Order>
DROPGEMM_DEVICE void Sm80Kernel<E, kMajorA, kMajorB, Order>::run(const Params& p,
                                                                 const Block& block) {
  using Store = TileStore<E, kSm80Side, kSm80Side, kThreads>;
  const auto factors = p.epilogue.factors();
  const std::int32_t num_items = *p.lists.num_items;
  Sm80Loader<E, kMajorA> load_a(p.a, p.k, block.thread);
  Sm80Loader<E, kMajorB> load_b(p.b, p.k, block.thread);
  Sm80Sums<E, kMajorA, kMajorB> sums(block);
  auto* const out = reinterpret_cast<float*>(block.shared);
  for (std::int32_t round = 0;; ++round) {
    const std::int32_t index = item_of_round(round, block.index, block.count);
    if (index >= num_items) break;
    const WorkItem item = p.lists.items[index];
    const Store store{p, item, block};
    if (item.k_count > 0) {
      load_a.set_lines(p.lists.m_ids + item.m_begin, p.m);
      load_b.set_lines(p.lists.n_ids + item.n_begin, p.n);
      const std::int32_t* const k_ids = p.lists.k_ids + item.k_begin;
      // Groups are committed past the end too, so that counting them stays simple.
      const auto load_step = [&](std::int32_t step, std::int32_t stage) {
        if (step < item.k_count) {
          const std::int32_t id = k_ids[step];
          load_a.load(block.shared + 2 * stage * kTileBytes, id);
          load_b.load(block.shared + (2 * stage + 1) * kTileBytes, id);
        }
        cp_async_commit();
      };
      DROPGEMM_UNROLL
      for (std::int32_t step = 0; step < kStages - 1; ++step) load_step(step, step);
      sums.clear();
      std::int32_t read = 0, write = kStages - 1;
      for (std::int32_t step = 0; step < item.k_count; ++step) {
        // The stage has arrived for all, and all have read the one that is written next.
        Order::template wait<kStages - 2>();
        Order::barrier();
        load_step(step + kStages - 1, write);
        sums.add(block.shared + 2 * read * kTileBytes, block.shared + (2 * read + 1) * kTileBytes);
        read = read + 1 == kStages ? 0 : read + 1;
        write = write + 1 == kStages ? 0 : write + 1;
      }
      cp_async_wait<0>();
      sync_block();
      sums.write(out, Store::kSumStride);
      sync_block();
    }
    store.write(factors, item.k_count > 0 ? out : nullptr);
    sync_block();
  }
}

}  // namespace dropgemm::cuda
