// float16 alone, through products of the reference, and as what the cpu backend refuses.
#include "dropgemm/float16.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "dropgemm/backend.h"

namespace dropgemm {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What IEEE 754 says of the fields of a binary16.
double value_of(std::uint32_t bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1 : 1;
  const int exponent = static_cast<int>(bits >> 10 & 31U);
  const double fraction = (bits & 0x3FFU) / 1024.0;
  if (exponent == 31) return fraction == 0 ? sign * kInfinity : std::nan("");
  return exponent == 0 ? sign * std::ldexp(fraction, -14)
                       : sign * std::ldexp(1 + fraction, exponent - 15);
}

TEST(Float16Test, IsTheNumberOfItsBits) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    Float16 x;
    x.bits = static_cast<std::uint16_t>(bits);
    const float value = x;
    if (std::isnan(value_of(bits))) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      EXPECT_TRUE(std::isnan(static_cast<float>(Float16(value)))) << bits;
    } else {
      ASSERT_EQ(value, static_cast<float>(value_of(bits))) << bits;
      ASSERT_EQ(std::signbit(value), (bits & 0x8000U) != 0) << bits;
      ASSERT_EQ(Float16(value).bits, bits);
    }
  }
}

// Between any two neighbours: half way goes to the even one, anything else to the nearer one.
TEST(Float16Test, RoundsToTheNearestAndTiesToEven) {
  for (std::uint32_t lower = 0; lower < 0x7C00; ++lower) {
    const std::uint32_t upper = lower + 1;  // the infinity stands where 65536 would
    const double top = upper == 0x7C00 ? 65536 : value_of(upper);
    const auto middle = static_cast<float>((value_of(lower) + top) / 2);
    for (const std::uint32_t sign : {0U, 0x8000U}) {
      const float factor = sign != 0 ? -1.0F : 1.0F;
      ASSERT_EQ(Float16(factor * middle).bits, ((lower & 1U) != 0 ? upper : lower) | sign);
      ASSERT_EQ(Float16(factor * std::nextafterf(middle, 0)).bits, lower | sign);
      ASSERT_EQ(Float16(factor * std::nextafterf(middle, kInfinity)).bits, upper | sign);
    }
  }
}

TEST(Float16Test, WhatIsTooLargeIsAnInfinityAndWhatIsTooSmallIsZero) {
  EXPECT_EQ(Float16(std::numeric_limits<float>::max()).bits, 0x7C00);
  EXPECT_EQ(Float16(-kInfinity).bits, 0xFC00);
  EXPECT_EQ(Float16(-std::numeric_limits<float>::denorm_min()).bits, 0x8000);
  EXPECT_TRUE(std::isnan(static_cast<float>(Float16(std::nanf("")))));
}

struct Product {
  std::vector<Float16> a = {Float16(1.5F), Float16(-2.0F), Float16(0.25F), Float16(3.0F)};
  std::vector<Float16> d = std::vector<Float16>(4, Float16(9.0F));
  Status run(const char* backend) {
    GemmArgs args;
    args.a = matrix_view(static_cast<const Float16*>(a.data()), 2, 2);
    args.b = args.a;
    args.d = matrix_view(d.data(), 2, 2);
    Context ctx;
    DROPGEMM_RETURN_IF_ERROR(find_backend(backend, &ctx.backend));
    return gemm(ctx, args);
  }
};

TEST(Float16Test, TheReferenceMultipliesIt) {
  Product product;
  const Status status = product.run("reference");
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(static_cast<float>(product.d[0]), 1.75F);
  EXPECT_EQ(static_cast<float>(product.d[3]), 8.5F);
}

TEST(Float16Test, TheCpuBackendRefusesItByName) {
  Product product;
  const Status status = product.run("cpu");
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_EQ(status.message(),
            "a: expected float32, float64 or bfloat16 on the cpu backend, got float16");
  EXPECT_EQ(static_cast<float>(product.d[0]), 9.0F);
}

}  // namespace
}  // namespace dropgemm
