// Internal: compaction on CPUs, in the shapes that a Backend table holds.
#pragma once

#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cpu {

std::int32_t gather(const Context* ctx, const CompactArgs* args, ErrorText error);
std::int32_t scatter(const Context* ctx, const ExpandArgs* args, ErrorText error);

}  // namespace dropgemm::cpu
