// What Hopper's kernel may use of its machine beyond device.h: the copy engine (the tensor memory
// accelerator), which tells a barrier in shared memory how many bytes it has brought, and groups of
// 128 threads. Real under nvcc, emulator_sm90.h elsewhere.
#pragma once

#include "cuda/device.h"
#include "cuda/kernel_sm90.h"

#if defined(__CUDACC__)

#include <cutlass/arch/barrier.h>
#include <cutlass/arch/reg_reconfig.h>
#include <cute/arch/copy_sm90_desc.hpp>
#include <cute/arch/copy_sm90_tma.hpp>

#define DROPGEMM_NO_UNROLL _Pragma("unroll 1")

namespace dropgemm::cuda::sm90 {

// Counts arrivals and bytes.
using Barrier = std::uint64_t;

// Of a list, which nobody writes meanwhile.
DROPGEMM_DEVICE std::int32_t read(const std::int32_t* from) { return __ldg(from); }
DROPGEMM_DEVICE WorkItem read(const WorkItem* from) {
  const int4 words = __ldg(reinterpret_cast<const int4*>(from));
  return {words.x, words.y, words.z, words.w};
}

// The same number, of which the compiler keeps nothing from one tile to the next: registers are for
// sums.
DROPGEMM_DEVICE int computed_here(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// --- The copy engine

DROPGEMM_DEVICE void prefetch(const TensorMap& map) {
  cute::prefetch_tma_descriptor(reinterpret_cast<const cute::TmaDescriptor*>(&map));
}

constexpr auto kCacheHint = static_cast<std::uint64_t>(cute::TMA::CacheHintSm90::EVICT_NORMAL);

// Box `box` of the array to `to`, of which `full` is told.
DROPGEMM_DEVICE void load_box(const TensorMap& map, Barrier* full, void* to, const Box& box) {
  cute::SM90_TMA_LOAD_2D::copy(&map, full, kCacheHint, to, box.contiguous, box.row);
}
// The same to the same places of all blocks of the cluster whose bits are set.
DROPGEMM_DEVICE void load_box(const TensorMap& map, Barrier* full, void* to, const Box& box,
                              std::uint16_t receivers) {
  cute::SM90_TMA_LOAD_MULTICAST_2D::copy(&map, full, receivers, kCacheHint, to, box.contiguous,
                                         box.row);
}

// From shared memory to the array, or added to it. Copies belong to this thread's open group.
DROPGEMM_DEVICE void store_box(const TensorMap& map, const void* from, const Box& box) {
  cute::SM90_TMA_STORE_2D::copy(&map, from, box.contiguous, box.row);
}
DROPGEMM_DEVICE void add_box(const TensorMap& map, const void* from, const Box& box) {
  cute::SM90_TMA_REDUCE_ADD_2D::copy(&map, from, box.contiguous, box.row);
}
DROPGEMM_DEVICE void commit_stores() { cute::tma_store_arrive(); }
// All but this thread's last `kPending` groups have been read from shared memory.
template <int kPending>
DROPGEMM_DEVICE void wait_for_stores() {
  cute::tma_store_wait<kPending>();
}

template <class T>
DROPGEMM_DEVICE void write_shared(char* to, T value) {
  *reinterpret_cast<T*>(to) = value;
}
// What this thread wrote to shared memory, the engine sees. CUTLASS's own fence, like its barrier,
// lets the compiler move ordinary writes past it.
DROPGEMM_DEVICE void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// --- Groups of threads

// By the 128 threads of a group.
DROPGEMM_DEVICE void sync_group(int group) {
  constexpr int kFirst = cutlass::arch::NamedBarrier::ReservedNamedBarrierCount;
  asm volatile("bar.sync %0, 128;" ::"r"(kFirst + group) : "memory");
}

// How many a thread of a group has from here on, by whole groups. The kernel begins with 168 each.
template <int kRegisters>
DROPGEMM_DEVICE void give_registers() {
  cutlass::arch::warpgroup_reg_dealloc<kRegisters>();
}
template <int kRegisters>
DROPGEMM_DEVICE void take_registers() {
  cutlass::arch::warpgroup_reg_alloc<kRegisters>();
}

}  // namespace dropgemm::cuda::sm90

#else

#define DROPGEMM_NO_UNROLL

#include "cuda/emulator_sm90.h"

#endif
