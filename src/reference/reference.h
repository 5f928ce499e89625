// Internal: the reference backend's functions, in the shapes that a Backend table holds. They are
// naive on purpose and the definition of correct; every other backend is tested against them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::reference {

std::int32_t gemm_plan(const Context* ctx, const GemmArgs* args, GemmPlan* plan);
std::int32_t gemm_workspace_bytes(const Context* ctx, const GemmArgs* args, std::size_t* bytes);
std::int32_t gemm_packed_bytes(const Context* ctx, const GemmArgs* args, std::size_t* bytes,
                               ErrorText error);
std::int32_t gemm_pack(const Context* ctx, const GemmArgs* args, void* packed, ErrorText error);
std::int32_t gemm(const Context* ctx, const GemmArgs* args, ErrorText error);

std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args, ErrorText error);
std::int32_t gyro_mask(const Context* ctx, const GyroMaskArgs* args, ErrorText error);
std::int32_t pattern_mask(const Context* ctx, const PatternMaskArgs* args, ErrorText error);

std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error);
std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error);

std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText error);

std::int32_t lstm_cell(const Context* ctx, const LstmCellArgs* args, ErrorText error);
std::int32_t lstm_cell_grad(const Context* ctx, const LstmCellGradArgs* args, ErrorText error);

}  // namespace dropgemm::reference
