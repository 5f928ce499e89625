// bfloat16 alone, and the numbers at the ends of its range through products.
#include "dropgemm/bfloat16.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "gemm_fixture.h"

namespace dropgemm::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::uint32_t bits_of(float value) {
  std::uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return word;
}
float float_of(std::uint32_t word) {
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

TEST(BFloat16Test, IsTheUpperHalfOfAFloat) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_of(bits << 16);
    const BFloat16 x(value);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(static_cast<float>(x)));
    } else {
      EXPECT_EQ(x.bits, bits);
      EXPECT_EQ(bits_of(static_cast<float>(x)), bits << 16);
    }
  }
}

TEST(BFloat16Test, RoundsToTheNearestAndTiesToEven) {
  for (std::uint32_t upper = 0; upper < 0x7F80; upper += 7) {
    for (const std::uint32_t sign : {0U, 0x8000U}) {
      const std::uint32_t half = (upper | sign) << 16;
      const auto even = static_cast<std::uint16_t>((upper + (upper & 1)) | sign);
      EXPECT_EQ(BFloat16(float_of(half | 0x7FFF)).bits, upper | sign);
      EXPECT_EQ(BFloat16(float_of(half | 0x8000)).bits, even);
      EXPECT_EQ(BFloat16(float_of(half | 0x8001)).bits, (upper + 1) | sign);
    }
  }
}

TEST(BFloat16Test, KeepsNaNAndInfinities) {
  EXPECT_EQ(static_cast<float>(BFloat16(kInfinity)), kInfinity);
  EXPECT_EQ(static_cast<float>(BFloat16(-std::numeric_limits<float>::max())), -kInfinity);
  EXPECT_EQ(BFloat16(-0.0F).bits, 0x8000);
  // Those whose payload is in the lower half alone too.
  for (const std::uint32_t word : {0x7F800001U, 0xFF80FFFFU, 0x7FFFFFFFU}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(float_of(word)))));
  }
}

INSTANTIATE_TEST_SUITE_P(All, GemmTest, ::testing::ValuesIn(implementations()), name_of);

// Times 1, at a depth of 1: exactly the reference's, along both ways of packing, in whole panels
// and in ragged ones.
TEST_P(GemmTest, NumbersAtTheEndsOfTheRange) {
  const std::vector<float> numbers = {0.0F,     -0.0F,       1.0F,         kInfinity,
                                      kNaN,     -kInfinity,  3.4e38F,      -3.4e38F,
                                      1.2e-38F, 1.00390625F, -1.01171875F, float_of(0x7F800001)};
  Context reference;
  ASSERT_TRUE(find_backend("reference", &reference.backend).ok());
  const auto size = static_cast<std::int64_t>(numbers.size());
  const auto run = [&](auto type, Precision precision, bool trans) {
    using T = decltype(type);
    Array<T> a(40, 1, Layout::kRowMajor), b(1, 70, Layout::kRowMajor),
        got(40, 70, Layout::kRowMajor);
    Array<T> want = got;
    a.fill(
        [&](auto i, auto) { return trans ? 1.0F : numbers[static_cast<std::size_t>(i % size)]; });
    b.fill(
        [&](auto, auto j) { return trans ? numbers[static_cast<std::size_t>(j % size)] : 1.0F; });
    GemmArgs args;
    args.a = a.view(), args.b = b.view(), args.d = want.view();
    args.precision = rounds_ ? precision : Precision::kHighest;
    ASSERT_TRUE(gemm(reference, args).ok());
    args.d = got.view(), args.precision = precision;
    ASSERT_TRUE(gemm(ctx_, args).ok());
    want.fill([&](auto i, auto j) {
      const float x = got.at(i, j), y = want.at(i, j);
      EXPECT_TRUE(x == y || (std::isnan(x) && std::isnan(y)))
          << "[" << i << ", " << j << "] = " << x << ", expected " << y;
      return y;
    });
  };
  for (const bool trans : {false, true}) {
    run(BFloat16{}, Precision::kHighest, trans);
    // Where medium rounds to tf32, the reference's bits are not expected.
    if (operand_error_ == 0) run(float{}, Precision::kMedium, trans);
  }
}

// What is dropped of a word that is kept beside it does not reach the sum, at any depth.
TEST_P(GemmTest, DepthsOfOneWordAreKeptApart) {
  for (std::int64_t k = 1; k < 20; ++k) {
    GemmCase c;
    c.m = 9, c.n = 33, c.k = k, c.seed = static_cast<std::uint64_t>(k);
    for (const TileSize tile : {TileSize{1, 1}, {9, 1}, {3, 1}, {9, 3}}) {
      c.a_tile = tile;
      check_fast(c);
      check_fast(c);
      c.trans_a = !c.trans_a;
      std::swap(c.a_tile.rows, c.a_tile.cols);
      check_fast(c);
      check_fast(c);
      c.trans_a = !c.trans_a;
    }
  }
}

}  // namespace
}  // namespace dropgemm::testing
