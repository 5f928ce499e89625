// How many threads a call may use.
#pragma once

#include <cstdint>

namespace dropgemm::cpu {

// `requested` up to 1024, or the OpenMP runtime's choice for 0. One inside a parallel region, and
// one in a forked child whose parent had asked here before: the parent's worker threads are gone,
// and waiting for them would hang.
[[nodiscard]] int thread_count(std::int32_t requested);

// True in a parallel region of the caller's. Work that a team shares out must open a team of its
// own there, even of one thread: else its loops would be dealt to the caller's threads.
[[nodiscard]] bool in_parallel_region();

}  // namespace dropgemm::cpu
