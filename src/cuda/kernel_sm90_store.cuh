// How the Hopper kernel's sums leave it: as boxes of swizzled shared memory, or element by element
// with the whole epilogue.
#pragma once

#include <cutlass/arch/barrier.h>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cute/tensor.hpp>

#include "cuda/kernel_sm90.h"

namespace dropgemm::cuda::sm90 {

template <class E, Sm90Shape kShape, Major kMajorA>
class TileStore {
 public:
  static constexpr Sm90Tile kTile = sm90_tile(kShape, kMajorA);
  static constexpr int kN = kTile.block_n();
  static constexpr int kGroup = 128;
  static constexpr int kSlabCols = 64;  // of float32 sums, 16 rows a warp: what store() reads
  static constexpr int kBufferBytes = kStoreRows * kSwizzleBytes;

  // Two buffers, so that one is written while the other leaves.
  struct Shared {
    alignas(1024) char buffers[2][kBufferBytes];
  };
  static_assert(sizeof(Shared) == sizeof(float) * kStoreRows * kSlabCols);

  DROPGEMM_DEVICE TileStore(const Sm90Params<E>& params, Shared& shared, int group, int thread)
      : params_(params), epilogue_(params.product.epilogue), factors_(epilogue_.factors()),
        shared_(shared), group_(group), thread_(thread) {}

  // The block's tile, gathered by the ids that begin at m_begin and n_begin.
  template <class Sums>
  DROPGEMM_DEVICE void write(const Sums& sums, std::int32_t m_begin, std::int32_t n_begin,
                             std::int32_t k_count) {
    const Place place{params_.product.lists.m_ids + m_begin, params_.product.lists.n_ids + n_begin};
    const bool dropped = k_count == kDropped;
    switch (params_.store) {
      case Sm90Store::kBoxes:
        if (!dropped || epilogue_.fills)
          write_boxes<E, false>(sums, place, Finished{*this, dropped});
        return;
      case Sm90Store::kSums:
        write_boxes<float, false>(sums, place, Raw{});
        return;
      case Sm90Store::kAddSums:
        if (k_count > 0) write_boxes<float, true>(sums, place, Raw{});
        return;
      case Sm90Store::kElements:
        write_elements(sums, place, dropped);
        return;
    }
  }

  // Shared memory must stay until it has been read.
  DROPGEMM_DEVICE void finish() {
    if (thread_ == 0) cute::tma_store_wait<0>();
  }

 private:
  struct Place {
    const std::int32_t* m_ids;
    const std::int32_t* n_ids;
  };
  struct Pair {
    float x, y;
  };

  // What becomes of two neighbouring sums whose first column of the array is `col`.
  struct Raw {
    DROPGEMM_DEVICE Pair operator()(float x, float y, std::int32_t /*col*/) const { return {x, y}; }
  };
  struct Finished {
    const TileStore& store;
    bool dropped;

    DROPGEMM_DEVICE float one(float sum, std::int32_t col) const {
      const Epilogue<E>& epilogue = store.epilogue_;
      float z = store.factors_.scale * sum;
      if (epilogue.bias != nullptr && col >= 0 && col < store.params_.product.n) {
        z += Number<E>::load(epilogue.bias[col * epilogue.bias_stride]);
      }
      if (epilogue.activation == Activation::kRelu) z = activate(Activation::kRelu, z);
      return dropped ? 0.0F : store.factors_.out_scale * z;
    }
    DROPGEMM_DEVICE Pair operator()(float x, float y, std::int32_t col) const {
      return {one(x, col), one(y, col + 1)};
    }
  };

  static DROPGEMM_DEVICE void put(char* to, Pair pair, float /*out*/) {
    *reinterpret_cast<float2*>(to) = make_float2(pair.x, pair.y);
  }
  template <class Out>
  static DROPGEMM_DEVICE void put(char* to, Pair pair, Out /*out*/) {
    const std::uint32_t low = Number<Out>::store(pair.x).bits;
    const std::uint32_t high = Number<Out>::store(pair.y).bits;
    *reinterpret_cast<std::uint32_t*>(to) = low | high << 16;
  }

  // CUTLASS's own barrier and fence let the compiler move ordinary writes past them.
  DROPGEMM_DEVICE void sync() const {
    constexpr int kFirst = cutlass::arch::NamedBarrier::ReservedNamedBarrierCount;
    asm volatile("bar.sync %0, %1;" ::"r"(kFirst + group_), "n"(kGroup) : "memory");
  }
  // What this thread wrote to shared memory, the accelerator sees.
  static DROPGEMM_DEVICE void fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  template <class Out, bool kAdd, class Sums, class Finish>
  DROPGEMM_DEVICE void write_boxes(const Sums& sums, const Place& place, const Finish& finish) {
    constexpr TileLayout kLayout = sm90_d_layout(kTile, sizeof(Out));
    constexpr int kCols = kLayout.contiguous;
    CUTLASS_PRAGMA_UNROLL
    for (int m = 0; m < decltype(cute::size<1>(sums))::value; ++m) {
      CUTLASS_PRAGMA_UNROLL
      for (int first_col = 0; first_col < kN; first_col += kCols) {
        char* const buffer = shared_.buffers[buffer_];
        buffer_ ^= 1;
        if (thread_ == 0) cute::tma_store_wait<1>();
        sync();
        CUTLASS_PRAGMA_UNROLL
        for (int col = 0; col < kCols; col += 8) {
          const int from = (first_col + col) / 8;
          const std::int32_t id = __ldg(place.n_ids + (first_col + col) / kTile.granule_n);
          const std::int32_t at =
              coordinate(id, kTile.granule_n, first_col + col) + sm90_thread_col(thread_);
          CUTLASS_PRAGMA_UNROLL
          for (int half = 0; half < 2; ++half) {
            const Pair pair = finish(sums(cute::make_coord(0, half, from), m, 0),
                                     sums(cute::make_coord(1, half, from), m, 0), at);
            const int to =
                kLayout.offset(col + sm90_thread_col(thread_), sm90_thread_row(thread_) + 8 * half);
            put(buffer + to * int{sizeof(Out)}, pair, Out{});
          }
        }
        fence();
        sync();
        if (thread_ == 0) send<Out, kAdd>(buffer, place, sm90_first_row(m, group_), first_col);
      }
    }
  }

  // One thread: a buffer's boxes, to where their ids say.
  template <class Out, bool kAdd>
  DROPGEMM_DEVICE void send(const char* buffer, const Place& place, int first_row, int first_col) {
    constexpr Sm90Tile kOwn = kTile;
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < sm90_d_layout(kOwn, sizeof(Out)).boxes(); ++i) {
      const Box box =
          sm90_store_box(kOwn, sizeof(Out), i, first_row, first_col, place.m_ids, place.n_ids);
      if (box.row < 0 || box.contiguous < 0) continue;
      const char* const from = buffer + box.offset * int{sizeof(Out)};
      if constexpr (kAdd) {
        cute::SM90_TMA_REDUCE_ADD_2D::copy(&params_.d, from, box.contiguous, box.row);
      } else {
        cute::SM90_TMA_STORE_2D::copy(&params_.d, from, box.contiguous, box.row);
      }
    }
    cute::tma_store_arrive();
  }

  // Through shared memory, 16 rows of a warp at a time, so that neighbours write neighbours. Units
  // of 8 columns are exchanged, or the threads that hold 8 rows of them would all meet 8 banks.
  static DROPGEMM_DEVICE int slab_offset(int row, int col) {
    return row * kSlabCols + (col ^ (row % 8 * 8));
  }

  template <class Sums>
  DROPGEMM_DEVICE void write_elements(const Sums& sums, const Place& place, bool dropped) {
    const int warp = thread_ / 32, lane = thread_ % 32;
    float* const slab = reinterpret_cast<float*>(shared_.buffers) + warp * 16 * kSlabCols;
    CUTLASS_PRAGMA_UNROLL
    for (int m = 0; m < decltype(cute::size<1>(sums))::value; ++m) {
      CUTLASS_PRAGMA_UNROLL
      for (int first_col = 0; first_col < kN; first_col += kSlabCols) {
        __syncwarp();
        CUTLASS_PRAGMA_UNROLL
        for (int col = 0; col < kSlabCols; col += 8) {
          CUTLASS_PRAGMA_UNROLL
          for (int half = 0; half < 2; ++half) {
            const int from = (first_col + col) / 8;
            const int to = slab_offset(lane / 4 + 8 * half, col + sm90_thread_col(thread_));
            *reinterpret_cast<float2*>(slab + to) =
                make_float2(sums(cute::make_coord(0, half, from), m, 0),
                            sums(cute::make_coord(1, half, from), m, 0));
          }
        }
        __syncwarp();
        write_slab(slab, place, sm90_first_row(m, group_) + warp * 16, first_col + lane, dropped);
      }
    }
    __syncwarp();  // wgmma wants its lanes together again
  }

  // A lane writes columns `col` and col + 32 of the block's tile, of 16 rows.
  DROPGEMM_DEVICE void write_slab(const float* slab, const Place& place, int first_row, int col,
                                  bool dropped) const {
    const std::int32_t id = __ldg(place.m_ids + first_row / kTile.granule_m);
    if (id < 0) return;
    const std::int32_t row = coordinate(id, kTile.granule_m, first_row);
    const std::int32_t rows = cute::min(16, params_.product.m - row);
    CUTLASS_PRAGMA_NO_UNROLL
    for (int half = 0; half < kSlabCols; half += 32) {
      const std::int32_t n = __ldg(place.n_ids + (col + half) / kTile.granule_n);
      const std::int32_t at = coordinate(n, kTile.granule_n, col + half);
      if (n < 0 || at >= params_.product.n) continue;
      CUTLASS_PRAGMA_NO_UNROLL
      for (int r = 0; r < rows; ++r) {
        if (dropped) {
          epilogue_.store_zero(row + r, at);
        } else {
          const float sum = slab[slab_offset(r, thread_ % 32 + half)];
          epilogue_.store(factors_, sum, row + r, at);
        }
      }
    }
  }

  const Sm90Params<E>& params_;
  const Epilogue<E>& epilogue_;
  typename Epilogue<E>::Factors factors_;
  Shared& shared_;
  int group_, thread_;
  int buffer_ = 0;
};

}  // namespace dropgemm::cuda::sm90
