// Thread counts, and staying alive in forked children.
#include "cpu/threads.h"

#include <algorithm>
#include <atomic>

#if defined(_OPENMP)
#include <omp.h>
#include <pthread.h>
#endif

namespace dropgemm::cpu {

#if defined(_OPENMP)
namespace {

// The OpenMP runtime ends the process where the system refuses it a thread.
constexpr std::int32_t kMaxThreads = 1024;

std::atomic<bool> forked{false};

bool watch_forks() {
  pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  return true;
}

}  // namespace

int thread_count(std::int32_t requested) {
  static const bool watching = watch_forks();
  (void)watching;
  if (forked.load(std::memory_order_relaxed) || omp_in_parallel() != 0) return 1;
  return requested > 0 ? std::min(requested, kMaxThreads) : omp_get_max_threads();
}
bool in_parallel_region() { return omp_in_parallel() != 0; }
#else
int thread_count(std::int32_t) { return 1; }
bool in_parallel_region() { return false; }
#endif

}  // namespace dropgemm::cpu
