// How the sums of Hopper's kernel leave it: as boxes of swizzled shared memory, or element by
// element with the whole epilogue.
#pragma once

#include "cuda/kernel_sm90_device.h"

namespace dropgemm::cuda::sm90 {

template <class E>
struct alignas(2 * sizeof(E)) Two {
  E x, y;
};

// Of one group; `Core` knows where its sums are.
template <class E, class Core>
class TileStore {
 public:
  static constexpr Sm90Tile kTile = Core::kTile;
  static constexpr int kN = kTile.block_n();
  static constexpr int kTurns = kTile.block_m() / (kSm90Consumers * kStoreRows);
  static constexpr int kSlabRows = kSm90SlabRows, kSlabCols = kSm90SlabCols;  // float32 sums
  static constexpr int kBufferBytes = kStoreRows * kSwizzleBytes;
  using Sums = typename Core::Sums;

  // One is written while others leave.
  struct Shared {
    alignas(1024) char buffers[kTile.buffers][kBufferBytes];
  };
  static_assert(sizeof(Shared) >= sizeof(float) * kStoreRows * kSlabCols);

  DROPGEMM_DEVICE TileStore(const Sm90Params<E>& params, Shared& shared, int group, int thread)
      : params_(params), epilogue_(params.product.epilogue), factors_(epilogue_.factors()),
        shared_(shared), group_(group), thread_(thread) {}

  // The block's tile, gathered by the ids that begin at m_begin and n_begin.
  DROPGEMM_DEVICE void write(const Sums& sums, std::int32_t m_begin, std::int32_t n_begin,
                             std::int32_t k_count) {
    const Place place{params_.product.lists.m_ids + m_begin, params_.product.lists.n_ids + n_begin};
    const bool dropped = k_count == kDropped;
    switch (params_.store) {
      case Sm90Store::kBoxes:
        if (dropped) return;  // ZeroStore's
        if (epilogue_.grad_aux.data != nullptr) {
          write_boxes<E, false>(sums, place, Finished<true>{*this});
        } else {
          write_boxes<E, false>(sums, place, Finished<false>{*this});
        }
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
    if (thread_ == 0) wait_for_stores<0>();
  }

 private:
  struct Place {
    const std::int32_t* m_ids;
    const std::int32_t* n_ids;
  };
  // Columns of a buffer, in eights.
  template <class Out>
  static constexpr int kEights = kSwizzleBytes / int{sizeof(Out)} / 8;

  // What becomes of two neighbouring sums.
  struct Raw {
    struct Ahead {};
    DROPGEMM_DEVICE Ahead read_ahead(const Place& /*place*/, int /*row*/, int /*col*/,
                                     int /*thread*/) const {
      return {};
    }
    DROPGEMM_DEVICE Two<float> read_bias(std::int32_t /*col*/) const { return {}; }
    DROPGEMM_DEVICE Two<float> operator()(Two<float> sums, Two<float> /*bias*/, const Ahead& /*a*/,
                                          int /*eight*/, int /*half*/) const {
      return sums;
    }
  };
  template <bool kSlopes>  // whether there is a grad_aux
  struct Finished {
    const TileStore& store;

    // All that a thread needs of a buffer, asked for at once.
    struct Ahead {
      Two<E> slopes[kSlopes ? kEights<E> : 1][2];
    };
    DROPGEMM_DEVICE Ahead read_ahead(const Place& place, int first_row, int first_col,
                                     int thread) const {
      Ahead ahead = {};
      if constexpr (!kSlopes) return ahead;
      const int at = first_row + sm90_thread_row(thread);
      const std::int32_t id = read(place.m_ids + at / kTile.granule_m);
      const std::int32_t row = coordinate(id, kTile.granule_m, at);
      DROPGEMM_UNROLL
      for (int eight = 0; eight < kEights<E>; ++eight) {
        const std::int32_t col = store.col_of(place, first_col + 8 * eight, thread);
        const E* const from = store.epilogue_.grad_aux.at(row, col);
        DROPGEMM_UNROLL
        for (int half = 0; half < 2; ++half) {
          if (row < 0 || row + 8 * half >= store.params_.product.m || !store.has_col(col)) continue;
          ahead.slopes[eight][half] = *reinterpret_cast<const Two<E>*>(
              from + 8 * half * store.epilogue_.grad_aux.row_stride);
        }
      }
      return ahead;
    }
    DROPGEMM_DEVICE Two<float> read_bias(std::int32_t col) const {
      const E* const bias = store.epilogue_.bias;
      if (bias == nullptr || !store.has_col(col)) return {};
      const Two<E> pair = *reinterpret_cast<const Two<E>*>(bias + col);
      return {Number<E>::load(pair.x), Number<E>::load(pair.y)};
    }

    DROPGEMM_DEVICE float one(float sum, float bias, E slope) const {
      float z = store.factors_.scale * sum + bias;
      if (store.epilogue_.activation == Activation::kRelu) z = activate(Activation::kRelu, z);
      z *= store.factors_.out_scale;
      return kSlopes ? multiply_by_gradient(Activation::kRelu, Number<E>::load(slope), z) : z;
    }
    DROPGEMM_DEVICE Two<float> operator()(Two<float> sums, Two<float> bias, const Ahead& ahead,
                                          int eight, int half) const {
      const Two<E> slopes = ahead.slopes[kSlopes ? eight : 0][half];
      return {one(sums.x, bias.x, slopes.x), one(sums.y, bias.y, slopes.y)};
    }
  };

  // The array's column of this thread's first element in columns `at` to `at` + 7 of the tile.
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t col_of(const Place& place, int at, int thread) const {
    const std::int32_t id = read(place.n_ids + at / kTile.granule_n);
    return coordinate(id, kTile.granule_n, at) + sm90_thread_col(thread);
  }
  [[nodiscard]] DROPGEMM_DEVICE bool has_col(std::int32_t col) const {
    return col >= 0 && col < params_.product.n;
  }

  template <class Out>
  static DROPGEMM_DEVICE void put(char* to, Two<float> pair) {
    write_shared(to, Two<Out>{Number<Out>::store(pair.x), Number<Out>::store(pair.y)});
  }

  // A buffer at a time: kStoreRows rows of 128 bytes.
  template <class Out, bool kAdd, class Finish>
  DROPGEMM_DEVICE void write_boxes(const Sums& sums, const Place& place, const Finish& finish) {
    constexpr TileLayout kLayout = sm90_d_layout(kTile, sizeof(Out));
    DROPGEMM_UNROLL
    for (int turn = 0; turn < kTurns; ++turn) {
      const int first_row = sm90_first_row(turn, group_);
      DROPGEMM_UNROLL
      for (int first_col = 0; first_col < kN; first_col += kLayout.contiguous) {
        const int thread = computed_here(thread_);
        char* const buffer = shared_.buffers[buffer_];
        buffer_ = buffer_ + 1 == kTile.buffers ? 0 : buffer_ + 1;
        const auto ahead = finish.read_ahead(place, first_row, first_col, thread);
        if (thread_ == 0) wait_for_stores<kTile.buffers - 1>();
        sync_group(group_);
        DROPGEMM_UNROLL
        for (int eight = 0; eight < kEights<Out>; ++eight) {
          const Two<float> bias = finish.read_bias(col_of(place, first_col + 8 * eight, thread));
          DROPGEMM_UNROLL
          for (int half = 0; half < 2; ++half) {
            const int held = first_col / 8 + eight;
            const Two<float> pair = {Core::at(sums, turn, held, half, 0),
                                     Core::at(sums, turn, held, half, 1)};
            const int to = kLayout.offset(8 * eight + sm90_thread_col(thread),
                                          sm90_thread_row(thread) + 8 * half);
            put<Out>(buffer + to * int{sizeof(Out)}, finish(pair, bias, ahead, eight, half));
          }
        }
        fence_shared();
        sync_group(group_);
        if (thread_ == 0) send<Out, kAdd>(buffer, place, first_row, first_col);
      }
    }
  }

  // One thread: a buffer's boxes, to where their ids say.
  template <class Out, bool kAdd>
  DROPGEMM_DEVICE void send(const char* buffer, const Place& place, int first_row, int first_col) {
    constexpr Sm90Tile kOwn = kTile;
    constexpr int kBoxes = sm90_d_layout(kTile, sizeof(Out)).boxes();
    DROPGEMM_UNROLL
    for (int i = 0; i < kBoxes; ++i) {
      const Box box =
          sm90_store_box(kOwn, sizeof(Out), i, first_row, first_col, place.m_ids, place.n_ids);
      if (box.row < 0 || box.contiguous < 0) continue;
      const char* const from = buffer + box.offset * int{sizeof(Out)};
      if constexpr (kAdd) {
        add_box(params_.d, from, box);
      } else {
        store_box(params_.d, from, box);
      }
    }
    commit_stores();
  }

  // Through shared memory, 16 rows of a warp at a time, so that neighbours write neighbours. Units
  // of 8 columns are exchanged, or the threads that hold 8 rows of them would all meet 8 banks.
  static DROPGEMM_DEVICE int slab_offset(int row, int col) {
    return row * kSlabCols + (col ^ (row % 8 * 8));
  }

  DROPGEMM_DEVICE void write_elements(const Sums& sums, const Place& place, bool dropped) {
    constexpr int kAcross = kN / kSlabCols, kSlabs = kTurns * kAcross;
    // One body for all slabs; which registers one is made of is known as it compiles.
    DROPGEMM_NO_UNROLL
    for (int current = 0; current < kSlabs; ++current) {
      const int thread = computed_here(thread_), warp = thread / kWarp;
      float* const slab = reinterpret_cast<float*>(shared_.buffers) + warp * kSlabRows * kSlabCols;
      sync_warp();
      DROPGEMM_UNROLL
      for (int i = 0; i < kSlabs; ++i) {
        if (i == current) fill_slab(sums, i / kAcross, i % kAcross * kSlabCols, thread, slab);
      }
      sync_warp();
      write_slab(slab, place, sm90_first_row(current / kAcross, group_) + warp * kSlabRows,
                 current % kAcross * kSlabCols, dropped);
    }
    sync_warp();  // wgmma wants its lanes together again
  }

  static DROPGEMM_DEVICE void fill_slab(const Sums& sums, int turn, int first_col, int thread,
                                        float* slab) {
    const int lane = thread % kWarp;
    DROPGEMM_UNROLL
    for (int eight = 0; eight < kSlabCols / 8; ++eight) {
      DROPGEMM_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int held = first_col / 8 + eight;
        const int to = slab_offset(lane / 4 + 8 * half, 8 * eight + sm90_thread_col(thread));
        *reinterpret_cast<Two<float>*>(slab + to) = {Core::at(sums, turn, held, half, 0),
                                                     Core::at(sums, turn, held, half, 1)};
      }
    }
  }

  // Rows and columns of the block's tile from these on, by a warp.
  DROPGEMM_DEVICE void write_slab(const float* slab, const Place& place, int first_row,
                                  int first_col, bool dropped) const {
    const std::int32_t id = read(place.m_ids + first_row / kTile.granule_m);
    if (id < 0) return;
    const std::int32_t row = coordinate(id, kTile.granule_m, first_row);
    if (params_.product.spreads()) {
      spread_slab(slab, place, row, first_col);
    } else {
      store_slab(slab, place, row, first_col, dropped);
    }
  }

  // A lane writes neighbours, 16 bytes or one, of some rows.
  DROPGEMM_DEVICE void store_slab(const float* slab, const Place& place, std::int32_t row,
                                  int first_col, bool dropped) const {
    constexpr int kVector = Epilogue<E>::kVector;
    const int wide = epilogue_.vectors ? kVector : 1;
    const int across = wide > 1 ? kSlabCols / kVector : kWarp;
    const int left = params_.product.m - row, rows = left < kSlabRows ? left : kSlabRows;
    DROPGEMM_NO_UNROLL
    for (int first = 0; first < kSlabCols; first += across * wide) {
      const int j = first + thread_ % across * wide;
      const std::int32_t n = read(place.n_ids + (first_col + j) / kTile.granule_n);
      const std::int32_t col = coordinate(n, kTile.granule_n, first_col + j);
      if (n < 0 || col >= params_.product.n) continue;
      DROPGEMM_NO_UNROLL
      for (int r = thread_ % kWarp / across; r < rows; r += kWarp / across) {
        const float* const sums = slab + slab_offset(r, j);  // of these neighbours
        if (wide > 1 && col + wide <= params_.product.n) {
          float values[kVector];
          DROPGEMM_UNROLL
          for (int e = 0; e < kVector; ++e) values[e] = sums[e];
          const std::uint32_t kept = dropped ? 0 : Epilogue<E>::kKeepsAll;
          epilogue_.store(factors_, values, kept, row + r, col);
          continue;
        }
        DROPGEMM_NO_UNROLL
        for (int e = 0; e < wide && col + e < params_.product.n; ++e) {
          if (dropped) {
            epilogue_.store_zero(row + r, col + e);
          } else {
            epilogue_.store(factors_, sums[e], row + r, col + e);
          }
        }
      }
    }
  }

  // Of compacted sums, which name neighbours.
  DROPGEMM_DEVICE void spread_slab(const float* slab, const Place& place, std::int32_t row,
                                   int first_col) const {
    const std::int32_t id = read(place.n_ids + first_col / kTile.granule_n);
    if (id < 0) return;
    const std::int32_t col = coordinate(id, kTile.granule_n, first_col);
    const Product<E>& p = params_.product;
    Spread<E>::write(
        p, factors_, SpreadRange(p.rows, p.m, row, kSlabRows),
        SpreadRange(p.cols, p.n, col, kSlabCols),
        [slab](std::int32_t i, std::int32_t j) { return slab[slab_offset(i, j)]; }, thread_ % kWarp,
        kWarp);
  }

  const Sm90Params<E>& params_;
  const Epilogue<E>& epilogue_;
  typename Epilogue<E>::Factors factors_;
  Shared& shared_;
  int group_, thread_;
  int buffer_ = 0;
};

// Zeros for dropped items of kBoxes, by one warp that has nothing else to do, while others
// multiply.
template <class E, class Core>
class ZeroStore {
 public:
  struct Shared {
    alignas(128) char zeros[kSm90ZeroRows * kSwizzleBytes];
  };

  // By all lanes.
  static DROPGEMM_DEVICE void prepare(Shared& shared, int lane) {
    constexpr int kEach = kSm90ZeroRows * kSwizzleBytes / kWarp;
    for (int i = lane * kEach; i < (lane + 1) * kEach; i += int{sizeof(std::uint32_t)}) {
      write_shared(shared.zeros + i, std::uint32_t{0});
    }
    fence_shared();
    sync_warp();
  }

  // By one of them: a tile, and the end of all.
  static DROPGEMM_DEVICE void write(const Sm90Params<E>& params, const Shared& shared,
                                    std::int32_t m_begin, std::int32_t n_begin) {
    constexpr Sm90Tile kTile = Core::kTile;
    constexpr int kBoxes = sm90_zeros_layout(kTile, sizeof(E)).boxes();
    const WorkLists& lists = params.product.lists;
    DROPGEMM_NO_UNROLL
    for (int i = 0; i < kBoxes; ++i) {
      const Box box =
          sm90_zeros_box(kTile, sizeof(E), i, lists.m_ids + m_begin, lists.n_ids + n_begin);
      if (box.row < 0 || box.contiguous < 0) continue;
      store_box(params.zeros, shared.zeros, box);
    }
    commit_stores();
  }
  static DROPGEMM_DEVICE void finish() { wait_for_stores<0>(); }
};

}  // namespace dropgemm::cuda::sm90
