// Internal: what is not made yet.
#pragma once

#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cuda {

std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error);
std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error);
std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText error);

}  // namespace dropgemm::cuda
