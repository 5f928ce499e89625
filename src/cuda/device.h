// What kernels may use of the machine they run on: real under nvcc, the emulator's in the build
// that runs kernels on the CPU, and only declared for host code of the real build, which never
// calls it. Tensor cores and asynchronous copies are in tensor_core.h and copy.h.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define DROPGEMM_DEVICE __device__ __forceinline__
#define DROPGEMM_UNROLL _Pragma("unroll")        // before a loop over registers
#define DROPGEMM_UNROLL_TWO _Pragma("unroll 2")  // before one that would take too many of them
#else
#define DROPGEMM_DEVICE inline
#define DROPGEMM_UNROLL
#define DROPGEMM_UNROLL_TWO
#endif

#if defined(DROPGEMM_CUDA_EMULATED)
#include "cuda/emulator.h"
#endif

namespace dropgemm::cuda {

constexpr std::int32_t kWarp = 32;  // threads that ballot together

// Who a thread is. `shared` is the block's dynamic shared memory, aligned to 128 bytes.
struct Block {
  std::int32_t index = 0;   // of this block
  std::int32_t count = 0;   // of blocks in the grid
  std::int32_t thread = 0;  // within the block
  char* shared = nullptr;

  [[nodiscard]] DROPGEMM_DEVICE std::int32_t lane() const { return thread % kWarp; }
  [[nodiscard]] DROPGEMM_DEVICE std::int32_t warp() const { return thread / kWarp; }
};

#if defined(__CUDACC__)

// Every thread of the block has arrived, and sees what the others wrote.
DROPGEMM_DEVICE void sync_block() { __syncthreads(); }
// The same of the 32 threads of a warp, all of which must call this and all functions below it.
DROPGEMM_DEVICE void sync_warp() { __syncwarp(); }
// Bit i is what lane i said.
DROPGEMM_DEVICE std::uint32_t ballot(bool mine) { return __ballot_sync(0xFFFFFFFFU, mine); }
// What lane `lane` holds.
template <class T>
DROPGEMM_DEVICE T shuffle(T mine, std::int32_t lane) {
  return __shfl_sync(0xFFFFFFFFU, mine, lane);
}

// Not collective.
DROPGEMM_DEVICE std::int32_t popc(std::uint32_t word) { return __popc(word); }
DROPGEMM_DEVICE std::int32_t lowest_bit(std::uint32_t word) { return __ffs(word) - 1; }
// Return what was there before. Of memory that the whole device shares, or the block.
template <class T>
DROPGEMM_DEVICE T atomic_add(T* to, T value) {
  return atomicAdd(to, value);
}

#elif defined(DROPGEMM_CUDA_EMULATED)

inline void sync_block() { emulator::sync_block(); }
inline void sync_warp() { emulator::sync_warp(); }
inline std::uint32_t ballot(bool mine) {
  const bool* const all = emulator::exchange(mine);
  std::uint32_t word = 0;
  for (std::int32_t lane = 0; lane < kWarp; ++lane) word |= std::uint32_t{all[lane]} << lane;
  return word;
}
template <class T>
T shuffle(T mine, std::int32_t lane) {
  return emulator::exchange(mine)[lane];
}
inline std::int32_t popc(std::uint32_t word) { return __builtin_popcount(word); }
inline std::int32_t lowest_bit(std::uint32_t word) {
  return __builtin_ffs(static_cast<int>(word)) - 1;
}
template <class T>
T atomic_add(T* to, T value) {
  const T before = *to;
  *to = before + value;
  return before;
}

#else

void sync_block();
void sync_warp();
std::uint32_t ballot(bool mine);
template <class T>
T shuffle(T mine, std::int32_t lane);
std::int32_t popc(std::uint32_t word);
std::int32_t lowest_bit(std::uint32_t word);
template <class T>
T atomic_add(T* to, T value);

#endif

}  // namespace dropgemm::cuda
