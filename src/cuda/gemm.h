// Internal: the CUDA backend's products, in the shapes that a Backend table holds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cuda {

std::int32_t gemm_plan(const Context* ctx, const GemmArgs* args, GemmPlan* plan);
std::int32_t gemm_workspace_bytes(const Context* ctx, const GemmArgs* args, std::size_t* bytes);
std::int32_t gemm(const Context* ctx, const GemmArgs* args, ErrorText error);

}  // namespace dropgemm::cuda
