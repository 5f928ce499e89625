// Internal: mask generation on CPUs, in the shapes that a Backend table holds, and the draws that
// the host side of the front ends needs.
#pragma once

#include <cstdint>

#include "dropgemm/backend.h"

namespace dropgemm::cpu {

std::int32_t bernoulli_mask(const Context* ctx, const BernoulliMaskArgs* args, ErrorText error);
std::int32_t gyro_mask(const Context* ctx, const GyroMaskArgs* args, ErrorText error);
std::int32_t pattern_mask(const Context* ctx, const PatternMaskArgs* args, ErrorText error);

// One subnet's row of bits, as gyro_mask has it: `count` of them in ceil(count / 32) words.
// Allocates nothing.
void subnet_row(double p, Draw draw, std::uint64_t seed, std::int64_t site, std::int64_t subnet,
                std::int64_t count, std::uint32_t* bits);

// The ids that order = kRandom deals at a step: `size` of `subnets`, ascending, to ids.
void random_subnets(std::uint64_t seed, std::int64_t step, std::int64_t subnets, std::int64_t size,
                    std::int64_t* ids);

}  // namespace dropgemm::cpu
