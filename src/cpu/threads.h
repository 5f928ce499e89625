// How many threads a call may use.
#pragma once

#include <cstdint>

namespace dropgemm::cpu {

// `requested`, or the OpenMP runtime's choice for 0. One in a forked child whose parent had
// already run a parallel region (its worker threads are gone, and waiting for them would hang),
// and one inside a parallel region.
[[nodiscard]] int thread_count(std::int32_t requested);

}  // namespace dropgemm::cpu
