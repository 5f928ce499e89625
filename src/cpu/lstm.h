// Internal: the element-wise half of an LSTM's step on CPUs, in the shape that a Backend table
// holds.
#pragma once

#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cpu {

std::int32_t lstm_cell(const Context* ctx, const LstmCellArgs* args, ErrorText error);
std::int32_t lstm_cell_grad(const Context* ctx, const LstmCellGradArgs* args, ErrorText error);

}  // namespace dropgemm::cpu
