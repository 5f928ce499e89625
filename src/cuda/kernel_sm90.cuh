// Hopper's kernel: a product of gathered granules. One thread of a block asks the copy engine for
// the boxes that an item lists; two groups of 128 threads multiply what arrives and write the tile
// (kernel_sm90_store.cuh); one warp clears what was dropped. The emulator runs all of this but the
// Core.
#pragma once

#include "cuda/kernel_sm90_store.cuh"

#if defined(__CUDACC__)
#include "cuda/kernel_sm90_core.cuh"
#endif

namespace dropgemm::cuda {

// Who a thread is.
struct Sm90Place {
  std::int32_t cluster, clusters;    // of the grid
  std::int32_t part_m, part_n;       // the block's part of the cluster's items, and of shared boxes
  std::int32_t thread, warp, group;  // of the block; the latter the same for all of a warp
};

template <class E_, Major kMajorA, Major kMajorB, Sm90Shape kShape>
struct GemmSm90Kernel {
  using E = E_;
  using Params = Sm90Params<E>;
  using Core = sm90::Core<E, kMajorA, kMajorB, kShape>;
  using Store = sm90::TileStore<E, Core>;
  using Zeros = sm90::ZeroStore<E, Core>;

  static constexpr Sm90Tile kTile = Core::kTile;
  static constexpr int kClusterM = kTile.cluster_m, kClusterN = kTile.cluster_n;
  static constexpr int kIdsM = kTile.block_m() / kTile.granule_m;
  static constexpr int kIdsN = kTile.block_n() / kTile.granule_n;
  static constexpr int kIdsK = Core::kK / kTile.granule_k;
  static constexpr int kThreads = kSm90Group * (1 + kSm90Consumers);

  struct Shared {
    alignas(1024) typename Core::Operands operands;
    alignas(1024) typename Store::Shared store[kSm90Consumers];
    typename Zeros::Shared zeros;
    alignas(16) typename Core::Barriers barriers;
  };

  // Items of a cluster, one after the other.
  struct Walk {
    const WorkLists& lists;
    std::int32_t cluster, clusters, count;
    std::int32_t round = 0;
    WorkItem item = {};

    DROPGEMM_DEVICE Walk(const WorkLists& work, const Sm90Place& place)
        : lists(work), cluster(place.cluster), clusters(place.clusters),
          count(sm90::read(work.num_items)) {}
    DROPGEMM_DEVICE bool next() {
      const std::int32_t i = item_of_round(round++, cluster, clusters);
      if (i >= count) return false;
      item = sm90::read(lists.items + i);
      return true;
    }
  };

  template <int kCount>
  static DROPGEMM_DEVICE void read_ids(const std::int32_t* from, std::int32_t (&ids)[kCount]) {
    DROPGEMM_UNROLL
    for (int i = 0; i < kCount; ++i) ids[i] = sm90::read(from + i);
  }

  // Asks for one operand's boxes of one stage; `sharers` blocks load a part each, for all of them.
  template <bool kOfA>
  static DROPGEMM_DEVICE void load(const TensorMap& map, sm90::Barrier* full, void* to,
                                   const std::int32_t* lines, const std::int32_t* depths, int part,
                                   std::uint16_t receivers) {
    constexpr Sm90Operand kOperand = kOfA ? Core::kA : Core::kB;
    constexpr int kBoxes = kOperand.layout.boxes();
    constexpr int kSharers = kOfA ? kClusterN : kClusterM;
    DROPGEMM_UNROLL
    for (int i = 0; i < kBoxes; ++i) {
      const Box box = sm90_load_box(kOperand, i, lines, depths);
      E* const place = static_cast<E*>(to) + box.offset;
      if constexpr (kSharers == 1) {
        sm90::load_box(map, full, place, box);
      } else if (sm90_loader(i, kBoxes, kSharers) == part) {
        sm90::load_box(map, full, place, box, receivers);
      }
    }
  }

  // One thread. Ids of the next step are on their way while this one waits for room.
  static DROPGEMM_DEVICE void produce(const Params& params, const Sm90Place& place, Core& core) {
    sm90::prefetch(params.a);
    sm90::prefetch(params.b);
    auto state = Core::first();
    // Blocks of a cluster are numbered along M first.
    const auto row = static_cast<std::uint16_t>(
        ((1U << kClusterN * kClusterM) - 1) / ((1U << kClusterM) - 1) << place.part_m);
    const auto column =
        static_cast<std::uint16_t>(((1U << kClusterM) - 1) << place.part_n * kClusterM);
    const WorkLists& lists = params.product.lists;
    for (Walk walk(lists, place); walk.next();) {
      if (walk.item.k_count <= 0) continue;
      std::int32_t ms[kIdsM], ns[kIdsN], ks[kIdsK], next[kIdsK];
      read_ids(lists.m_ids + walk.item.m_begin + place.part_m * kIdsM, ms);
      read_ids(lists.n_ids + walk.item.n_begin + place.part_n * kIdsN, ns);
      const std::int32_t* const k_ids = lists.k_ids + walk.item.k_begin;
      read_ids(k_ids, next);
      DROPGEMM_NO_UNROLL
      for (std::int32_t step = 1; step <= walk.item.k_count; ++step, ++state) {
        DROPGEMM_UNROLL
        for (int i = 0; i < kIdsK; ++i) ks[i] = next[i];
        if (step < walk.item.k_count) read_ids(k_ids + step * kIdsK, next);
        core.acquire(state);
        sm90::Barrier* const full = core.full(state);
        load<true>(params.a, full, core.a(state), ms, ks, place.part_n, row);
        load<false>(params.b, full, core.b(state), ns, ks, place.part_m, column);
      }
    }
    core.finish(state);
  }

  // One warp.
  static DROPGEMM_DEVICE void clear(const Params& params, const Sm90Place& place, Shared& shared) {
    if (params.store != Sm90Store::kBoxes || !params.product.epilogue.fills) return;
    Zeros::prepare(shared.zeros, place.thread % kWarp);
    if (!Core::is_elected()) return;
    for (Walk walk(params.product.lists, place); walk.next();) {
      if (walk.item.k_count != kDropped) continue;
      Zeros::write(params, shared.zeros, walk.item.m_begin + place.part_m * kIdsM,
                   walk.item.n_begin + place.part_n * kIdsN);
    }
    Zeros::finish();
  }

  // A group of 128 threads: 64 rows of every 128.
  static DROPGEMM_DEVICE void consume(const Params& params, const Sm90Place& place, Shared& shared,
                                      Core& core) {
    const int consumer = place.group - 1;
    typename Core::State state;
    Store store(params, shared.store[consumer], consumer, place.thread % kSm90Group);
    for (Walk walk(params.product.lists, place); walk.next();) {
      const WorkItem& item = walk.item;
      typename Core::Sums sums;
      if (item.k_count > 0) {
        core.multiply(state, sums, item.k_count);
      } else {
        Core::clear(sums);
      }
      store.write(sums, item.m_begin + place.part_m * kIdsM, item.n_begin + place.part_n * kIdsN,
                  item.k_count);
    }
    store.finish();
  }

  static DROPGEMM_DEVICE void run(const Params& params, const Sm90Place& place, char* memory) {
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    Core core(shared.operands, shared.barriers, place.thread, place.group);
    if (place.group == 0) {
      sm90::give_registers<40>();
      if (place.warp == 0 && Core::is_elected()) produce(params, place, core);
      if (place.warp == 1) clear(params, place, shared);
    } else {
      sm90::take_registers<232>();
      consume(params, place, shared, core);
    }
  }
};

}  // namespace dropgemm::cuda
