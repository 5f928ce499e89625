// Internal: the CPU backend's products, in the shapes that a Backend table holds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cpu {

std::int32_t gemm_plan(const Context* ctx, const GemmArgs* args, GemmPlan* plan);
std::int32_t gemm_workspace_bytes(const Context* ctx, const GemmArgs* args, std::size_t* bytes);
std::int32_t gemm(const Context* ctx, const GemmArgs* args, ErrorText error);

std::int32_t gemm_packed_bytes(const Context* ctx, const GemmArgs* args, std::size_t* bytes,
                               ErrorText error);
std::int32_t gemm_pack(const Context* ctx, const GemmArgs* args, void* packed, ErrorText error);

}  // namespace dropgemm::cpu
