// Products are not made yet, and say so by name.
#include "cuda/gemm.h"

#include "registry.h"

namespace dropgemm::cuda {
namespace {

constexpr std::int32_t kUnsupported = static_cast<std::int32_t>(StatusCode::kUnsupported);

}  // namespace

std::int32_t gemm_plan(const Context*, const GemmArgs*, GemmPlan*) { return kUnsupported; }
std::int32_t gemm_workspace_bytes(const Context*, const GemmArgs*, std::size_t*) {
  return kUnsupported;
}
std::int32_t gemm(const Context*, const GemmArgs*, ErrorText error) {
  return report({StatusCode::kUnsupported, "cuda: gemm is not made yet"}, error);
}

}  // namespace dropgemm::cuda
