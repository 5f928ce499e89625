// The reference backend's table.
#include <cstdio>

#include "reference/reference.h"
#include "registry.h"

namespace dropgemm {
namespace reference {
namespace {

std::int32_t available(ErrorText /*why_not*/) { return 0; }

std::int32_t describe(char* text, std::size_t capacity) {
  std::snprintf(text, capacity, "reference: naive loops, float64 sums, 1 thread");
  return 0;
}

constexpr Backend kTable = {kBackendAbi,
                            sizeof(Backend),
                            "reference",
                            /*priority=*/0,
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
}  // namespace reference

const Backend* reference_backend() { return &reference::kTable; }

}  // namespace dropgemm
