// How many threads a call may use, and sharing work out among them.
#pragma once

#include <algorithm>
#include <cstdint>

namespace dropgemm::cpu {

// `requested` up to 1024, or the OpenMP runtime's choice for 0. One inside a parallel region, and
// one in a forked child whose parent had asked here before: the parent's worker threads are gone,
// and waiting for them would hang.
[[nodiscard]] int thread_count(std::int32_t requested);

// True in a parallel region of the caller's. Work that a team shares out must open a team of its
// own there, even of one thread: else its loops would be dealt to the caller's threads.
[[nodiscard]] bool in_parallel_region();

// Calls work(begin, end) on neighbouring parts of [0, items), one a thread: at most `most` parts,
// so that each is worth waking a thread for, and always at least one.
template <class Work>
void split(std::int32_t num_threads, std::int64_t items, std::int64_t most, const Work& work) {
  const std::int64_t useful = std::min(items, std::max<std::int64_t>(1, most));
  const auto parts = std::min<std::int64_t>(useful <= 1 ? 1 : thread_count(num_threads), useful);
  if (parts <= 1) {
    work(std::int64_t{0}, items);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
  for (std::int64_t part = 0; part < parts; ++part) {
    const auto edge = [&](std::int64_t i) {
      return items / parts * i + std::min(items % parts, i);
    };
    work(edge(part), edge(part + 1));
  }
}

}  // namespace dropgemm::cpu
