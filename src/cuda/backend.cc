// The CUDA backend's table.
#include "cuda/backend.h"

#include <cstdio>
#include <vector>

#include "cuda/compact.h"
#include "cuda/gemm.h"
#include "cuda/mask.h"
#include "cuda/pattern.h"
#include "cuda/runtime.h"
#include "cuda/sgd.h"
#include "registry.h"

namespace dropgemm::cuda {
namespace {

std::int32_t available(ErrorText why_not) { return report(check_machine(), why_not); }

std::int32_t describe(char* text, std::size_t capacity) {
  std::vector<Device> devices;
  const Status status = read_machine(&devices);
  if (!status.ok()) return static_cast<std::int32_t>(status.code());
  const Device& first = devices.front();
  std::snprintf(text, capacity, "cuda: %zu %s%s (compute capability %d.%d, %d SMs, %zu GiB)",
                devices.size(), devices.size() == 1 ? "device, " : "devices, the first ",
                first.name.c_str(), first.arch / 10, first.arch % 10, first.multiprocessors,
                first.memory_bytes >> 30);
  return 0;
}

constexpr Backend kTable = {kBackendAbi,
                            sizeof(Backend),
                            "cuda",
                            /*priority=*/20,
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
                            /*gemm_packed_bytes=*/nullptr,
                            /*gemm_pack=*/nullptr,
                            /*lstm_cell=*/nullptr,
                            /*lstm_cell_grad=*/nullptr};

}  // namespace

const Backend* backend() { return &kTable; }

}  // namespace dropgemm::cuda
