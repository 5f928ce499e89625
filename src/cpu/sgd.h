// Internal: the optimizer's step on CPUs, in the shape that a Backend table holds.
#pragma once

#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cpu {

std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText error);

}  // namespace dropgemm::cpu
