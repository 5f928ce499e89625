// Thread counts, and staying alive in forked children.
#include "cpu/threads.h"

#include <atomic>

#if defined(_OPENMP)
#include <omp.h>
#include <pthread.h>
#endif

namespace dropgemm::cpu {

#if defined(_OPENMP)
namespace {

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
  return requested > 0 ? requested : omp_get_max_threads();
}
#else
int thread_count(std::int32_t) { return 1; }
#endif

}  // namespace dropgemm::cpu
