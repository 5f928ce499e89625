// The CPU backend's table.
#include <cstdio>

#include "cpu/compact.h"
#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/lstm.h"
#include "cpu/mask.h"
#include "cpu/sgd.h"
#include "registry.h"

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace dropgemm {
namespace cpu {
namespace {

std::int32_t available(ErrorText why_not) { return report(check_isa(), why_not); }

std::int32_t describe(char* text, std::size_t capacity) {
#if defined(_OPENMP)
  const int threads = omp_get_max_threads();
#else
  const int threads = 1;
#endif
  std::snprintf(text, capacity, "cpu: %s, %d thread%s", isa_name(), threads,
                threads == 1 ? "" : "s");
  return 0;
}

constexpr Backend kTable = {kBackendAbi,
                            sizeof(Backend),
                            "cpu",
                            /*priority=*/10,
                            available,
                            describe,
                            gemm_plan,
                            gemm_workspace_bytes,
                            gemm,
                            bernoulli_mask,
                            gyro_mask,
                            pattern_mask,
                            gather,
                            scatter,
                            sgd,
                            gemm_packed_bytes,
                            gemm_pack,
                            lstm_cell,
                            lstm_cell_grad};

}  // namespace
}  // namespace cpu

const Backend* cpu_backend() { return &cpu::kTable; }

}  // namespace dropgemm
