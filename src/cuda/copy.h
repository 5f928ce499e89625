// Asynchronous copies from global to shared memory (cp.async). Copies belong to groups; what a copy
// writes may be read only after its group was waited for *and* the block was synchronised. The
// emulator defers every copy until it is waited for, so a forgotten wait or barrier shows.
#pragma once

#include "cuda/device.h"

namespace dropgemm::cuda {

#if defined(__CUDACC__)

// Writes 16 bytes: `count` of them from `from`, of which no more is read, then zeros. Both pointers
// are aligned to 16, and into mapped memory even where count is 0.
DROPGEMM_DEVICE void cp_async16(void* to, const void* from, std::int32_t count) {
  const auto shared = static_cast<std::uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(from),
               "r"(count)
               : "memory");
}
// Ends a group: all of this thread's copies since the last one.
DROPGEMM_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// All but this thread's last `kPending` groups have arrived.
template <int kPending>
DROPGEMM_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

#elif defined(DROPGEMM_CUDA_EMULATED)

inline void cp_async16(void* to, const void* from, std::int32_t count) {
  emulator::copy_async(to, from, 16, static_cast<std::size_t>(count));
}
inline void cp_async_commit() { emulator::commit_copies(); }
template <int kPending>
void cp_async_wait() {
  emulator::wait_for_copies(kPending);
}

#else

void cp_async16(void* to, const void* from, std::int32_t count);
void cp_async_commit();
template <int kPending>
void cp_async_wait();

#endif

}  // namespace dropgemm::cuda
