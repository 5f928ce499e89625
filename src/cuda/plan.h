// How the cuda backend goes about a product: the admission rules. Decided by shapes, tiles and
// keep_hints alone, never by a method's name and never by the bits.
#pragma once

#include <cstdint>

#include "cuda/axis_mask.h"
#include "cuda/config.h"
#include "dropgemm/gemm.h"

namespace dropgemm::cuda {

// kPruned   units that are multiples of 32 along M, N and K (or whole extents), where one of the
//           three masks is one tile high or wide; or multiples of 128 along M and N
// kCompact  every mask is one tile high or one tile wide: kept indices are the same everywhere
// kSelect   anything else, and where skipping is expected to take longer: masked copies of A and B,
//           a dense product, D selected by the epilogue
struct Admission {
  GemmPlan plan;
  Lists lists = Lists::kWhole;
};
[[nodiscard]] Admission admit(const GemmArgs& args);

}  // namespace dropgemm::cuda
