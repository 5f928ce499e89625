// Internal: patterns on the device, and the kernel that writes them (pattern.cuh).
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "dropgemm/backend.h"

namespace dropgemm::cuda {

std::int32_t pattern_mask(const Context* ctx, const PatternMaskArgs* args, ErrorText error);

// A thread a word. Each block works out the pattern of a draw for itself.
struct PatternMaskKernel {
  struct Params {
    std::uint32_t* bits;
    std::int64_t words;    // of the mask
    std::int64_t columns;  // of tiles
    std::int64_t skew;
    float* scale;  // null: nobody asks
    bool drawn;
    Pattern pattern;   // where it is not drawn
    PatternDraw draw;  // where it is
  };
  static constexpr const char* kName = "pattern_mask";
  static constexpr std::int32_t kThreads = 256;
  // A count, for the period of a draw.
  static constexpr std::int32_t kSharedBytes = 16;
  DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
};

}  // namespace dropgemm::cuda
