// Runs kernels on the CPU, for tests where there is no GPU: each thread of a block is a fibre with
// a stack of its own, which runs until it waits for others. Blocks run one after the other.
//
// It is made to show mistakes rather than to be fast: shared memory begins as NaNs, asynchronous
// copies happen as late as they may, and fibres take turns in alternating order, so that what is
// read without waiting is stale in one order or the other. Threads that wait at different barriers
// are reported instead of hanging.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dropgemm/status.h"

namespace dropgemm::cuda::emulator {

// One thread of a kernel: block index, number of blocks, thread index, shared memory.
using Body = void (*)(const void* context, std::int32_t block, std::int32_t blocks,
                      std::int32_t thread, char* shared);

// Where all threads wait: makes something happen that they wait for, or says that nothing will.
using Idle = bool (*)(const void* context);

// Runs a grid to its end. Errors: kBackendError for threads that wait for one another for ever, or
// for more shared memory than a block can have.
Status run(std::int32_t blocks, std::int32_t threads, std::size_t shared_bytes, Body body,
           const void* context, Idle idle = nullptr);

// What a launch fails with before it begins: a cudaError_t that a test has planted, or 0.
int take_launch_error();

// --- What a fibre may call
// ------------------------------------------------------------------------

void sync_block();
void sync_warp();
// Until done(context).
void wait_until(bool (*done)(const void* context), const void* context);
std::int32_t thread();  // of the block

// Writes `bytes`, a power of two: `count` of them from `from`, then zeros. Pointers that are not
// multiples of `bytes`, which a GPU refuses, leave NaNs.
void copy_async(void* to, const void* from, std::size_t bytes, std::size_t count);
void commit_copies();
void wait_for_copies(std::int32_t pending);

constexpr std::size_t kExchangeBytes = 64;  // the most that a lane can show its warp at once
void* exchange_slots();                     // kExchangeBytes for each of 32 lanes
std::int32_t lane();
bool is_last_of_warp();  // all other lanes wait at the warp's barrier

// Every lane of the warp shows a value and gets all 32, valid until its next exchange. The last to
// come does `work` on all of them first.
template <class T, class Work>
const T* exchange(const T& mine, const Work& work) {
  static_assert(sizeof(T) <= kExchangeBytes, "too much to show");
  T* const slots = static_cast<T*>(exchange_slots());
  slots[lane()] = mine;
  if (is_last_of_warp()) work(slots);
  sync_warp();
  return slots;
}
template <class T>
const T* exchange(const T& mine) {
  return exchange(mine, [](const T*) {});
}

}  // namespace dropgemm::cuda::emulator
