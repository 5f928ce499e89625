// What every kernel that writes a mask's words needs.
#pragma once

#include "cuda/device.h"

namespace dropgemm::cuda {

// The bits of word `word` of a row of `count` bits that are not padding.
DROPGEMM_DEVICE std::uint32_t valid_bits(std::int64_t count, std::int64_t word) {
  const std::int64_t left = count - word * 32;
  return left >= 32 ? 0xFFFFFFFFU : (std::uint32_t{1} << left) - 1;
}

}  // namespace dropgemm::cuda
