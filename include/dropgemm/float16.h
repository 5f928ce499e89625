// float16: IEEE 754's binary16, with 11 bits of precision and numbers up to 65504. It is a format
// to keep numbers in; sums are of float32.
#pragma once

#include <cstdint>
#include <cstring>

#include "dropgemm/host_device.h"

namespace dropgemm {

struct Float16 {
  std::uint16_t bits;

  Float16() = default;  // unspecified, as float's
  // The nearest, the one with an even last bit of two; a NaN stays one, what is too large becomes
  // an infinity.
  DROPGEMM_HOST_DEVICE explicit Float16(float value) : bits(rounded(value)) {}
  // Exact.
  DROPGEMM_HOST_DEVICE operator float() const {  // NOLINT(google-explicit-constructor): as bfloat16
    const std::uint32_t sign = (bits & 0x8000U) << 16;
    const std::uint32_t rest = bits & 0x7FFFU;
    // The fields of a float32, whose exponents are larger by 127 - 15; infinities and NaNs end up
    // 255 - 31 above. Subnormals become what they are as a difference of normal numbers.
    std::uint32_t word = rest << 13;
    if (rest >= kInfinity) {
      word += (255U - 31U) << 23;
    } else if (rest >= kLeastNormal) {
      word += (127U - 15U) << 23;
    } else {
      return of_bits(of_bits(word + ((127U - 14U) << 23)) - of_bits((127U - 14U) << 23), sign);
    }
    return of_bits(word | sign);
  }

 private:
  static constexpr std::uint32_t kInfinity = 0x7C00U, kLeastNormal = 0x0400U;

  DROPGEMM_HOST_DEVICE static float of_bits(std::uint32_t word) {
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }
  DROPGEMM_HOST_DEVICE static std::uint32_t bits_of(float value) {
    std::uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    return word;
  }
  DROPGEMM_HOST_DEVICE static float of_bits(float magnitude, std::uint32_t sign) {
    return of_bits(bits_of(magnitude) | sign);
  }
  DROPGEMM_HOST_DEVICE static std::uint16_t rounded(float value) {
    const std::uint32_t word = bits_of(value);
    const std::uint32_t sign = word >> 16 & 0x8000U;
    const std::uint32_t magnitude = word & 0x7FFFFFFFU;
    std::uint32_t half;
    if (magnitude > 0x7F800000U) {
      half = kInfinity | 0x0200U | (magnitude >> 13 & 0x01FFU);
    } else if (magnitude >= 0x477FF000U) {  // 65520: half way past the largest
      half = kInfinity;
    } else if (magnitude < 0x38800000U) {  // 2^-14
      // Adding 0.5 leaves the multiples of 2^-24 in the last bits, rounded as float32 rounds.
      half = bits_of(of_bits(magnitude) + 0.5F) - bits_of(0.5F);
    } else {
      const std::uint32_t shifted = magnitude - ((127U - 15U) << 23);
      half = (shifted + 0x0FFFU + (shifted >> 13 & 1U)) >> 13;
    }
    return static_cast<std::uint16_t>(half | sign);
  }
};

}  // namespace dropgemm
