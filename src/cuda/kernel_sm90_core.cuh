// The middle of Hopper's kernel by CUTLASS: stages of shared memory that are filled and emptied in
// turn, and the multiplication of what is in them (CollectiveMma, as it is).
#pragma once

#include <cute/tensor.hpp>
#include <cutlass/gemm/collective/collective_mma.hpp>
#include <cutlass/pipeline/pipeline.hpp>

#include "cuda/kernel_sm90_device.h"

namespace dropgemm::cuda::sm90 {

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

template <class E, Major kMajorA, Major kMajorB, Sm90Shape kShape>
class Core {
 public:
  static constexpr Sm90Tile kTile = sm90_tile(kShape, kMajorA);
  static constexpr int kM = kTile.block_m(), kN = kTile.block_n(), kK = sm90_tile_k(sizeof(E));
  static constexpr Sm90Operand kA = sm90_a(kTile, kMajorA, sizeof(E));
  static constexpr Sm90Operand kB = sm90_b(kTile, kMajorB, sizeof(E));

  using Element = typename ElementOf<E>::type;
  using BlockShape = cute::Shape<cute::Int<kM>, cute::Int<kN>, cute::Int<kK>>;
  using ClusterShape =
      cute::Shape<cute::Int<kTile.cluster_m>, cute::Int<kTile.cluster_n>, cute::_1>;
  using TiledMma = decltype(cute::make_tiled_mma(
      cute::GMMA::ss_op_selector<Element, Element, float, BlockShape, major_of(kMajorA),
                                 major_of(kMajorB)>(),
      cute::Layout<cute::Shape<cute::Int<kSm90Consumers>, cute::_1, cute::_1>>{}));
  using Mainloop = cutlass::gemm::collective::CollectiveMma<
      cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<
          kTile.stages, ClusterShape, cutlass::gemm::KernelTmaWarpSpecializedCooperative>,
      BlockShape, Element, StrideOf<kMajorA>, Element, StrideOf<kMajorB>, TiledMma,
      cute::SM90_TMA_LOAD, decltype(swizzle_atom<Element, kMajorA, kA.layout.swizzle()>()), void,
      cute::identity, cute::SM90_TMA_LOAD,
      decltype(swizzle_atom<Element, kMajorB, kB.layout.swizzle()>()), void, cute::identity>;
  using Pipeline = typename Mainloop::MainloopPipeline;

  static_assert(Mainloop::TmaTransactionBytesMK == kA.layout.bytes());
  static_assert(Mainloop::TmaTransactionBytesNK == kB.layout.bytes());

  using State = typename Mainloop::PipelineState;  // a stage, and how often it was filled
  using Operands = typename Mainloop::TensorStorage;
  using Barriers = typename Mainloop::PipelineStorage;
  using Sums = decltype(cute::partition_fragment_C(TiledMma{}, cute::take<0, 2>(BlockShape{})));

  // By all threads of the cluster. No copy may arrive at a barrier that its block has yet to set
  // up.
  DROPGEMM_DEVICE Core(Operands& operands, Barriers& barriers, int thread, int group)
      : operands_(operands), thread_(thread),
        pipeline_(barriers, setup(group == 0), ClusterShape{}) {
    if constexpr (kTile.cluster_m * kTile.cluster_n > 1) {
      cute::cluster_arrive_relaxed();
      cute::cluster_wait();
    } else {
      __syncthreads();
    }
  }

  // --- Of one thread of the first group

  // By its first warp.
  static DROPGEMM_DEVICE bool is_elected() { return cute::elect_one_sync() != 0; }
  static DROPGEMM_DEVICE State first() { return cutlass::make_producer_start_state<Pipeline>(); }
  // All that read the stage have done so, and its barrier knows what is to come.
  DROPGEMM_DEVICE void acquire(const State& state) { pipeline_.producer_acquire(state); }
  DROPGEMM_DEVICE Barrier* full(const State& state) {
    return pipeline_.producer_get_barrier(state);
  }
  DROPGEMM_DEVICE void* a(const State& state) {
    return operands_.smem_A.data() + state.index() * (kM * kK);
  }
  DROPGEMM_DEVICE void* b(const State& state) {
    return operands_.smem_B.data() + state.index() * (kN * kK);
  }
  // Nobody will say any more that a stage of this block is read.
  DROPGEMM_DEVICE void finish(const State& state) { pipeline_.producer_tail(state); }

  // --- Of the other groups

  // `steps` stages from `state` on, of which there is at least one.
  DROPGEMM_DEVICE void multiply(State& state, Sums& sums, std::int32_t steps) {
    Mainloop mainloop;
    mainloop.mma(pipeline_, state, sums, steps, thread_ - kSm90Group, operands_,
                 typename Mainloop::Params{});
    mainloop.mma_tail(pipeline_, state, steps);
    cute::warpgroup_fence_operand(sums);  // nothing may read them before the tail's wait
    state.advance(static_cast<std::uint32_t>(steps));
  }
  static DROPGEMM_DEVICE void clear(Sums& sums) { cute::clear(sums); }
  // Element i of the two, in the row `half` * 8 below the thread's first, in columns `eight` * 8
  // and on (sm90_thread_row(), sm90_thread_col()).
  static DROPGEMM_DEVICE float at(const Sums& sums, int turn, int eight, int half, int i) {
    return sums(cute::make_coord(i, half, eight), turn, 0);
  }

 private:
  static DROPGEMM_DEVICE typename Pipeline::Params setup(bool produces) {
    typename Pipeline::Params params;
    params.transaction_bytes = Mainloop::TmaTransactionBytes;
    params.is_leader = produces;
    params.num_consumers = kSm90Group * kSm90Consumers;
    params.role =
        produces ? Pipeline::ThreadCategory::Producer : Pipeline::ThreadCategory::Consumer;
    return params;
  }

  Operands& operands_;
  int thread_;
  Pipeline pipeline_;
};

}  // namespace dropgemm::cuda::sm90
