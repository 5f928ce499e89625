// Internal: mask generation on the device, and the kernels that do it (mask.cuh).
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "dropgemm/backend.h"

namespace dropgemm::cuda {

std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args, ErrorText error);
std::int32_t gyro_mask(const Context* ctx, const GyroMaskArgs* args, ErrorText error);

// A thread a word of independent bits.
struct BernoulliMaskKernel {
  struct Params {
    std::uint32_t* bits;
    std::int64_t words;    // of the mask
    std::int64_t columns;  // of tiles
    std::int64_t first;    // row of tiles of the larger mask
    std::uint64_t threshold;
    DrawStream stream;  // but for the index, which is the step's
    StepRef step;
    const std::uint64_t* seed;  // where it is; else the stream's
  };
  static constexpr const char* kName = "bernoulli_mask";
  static constexpr std::int32_t kThreads = 256;
  DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
};

// A block some consecutive rows of tiles: neighbours mostly have one subnet, whose bits are drawn
// for the first of them and copied to the others.
struct GyroMaskKernel {
  struct Params {
    GyroMaskArgs args;
    std::int64_t rows;        // of tiles
    std::int64_t block_rows;  // that a block takes at a time
    std::int64_t keep;        // tiles of an exact row
    std::uint64_t threshold;  // of independent bits
  };
  static constexpr const char* kName = "gyro_mask";
  static constexpr std::int32_t kThreads = 256;
  DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
};

}  // namespace dropgemm::cuda
