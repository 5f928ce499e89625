// How the cuda backend runs a product, as data: shapes, tiles and keep_hints in, a printable config
// out. Nothing is measured or read back from the device.
#pragma once

#include <cstdint>
#include <string>

#include "cuda/runtime.h"
#include "dropgemm/gemm.h"

namespace dropgemm::cuda {

enum class Family : std::int32_t {
  kSimt = 0,     // float32 and float64 as they are, any strides
  kSm80 = 1,     // mma.sync: bfloat16, float16, float32 rounded to tf32
  kSm90 = 2,     // wgmma and TMA: the same, on Hopper alone
  kLibrary = 3,  // cuBLAS, where it is found: one factor for an epilogue, nothing skipped
};

// Whose units decide what is kept along the other two axes. An item of work is one output tile.
enum class Lists : std::int32_t {
  kWhole = 0,  // one list of everything: dense, compacted or selected operands
  kRows = 1,   // units of M: row groups in forward and input gradient, tiles in the weight gradient
  kCols = 2,   // units of N: tiles of weights
  kDepth = 3,  // units of K add up: row groups in the weight gradient
  kPairs = 4,  // each output tile has a list of its own
};

// How an operand lies in memory.
enum class Major : std::int32_t {
  kDepth = 0,  // contiguous along K
  kLine = 1,   // contiguous along M (of A) or N (of B)
};

struct GemmConfig {
  Family family = Family::kSimt;
  DType dtype = DType::kFloat32;
  GemmPath path = GemmPath::kDense;
  Lists lists = Lists::kWhole;
  std::int32_t tile_m = 0, tile_n = 0, tile_k = 0;
  std::int32_t granule_m = 0, granule_n = 0, granule_k = 0;
  std::int32_t stages = 0;
  std::int32_t cluster_m = 1, cluster_n = 1;
  // Launches that follow one another. Of kDepth, where sums are to be the same at every call: one a
  // unit, each of which adds to an element of D once at most.
  std::int32_t turns = 1;
  Major a_major = Major::kDepth, b_major = Major::kDepth;
  // Operands that go to the workspace first: gathered, selected by their masks, or padded where
  // a kernel could not load them as they lie.
  bool copies_a = false, copies_b = false;
  // On Hopper, what keeps its kernel from this product; null where nothing does.
  const char* not_sm90 = nullptr;
};

[[nodiscard]] GemmConfig make_config(const Device& device, const GemmArgs& args);
// "sm80 bfloat16 pruned rows 128x128x32 granules 32x32x32 stages 4 cluster 1x1 majors kk copies a"
[[nodiscard]] std::string to_string(const GemmConfig& config);

}  // namespace dropgemm::cuda
