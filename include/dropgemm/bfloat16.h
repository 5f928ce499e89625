// bfloat16: the upper half of a float32, so its range with 8 bits of precision. It is a format to
// keep numbers in; sums are of float32.
#pragma once

#include <cstdint>
#include <cstring>

#include "dropgemm/host_device.h"

namespace dropgemm {

struct BFloat16 {
  std::uint16_t bits;

  BFloat16() = default;  // unspecified, as float's
  // The nearest, the one with an even last bit of two; a NaN stays one, what is too large becomes
  // an infinity.
  DROPGEMM_HOST_DEVICE explicit BFloat16(float value) : bits(rounded(value)) {}
  // Exact.
  DROPGEMM_HOST_DEVICE operator float() const {  // NOLINT(google-explicit-constructor): exact
    const std::uint32_t word = std::uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }

 private:
  DROPGEMM_HOST_DEVICE static std::uint16_t rounded(float value) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    const bool is_nan = (word & 0x7FFFFFFFU) > 0x7F800000U;
    if (is_nan) return static_cast<std::uint16_t>(word >> 16 | 0x40U);  // not down to an infinity
    return static_cast<std::uint16_t>((word + 0x7FFFU + (word >> 16 & 1U)) >> 16);
  }
};

}  // namespace dropgemm
