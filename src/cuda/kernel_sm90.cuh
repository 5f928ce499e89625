// Hopper's kernel: a product of gathered granules. One thread of a block asks the tensor memory
// accelerator for the boxes that an item lists; two groups of 128 threads multiply what arrives
// (CUTLASS's CollectiveMma, as it is) and write the tile (kernel_sm90_store.cuh).
#pragma once

#include <cutlass/arch/barrier.h>
#include <cutlass/arch/reg_reconfig.h>
#include <cute/tensor.hpp>
#include <cutlass/gemm/collective/collective_mma.hpp>
#include <cutlass/pipeline/pipeline.hpp>

#include "cuda/kernel_sm90.h"
#include "cuda/kernel_sm90_store.cuh"

namespace dropgemm::cuda {

namespace sm90 {

template <class E>
struct ElementOf;
template <>
struct ElementOf<BFloat16> {
  using type = cutlass::bfloat16_t;
};
template <>
struct ElementOf<Float16> {
  using type = cutlass::half_t;
};
template <>
struct ElementOf<float> {
  using type = cutlass::tfloat32_t;
};

constexpr cute::GMMA::Major major_of(Major major) {
  return major == Major::kDepth ? cute::GMMA::Major::K : cute::GMMA::Major::MN;
}

// The arrangement of 8 rows in shared memory that a box of this width is written in.
template <class Element, Major kMajor, int kSwizzle>
CUTE_HOST_DEVICE constexpr auto swizzle_atom() {
  using namespace cute::GMMA;
  static_assert(kSwizzle == 64 || kSwizzle == 128);
  if constexpr (kMajor == Major::kDepth) {
    if constexpr (kSwizzle == 128) return Layout_K_SW128_Atom<Element>{};
    if constexpr (kSwizzle == 64) return Layout_K_SW64_Atom<Element>{};
  } else {
    if constexpr (kSwizzle == 128) return Layout_MN_SW128_Atom<Element>{};
    if constexpr (kSwizzle == 64) return Layout_MN_SW64_Atom<Element>{};
  }
}

// CollectiveMma's strides only say which axis is contiguous.
template <Major kMajor>
using StrideOf =
    cute::conditional_t<kMajor == Major::kDepth, cute::Stride<std::int64_t, cute::_1, std::int64_t>,
                        cute::Stride<cute::_1, std::int64_t, std::int64_t>>;

}  // namespace sm90

template <class E_, Major kMajorA, Major kMajorB, Sm90Shape kShape>
struct GemmSm90Kernel {
  using E = E_;
  using Params = Sm90Params<E>;
  using Element = typename sm90::ElementOf<E>::type;

  static constexpr Sm90Tile kTile = sm90_tile(kShape, kMajorA);
  static constexpr int kM = kTile.block_m(), kN = kTile.block_n(), kK = sm90_tile_k(sizeof(E));
  static constexpr int kClusterM = kTile.cluster_m, kClusterN = kTile.cluster_n;
  static constexpr int kIdsM = kM / kTile.granule_m, kIdsN = kN / kTile.granule_n;
  static constexpr int kIdsK = kK / kTile.granule_k;
  static constexpr Sm90Operand kA = sm90_a(kTile, kMajorA, sizeof(E));
  static constexpr Sm90Operand kB = sm90_b(kTile, kMajorB, sizeof(E));

  static constexpr int kGroup = 128;  // threads of a warpgroup
  static constexpr int kConsumers = kSm90Consumers;
  static constexpr int kThreads = kGroup * (1 + kConsumers);

  using BlockShape = cute::Shape<cute::Int<kM>, cute::Int<kN>, cute::Int<kK>>;
  using ClusterShape = cute::Shape<cute::Int<kClusterM>, cute::Int<kClusterN>, cute::_1>;
  using TiledMma = decltype(cute::make_tiled_mma(
      cute::GMMA::ss_op_selector<Element, Element, float, BlockShape, sm90::major_of(kMajorA),
                                 sm90::major_of(kMajorB)>(),
      cute::Layout<cute::Shape<cute::Int<kConsumers>, cute::_1, cute::_1>>{}));
  using Mainloop = cutlass::gemm::collective::CollectiveMma<
      cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<
          kTile.stages, ClusterShape, cutlass::gemm::KernelTmaWarpSpecializedCooperative>,
      BlockShape, Element, sm90::StrideOf<kMajorA>, Element, sm90::StrideOf<kMajorB>, TiledMma,
      cute::SM90_TMA_LOAD, decltype(sm90::swizzle_atom<Element, kMajorA, kA.layout.swizzle()>()),
      void, cute::identity, cute::SM90_TMA_LOAD,
      decltype(sm90::swizzle_atom<Element, kMajorB, kB.layout.swizzle()>()), void, cute::identity>;
  using Pipeline = typename Mainloop::MainloopPipeline;
  using PipelineState = typename Mainloop::PipelineState;
  using Store = sm90::TileStore<E, kShape, kMajorA>;

  static_assert(Mainloop::TmaTransactionBytesMK == kA.layout.bytes());
  static_assert(Mainloop::TmaTransactionBytesNK == kB.layout.bytes());

  struct Shared {
    alignas(1024) typename Mainloop::TensorStorage operands;
    alignas(1024) typename Store::Shared store[kConsumers];
    alignas(16) typename Mainloop::PipelineStorage pipeline;
  };

  // Items of a cluster, one after the other.
  struct Walk {
    const WorkLists& lists;
    std::int32_t cluster, clusters, count;
    std::int32_t round = 0;
    WorkItem item = {};

    DROPGEMM_DEVICE explicit Walk(const WorkLists& work)
        : lists(work), cluster(static_cast<std::int32_t>(blockIdx.x) / kClusterM),
          clusters(static_cast<std::int32_t>(gridDim.x) / kClusterM), count(__ldg(work.num_items)) {
    }
    DROPGEMM_DEVICE bool next() {
      const std::int32_t i = item_of_round(round++, cluster, clusters);
      if (i >= count) return false;
      const int4 words = __ldg(reinterpret_cast<const int4*>(lists.items) + i);
      item = {words.x, words.y, words.z, words.w};
      return true;
    }
  };

  // A block's place in its cluster is its part of the item, and of the boxes that it shares.
  static DROPGEMM_DEVICE int part_m() { return static_cast<int>(blockIdx.x) % kClusterM; }
  static DROPGEMM_DEVICE int part_n() { return static_cast<int>(blockIdx.y); }

  template <int kCount>
  static DROPGEMM_DEVICE void read_ids(const std::int32_t* from, std::int32_t (&ids)[kCount]) {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kCount; ++i) ids[i] = __ldg(from + i);
  }

  // Asks for one operand's boxes of one stage; `sharers` blocks load a part each, for all of them.
  template <bool kOfA>
  static DROPGEMM_DEVICE void load(const TensorMap& map, std::uint64_t* barrier, Element* to,
                                   const std::int32_t* lines, const std::int32_t* depths, int part,
                                   std::uint16_t receivers) {
    constexpr Sm90Operand kOperand = kOfA ? kA : kB;
    constexpr int kBoxes = kOperand.layout.boxes();
    constexpr int kSharers = kOfA ? kClusterN : kClusterM;
    constexpr auto kHint = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_NORMAL);
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < kBoxes; ++i) {
      const Box box = sm90_load_box(kOperand, i, lines, depths);
      if constexpr (kSharers == 1) {
        cute::SM90_TMA_LOAD_2D::copy(&map, barrier, kHint, to + box.offset, box.contiguous,
                                     box.row);
      } else if (sm90_loader(i, kBoxes, kSharers) == part) {
        cute::SM90_TMA_LOAD_MULTICAST_2D::copy(&map, barrier, receivers, kHint, to + box.offset,
                                               box.contiguous, box.row);
      }
    }
  }

  // One thread. Ids of the next step are on their way while this one waits for room.
  static DROPGEMM_DEVICE void produce(const Params& params, Shared& shared, Pipeline& pipeline) {
    cute::prefetch_tma_descriptor(reinterpret_cast<const cute::TmaDescriptor*>(&params.a));
    cute::prefetch_tma_descriptor(reinterpret_cast<const cute::TmaDescriptor*>(&params.b));
    PipelineState state = cutlass::make_producer_start_state<Pipeline>();
    // Blocks of a cluster are numbered along M first.
    const auto row = static_cast<std::uint16_t>(
        ((1U << kClusterN * kClusterM) - 1) / ((1U << kClusterM) - 1) << part_m());
    const auto column = static_cast<std::uint16_t>(((1U << kClusterM) - 1) << part_n() * kClusterM);
    const WorkLists& lists = params.product.lists;
    for (Walk walk(lists); walk.next();) {
      if (walk.item.k_count <= 0) continue;
      std::int32_t ms[kIdsM], ns[kIdsN], ks[kIdsK], next[kIdsK];
      read_ids(lists.m_ids + walk.item.m_begin + part_m() * kIdsM, ms);
      read_ids(lists.n_ids + walk.item.n_begin + part_n() * kIdsN, ns);
      const std::int32_t* const k_ids = lists.k_ids + walk.item.k_begin;
      read_ids(k_ids, next);
      CUTLASS_PRAGMA_NO_UNROLL
      for (std::int32_t step = 1; step <= walk.item.k_count; ++step, ++state) {
        CUTLASS_PRAGMA_UNROLL
        for (int i = 0; i < kIdsK; ++i) ks[i] = next[i];
        if (step < walk.item.k_count) read_ids(k_ids + step * kIdsK, next);
        pipeline.producer_acquire(state);
        std::uint64_t* const barrier = pipeline.producer_get_barrier(state);
        Element* const a = shared.operands.smem_A.data() + state.index() * (kM * kK);
        Element* const b = shared.operands.smem_B.data() + state.index() * (kN * kK);
        load<true>(params.a, barrier, a, ms, ks, part_n(), row);
        load<false>(params.b, barrier, b, ns, ks, part_m(), column);
      }
    }
    pipeline.producer_tail(state);
  }

  // A warpgroup: 64 rows of every 128.
  static DROPGEMM_DEVICE void consume(const Params& params, Shared& shared, Pipeline& pipeline) {
    PipelineState state;
    Mainloop mainloop;
    TiledMma mma;
    const int thread = static_cast<int>(threadIdx.x) - kGroup;
    const int group = thread / kGroup;
    Store store(params, shared.store[group], group, thread % kGroup);
    for (Walk walk(params.product.lists); walk.next();) {
      const WorkItem& item = walk.item;
      auto sums = cute::partition_fragment_C(mma, cute::take<0, 2>(BlockShape{}));
      if (item.k_count > 0) {
        mainloop.mma(pipeline, state, sums, item.k_count, thread, shared.operands,
                     typename Mainloop::Params{});
        mainloop.mma_tail(pipeline, state, item.k_count);
        cute::warpgroup_fence_operand(sums);  // nothing may read them before the tail's wait
        state.advance(static_cast<std::uint32_t>(item.k_count));
      } else {
        cute::clear(sums);
      }
      store.write(sums, item.m_begin + part_m() * kIdsM, item.n_begin + part_n() * kIdsN,
                  item.k_count);
    }
    store.finish();
  }

  static DROPGEMM_DEVICE void run(const Params& params, char* memory) {
    Shared& shared = *reinterpret_cast<Shared*>(memory);
    const int group = cutlass::canonical_warp_group_idx();
    const int warp = cutlass::canonical_warp_idx_sync();
    typename Pipeline::Params setup;
    setup.transaction_bytes = Mainloop::TmaTransactionBytes;
    setup.is_leader = group == 0;
    setup.num_consumers = kGroup * kConsumers;
    setup.role =
        group == 0 ? Pipeline::ThreadCategory::Producer : Pipeline::ThreadCategory::Consumer;
    Pipeline pipeline(shared.pipeline, setup, ClusterShape{});
    // No copy may arrive at a barrier that its block has yet to set up.
    if constexpr (kClusterM * kClusterN > 1) {
      cute::cluster_arrive_relaxed();
      cute::cluster_wait();
    } else {
      __syncthreads();
    }
    if (group == 0) {
      cutlass::arch::warpgroup_reg_dealloc<40>();
      if (warp == 0 && cute::elect_one_sync()) produce(params, shared, pipeline);
    } else {
      cutlass::arch::warpgroup_reg_alloc<232>();
      consume(params, shared, pipeline);
    }
  }
};

}  // namespace dropgemm::cuda
